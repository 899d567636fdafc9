# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
# A trained small network grows branches, which start at zero output.
_base_ = './teacher.py'

model = dict(backbone=dict(zero_init_expand=True))
load_from = './work_dirs/kills/plain/reference/epoch_6.pth'
