# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
# As linear.py, slowly at first and at the end.
scaler_schedule = dict(type='ScalerScheduleHook', shape='cosine')
