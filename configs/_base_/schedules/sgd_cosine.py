# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
# SGD with one cosine decay over the whole training. More `periods` restart
# it; `train_cfg.max_epochs` is their sum.
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='SGD', lr=0.1, momentum=0.9, weight_decay=1e-4),
)

param_scheduler = dict(
    type='CosineRestartLR',
    periods=[200],
    restart_weights=[1],
    eta_min=0,
    by_epoch=True,
    convert_to_iter_based=True,
)

train_cfg = dict(by_epoch=True, max_epochs=200, val_interval=1)
val_cfg = dict()
test_cfg = dict()

# Of use with `--auto-scale-lr`, when the total batch size differs.
auto_scale_lr = dict(base_batch_size=128)
