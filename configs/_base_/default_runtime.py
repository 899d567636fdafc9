# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
_base_ = ['mmpretrain::_base_/default_runtime.py', './reproducible.py']

# All that an existing MMPretrain config needs to know this package.
custom_imports = dict(imports=['reducenet_mm'], allow_failed_imports=False)

randomness = dict(seed=0, deterministic=False)

# The last epoch is what gets reported, so earlier ones are not kept. Two are,
# since MMEngine deletes the oldest before it writes the newest.
default_hooks = dict(
    _base_.reproducible_hooks,
    logger=dict(interval=50),
    finite_loss=dict(type='FiniteLossHook'),
    unreadable_images=dict(type='UnreadableImagesHook'),
    checkpoint=dict(
        _base_.reproducible_hooks['checkpoint'], interval=1, max_keep_ckpts=2
    ),
)
