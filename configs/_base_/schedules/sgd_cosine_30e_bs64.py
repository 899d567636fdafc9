# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
_base_ = './sgd_cosine.py'

optim_wrapper = dict(optimizer=dict(lr=0.05, weight_decay=5e-4))
param_scheduler = dict(periods=[30])
train_cfg = dict(max_epochs=30, val_interval=5)
auto_scale_lr = dict(base_batch_size=64)
