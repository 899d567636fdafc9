# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
# NetAug (Cai et al. 2022, arXiv 2110.08890): the branches are there to
# supervise the student only, without soft labels:
#   student.loss + teacher_weight * teacher.loss.
# teacher_weight is the paper's alpha, 1.0 there. The paper draws another width
# of its augmentation in each step; ours is always the whole branch.
_base_ = './soft_labels.py'

inplace = dict(distiller=None, ramp=0.0)
