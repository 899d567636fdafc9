# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
# For a network that is trained already: a tenth of the usual learning rate.
_base_ = './sgd_cosine.py'

optim_wrapper = dict(optimizer=dict(lr=0.01, weight_decay=1e-4))
param_scheduler = dict(periods=[30])
train_cfg = dict(max_epochs=30, val_interval=1)
auto_scale_lr = dict(base_batch_size=256)
