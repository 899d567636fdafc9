# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
# The student of the campaign on 500 images of Fashion-MNIST, frozen, gets
# linear branches that learn from the teacher and merge into its convolutions.
_base_ = [
    './fashion-mnist-few_soft-labels.py',
    '../../_base_/reuse/lora.py',
]

model = dict(
    architecture=dict(
        backbone=dict(lora=dict(kind='kxk_1x1', expansion=2, inner_norm=True))
    ),
    reuse=_base_.reuse,
    norm_stats=_base_.norm_stats,
)
