# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
from .early_stopping_hook import ResumableEarlyStoppingHook
from .exact_resume_hook import ExactResumeHook
from .finite_loss_hook import FiniteLossHook
from .inplace_hook import InplaceHook
from .learned_mask_hook import LearnedMaskHook
from .memory_format_hook import MemoryFormatHook
from .scaler_schedule_hook import ScalerScheduleHook
from .seeded_step_hook import SeededStepHook
from .supernet_switch_hook import SupernetSwitchHook
from .unreadable_images_hook import UnreadableImagesHook

__all__ = [
    'ExactResumeHook',
    'FiniteLossHook',
    'InplaceHook',
    'LearnedMaskHook',
    'MemoryFormatHook',
    'ResumableEarlyStoppingHook',
    'ScalerScheduleHook',
    'SeededStepHook',
    'SupernetSwitchHook',
    'UnreadableImagesHook',
]
