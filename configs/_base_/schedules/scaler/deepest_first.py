# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
# As linear.py, one block after the other, from the head to the stem.
scaler_schedule = dict(
    type='ScalerScheduleHook',
    shape='linear',
    order='deepest_first',
    unit='block',
)
