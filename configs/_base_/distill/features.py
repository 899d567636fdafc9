# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
# Feature alignment at the ends of the stages (after FitNets, Romero et al.
# 2015): for each stage the squared L2 distance of the two networks' features,
# each image's scaled to length 1, so from 0 to 4. Channels agree, so nothing
# has to connect them.
#
# For networks of three stages: ReduceNet of depth 6n+2. With four of them
# (depth 18 or 34, grafted ResNets) take four_stages/features.py: this one
# would leave the last stage alone. A grafted MobileNetV2 has seven layers;
# name those that are to be compared, `backbone.layer2` and so on, like this.
_base_ = './none.py'

distiller = dict(
    _delete_=True,
    type='ConfigurableDistiller',
    student_recorders={
        f'stage{i}': dict(type='ModuleOutputs', source=f'backbone.layer{i}')
        for i in (1, 2, 3)
    },
    teacher_recorders={
        f'stage{i}': dict(type='ModuleOutputs', source=f'backbone.layer{i}')
        for i in (1, 2, 3)
    },
    distill_losses={
        f'loss_stage{i}': dict(type='L2Loss', normalize=True, loss_weight=1.0)
        for i in (1, 2, 3)
    },
    loss_forward_mappings={
        f'loss_stage{i}': dict(
            s_feature=dict(recorder=f'stage{i}', from_student=True),
            t_feature=dict(recorder=f'stage{i}', from_student=False),
        )
        for i in (1, 2, 3)
    },
)
