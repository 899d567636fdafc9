# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
# Soft labels and features at the ends of the stages, in one pass of each
# network. The weights are those of the two presets alone, not tuned together.
# For networks of three stages, see features.py; for others there is
# four_stages/soft_labels_features.py.
_base_ = './features.py'

distiller = dict(
    student_recorders=dict(
        logits=dict(type='ModuleOutputs', source='head.fc')
    ),
    teacher_recorders=dict(
        logits=dict(type='ModuleOutputs', source='head.fc')
    ),
    distill_losses=dict(
        loss_kl=dict(
            type='KLDivergence',
            tau=4.0,
            reduction='batchmean',
            loss_weight=1.0,
        )
    ),
    loss_forward_mappings=dict(
        loss_kl=dict(
            preds_S=dict(recorder='logits', from_student=True),
            preds_T=dict(recorder='logits', from_student=False),
        )
    ),
)
