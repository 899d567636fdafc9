# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
# As linear.py, one stage after the other, from the stem to the head. A stage
# is what lies two names above the convolution: in a grafted MobileNetV2, whose
# convolutions lie deeper, that is a block.
scaler_schedule = dict(
    type='ScalerScheduleHook',
    shape='linear',
    order='shallowest_first',
    unit='stage',
)
