# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
# A segmentor's last stage (PKD, Cao et al. 2022: 1 - Pearson's correlation of
# the two networks' features, for each channel) and its class scores (CWD, Shu
# et al. 2021: the KL divergence of each class's softmax over the pixels).
# Temperature and weight of CWD are MMRazor's.
_base_ = '../none.py'

distiller = dict(
    _delete_=True,
    type='ConfigurableDistiller',
    student_recorders=dict(
        stage4=dict(type='ModuleOutputs', source='backbone.layer4'),
        scores=dict(type='ModuleOutputs', source='decode_head.conv_seg'),
    ),
    teacher_recorders=dict(
        stage4=dict(type='ModuleOutputs', source='backbone.layer4'),
        scores=dict(type='ModuleOutputs', source='decode_head.conv_seg'),
    ),
    distill_losses=dict(
        loss_pkd_stage4=dict(type='PKDLoss', loss_weight=1.0),
        loss_cwd=dict(type='ChannelWiseDivergence', tau=1.0, loss_weight=5.0),
    ),
    loss_forward_mappings=dict(
        loss_pkd_stage4=dict(
            preds_S=dict(recorder='stage4', from_student=True),
            preds_T=dict(recorder='stage4', from_student=False),
        ),
        loss_cwd=dict(
            preds_S=dict(recorder='scores', from_student=True),
            preds_T=dict(recorder='scores', from_student=False),
        ),
    ),
)
