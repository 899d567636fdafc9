# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
# Names that make any MMPretrain config reproducible: the same weights from
# the same seed, whatever the number of worker processes, and after resuming.
#
#   _base_ = ['mmpretrain::resnet/resnet18_8xb16_cifar10.py',
#             './reproducible.py']
#   custom_imports = dict(imports=['reducenet_mm'])
#   randomness = dict(seed=0)
#   default_hooks = _base_.reproducible_hooks
#   train_dataloader = dict(
#       sampler=_base_.seeded_sampler,
#       dataset=dict(pipeline=[_base_.seed_sample, *_base_.train_pipeline]))
#
# Only names of its own, since a name may be set by one base only. A sampler
# with other settings: sampler=dict(_delete_=True, **_base_.seeded_sampler).

# The order of the images is a function of seed and epoch.
seeded_sampler = dict(type='SeededSampler', shuffle=True)

# The augmentation of an image is a function of seed, epoch and image.
seed_sample = dict(type='SeedSample')

# Added to the hooks that there are.
reproducible_hooks = dict(
    # Batch augmentation and dropout are functions of seed and iteration.
    seeded_step=dict(type='SeededStepHook'),
    # A resumed run does all that one not interrupted would have done. For
    # early stopping, use ResumableEarlyStoppingHook: MMEngine's own hook
    # forgets what it has seen.
    exact_resume=dict(type='ExactResumeHook'),
    # A kill never leaves a checkpoint half written.
    checkpoint=dict(backend_args=dict(backend='atomic')),
)
