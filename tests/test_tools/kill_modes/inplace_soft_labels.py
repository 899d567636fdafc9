# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
# Teacher and student trained in place, without a network between them.
_base_ = './inplace.py'

model = dict(sandwich=0)
