# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
# DIST (Huang et al. 2022): the student's class probabilities need only be
# correlated with the teacher's, within each image and within each class over
# the batch. Weights of the paper's ImageNet setting, not tuned here.
_base_ = './soft_labels.py'

distiller = dict(
    distill_losses=dict(
        _delete_=True,
        loss_dist=dict(
            type='DISTLoss',
            inter_loss_weight=1.0,
            intra_loss_weight=1.0,
            tau=1.0,
            loss_weight=2.0,
        ),
    ),
    loss_forward_mappings=dict(
        _delete_=True,
        loss_dist=dict(
            logits_S=dict(recorder='logits', from_student=True),
            logits_T=dict(recorder='logits', from_student=False),
        ),
    ),
)
