# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
# The branches fade out linearly over the first half of the student's training,
# instead of being gone at once (which is what a student config does without
# any such preset). To be used as
#   custom_hooks = [
#       *_base_.get('custom_hooks', []),
#       *_base_.student_hooks,
#       _base_.scaler_schedule,
#   ]
# or for other times, in epochs, dict(_base_.scaler_schedule, begin=2, end=8).
# What is validated and shipped is the student at scaler 0 all along.
scaler_schedule = dict(type='ScalerScheduleHook', shape='linear')
