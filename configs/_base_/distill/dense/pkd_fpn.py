# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
# A detector's pyramid (PKD, Cao et al. 2022): 1 - Pearson's correlation of the
# two networks' features, for each level and channel. MMRazor's weight for a
# RetinaNet.
_base_ = '../none.py'

distiller = dict(
    _delete_=True,
    type='ConfigurableDistiller',
    student_recorders=dict(fpn=dict(type='ModuleOutputs', source='neck')),
    teacher_recorders=dict(fpn=dict(type='ModuleOutputs', source='neck')),
    distill_losses=dict(loss_pkd_fpn=dict(type='PKDLoss', loss_weight=10.0)),
    loss_forward_mappings=dict(
        loss_pkd_fpn=dict(
            preds_S=dict(recorder='fpn', from_student=True),
            preds_T=dict(recorder='fpn', from_student=False),
        )
    ),
)
