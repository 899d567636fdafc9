# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
# As linear.py, in five equal drops.
scaler_schedule = dict(type='ScalerScheduleHook', shape='step', steps=5)
