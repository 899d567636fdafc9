# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""Keep a trial run from showing: random state and log are left alone."""

from __future__ import annotations

import logging
import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from mmengine.logging import MMLogger


@contextmanager
def no_side_effects() -> Iterator[None]:
    """Restore the random state afterwards and log errors only.

    What is built under it is built again by the Runner, which logs it.
    """
    disabled = logging.root.manager.disable
    python_state, numpy_state = random.getstate(), np.random.get_state()
    _disable(logging.WARNING)
    try:
        with torch.random.fork_rng(devices=()):
            yield
    finally:
        _disable(disabled)
        random.setstate(python_state)
        np.random.set_state(numpy_state)


def _disable(level: int) -> None:
    """Disable all logging up to a level, MMEngine's loggers included.

    Those remember what is disabled, and only their own method lets them
    forget it.
    """
    logging.disable(level)
    logger = MMLogger.get_current_instance()
    logger.setLevel(logger.level)
