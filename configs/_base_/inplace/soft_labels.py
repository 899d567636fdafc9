# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
# In-place training: teacher and student in one stage, on the same weights. The
# loss that is minimised is
#   teacher_weight * teacher.loss + student.loss + w * distill.loss_kl,
# where distill.loss_kl is that of ../distill/soft_labels.py, the teacher's
# logits being constants, and w rises linearly from 0 to 1 in the first `ramp`
# of all iterations: at first the teacher has nothing to teach. Not tuned.
_base_ = '../distill/soft_labels.py'

inplace = dict(
    distiller=_base_.distiller, ramp=0.2, sandwich=0, teacher_weight=1.0
)

# The `custom_hooks`. Measures the teacher too in every validation.
# SupernetSwitchHook, which is for a fixed teacher, is refused.
inplace_hooks = [dict(type='InplaceHook')]
