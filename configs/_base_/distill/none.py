# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
# Labels only: weight reuse alone recovers the student. No teacher is computed.
distiller = None

# The `custom_hooks` of a student; beside a teacher's own, such as EMAHook:
#   custom_hooks = [*_base_.get('custom_hooks', []), *_base_.student_hooks]
# Measures the teacher and the student before training, and estimates the
# student's norm statistics anew where norm_stats='recalibrated'.
student_hooks = [dict(type='SupernetSwitchHook', recalib_samples=8192)]

# Merged into the teacher's `optim_wrapper`: optimise only what trains.
student_optim_wrapper = dict(constructor='TrainableOptimWrapperConstructor')
