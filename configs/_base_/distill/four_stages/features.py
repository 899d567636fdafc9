# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
# ../features.py for networks of four stages: ReduceNet of depth 18 or 34 and
# grafted ResNets, whose last stage is `backbone.layer4`. The preset of three
# stages would leave that one alone.
_base_ = '../features.py'

distiller = dict(
    student_recorders=dict(
        stage4=dict(type='ModuleOutputs', source='backbone.layer4')
    ),
    teacher_recorders=dict(
        stage4=dict(type='ModuleOutputs', source='backbone.layer4')
    ),
    distill_losses=dict(
        loss_stage4=dict(type='L2Loss', normalize=True, loss_weight=1.0)
    ),
    loss_forward_mappings=dict(
        loss_stage4=dict(
            s_feature=dict(recorder='stage4', from_student=True),
            t_feature=dict(recorder='stage4', from_student=False),
        )
    ),
)
