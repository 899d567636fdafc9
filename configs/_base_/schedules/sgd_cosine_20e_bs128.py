# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
_base_ = './sgd_cosine.py'

optim_wrapper = dict(optimizer=dict(lr=0.1, weight_decay=5e-4))
param_scheduler = dict(periods=[20])
train_cfg = dict(max_epochs=20, val_interval=1)
auto_scale_lr = dict(base_batch_size=128)
