# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
_base_ = [
    './reducenet8-w16-e4_fashion-mnist_teacher.py',
    '../../_base_/inplace/soft_labels.py',
]

model = dict(
    _delete_=True,
    _scope_='mmrazor',
    type='InplaceDistill',
    architecture=_base_.model,
    **_base_.inplace,
)
custom_hooks = [*_base_.get('custom_hooks', []), *_base_.inplace_hooks]
