# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
# Counted in iterations: four and a half epochs, images from two worker
# processes, mixup, an average; checkpoints do not fall on validations.
_base_ = './teacher.py'

model = dict(train_cfg=dict(augments=dict(type='Mixup', alpha=0.4)))
train_dataloader = dict(num_workers=2, persistent_workers=True)
train_cfg = dict(_delete_=True, by_epoch=False, max_iters=72, val_interval=12)
param_scheduler = dict(
    periods=[72], by_epoch=False, convert_to_iter_based=False
)
log_processor = dict(by_epoch=False)
default_hooks = dict(
    checkpoint=dict(by_epoch=False, interval=5, save_best='accuracy/top1'),
    logger=dict(log_metric_by_epoch=False),
)
custom_hooks = [dict(type='EMAHook', momentum=0.1)]
