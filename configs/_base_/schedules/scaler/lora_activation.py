# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
# As linear.py, but what fades is the activation inside the student's `lora`
# (backbone.lora=dict(..., act=True)), which is linear at the end and merges.
scaler_schedule = dict(
    type='ScalerScheduleHook', shape='linear', gates=['lambda_relu']
)
