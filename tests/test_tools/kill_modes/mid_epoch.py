# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
# Checkpoints within epochs, images from two worker processes, mixup.
_base_ = './teacher.py'

model = dict(train_cfg=dict(augments=dict(type='Mixup', alpha=0.4)))
train_dataloader = dict(num_workers=2, persistent_workers=True)
default_hooks = dict(checkpoint=dict(by_epoch=False, interval=5))
