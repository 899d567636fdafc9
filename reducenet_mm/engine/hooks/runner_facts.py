# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""What several hooks ask of a Runner."""

from __future__ import annotations

from typing import Any

from mmengine.model import is_model_wrapper
from mmengine.runner import EpochBasedTrainLoop, Runner


def unwrapped_model(runner: Runner) -> Any:
    """Return the model without what wraps it for several processes."""
    model: Any = runner.model
    return model.module if is_model_wrapper(model) else model


def epoch_length(runner: Runner) -> int | None:
    """Return the iterations of a whole epoch; None without epochs.

    The dataloader is shorter in an epoch that is being completed.
    """
    loop = runner.train_loop
    if not isinstance(loop, EpochBasedTrainLoop):
        return None
    return loop.max_iters // loop.max_epochs
