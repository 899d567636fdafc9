# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
# Soft labels. The loss that is minimised is
#   student.loss + distill.loss_kl,
# where student.loss is the head's own loss on the labels, weight 1, and
#   distill.loss_kl = loss_weight * tau^2 * mean over the images of
#                     KL(softmax(teacher / tau) || softmax(student / tau)).
# tau^2 keeps the gradient's size comparable whatever tau; 'batchmean' sums
# over the classes, so that the weight means the same for 10 and for 1,000.
_base_ = './none.py'

distiller = dict(
    _delete_=True,
    type='ConfigurableDistiller',
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
