# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
# Labels only: weight reuse alone recovers the student. No teacher is computed.
distiller = None

# Measures teacher and student before training and after every epoch.
custom_hooks = [dict(type='SupernetSwitchHook', recalib_samples=8192)]

# Merged into the teacher's `optim_wrapper`: optimise only what trains.
student_optim_wrapper = dict(constructor='TrainableOptimWrapperConstructor')
