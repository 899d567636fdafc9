# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
# Decoupled knowledge distillation (Zhao et al. 2022): the labelled class
# against the rest (alpha), and the other classes among themselves (beta).
# beta > 1 stresses the latter; the paper uses 8 on CIFAR-100 with a warm-up.
# It needs one class per image, so mixup and cutmix are refused.
_base_ = './soft_labels.py'

distiller = dict(
    student_recorders=dict(
        labels=dict(type='ModuleInputs', source='head.loss_module')
    ),
    distill_losses=dict(
        _delete_=True,
        # Only 'batchmean' is a mean: any other sums over the batch.
        loss_dkd=dict(
            type='DKDLoss',
            tau=4.0,
            alpha=1.0,
            beta=1.0,
            reduction='batchmean',
            loss_weight=1.0,
        ),
    ),
    loss_forward_mappings=dict(
        _delete_=True,
        loss_dkd=dict(
            preds_S=dict(recorder='logits', from_student=True),
            preds_T=dict(recorder='logits', from_student=False),
            gt_labels=dict(recorder='labels', from_student=True, data_idx=1),
        ),
    ),
)
