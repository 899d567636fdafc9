# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""What a resumed stage does not need any more."""

from __future__ import annotations

from mmengine.config import Config

from reducenet_mm.models.checkpoint_views import resolve_checkpoint


def forget_missing_inputs(cfg: Config, checkpoint: str) -> None:
    """Let a distillation be resumed without what it started from, in place.

    The Runner initialises a model before it resumes it, although the
    stage's own checkpoint holds the teacher and the student.

    Args:
        cfg: The full config. ``model.teacher_ckpt`` and
            ``model.student_init`` are replaced if their files are missing.
        checkpoint: What is resumed from.
    """
    if _is_missing(cfg, 'teacher_ckpt'):
        cfg.model.teacher_ckpt = None
    if _is_missing(cfg, 'student_init'):
        # Not by None, which means a student that starts as the teacher: it
        # has other keys in its checkpoint.
        cfg.model.student_init = checkpoint


def _is_missing(cfg: Config, key: str) -> bool:
    path = cfg.model.get(key)
    if path is None:
        return False
    try:
        resolve_checkpoint(path, f'model.{key}')
    except FileNotFoundError:
        return True
    return False
