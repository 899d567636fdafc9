# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""Losses that are 0, for what trains but is not computed in a step.

Processes that train together wait for a gradient of all that trains.
"""

from __future__ import annotations

from collections.abc import Collection

import torch
from torch import Tensor, nn


def idle_branch_losses(
    architecture: nn.Module, names: Collection[str]
) -> dict[str, Tensor]:
    """Return a zero gradient for branches, which scaler 0 leaves out.

    Args:
        architecture: The supernet.
        names: Names of the branches' parameters that train.

    Returns:
        ``loss_idle_branches``, nothing if there are no names.
    """
    params = [architecture.get_parameter(name) for name in names]
    return _idle_losses('loss_idle_branches', params)


def idle_distiller_losses(distiller: nn.Module | None) -> dict[str, Tensor]:
    """Return a zero gradient for a distiller that has been stopped.

    Args:
        distiller: Its connectors and losses may have parameters.

    Returns:
        ``loss_idle``, nothing if nothing of the distiller trains.
    """
    if distiller is None:
        return {}
    params = [p for p in distiller.parameters() if p.requires_grad]
    return _idle_losses('loss_idle', params)


def _idle_losses(
    name: str, params: Collection[nn.Parameter]
) -> dict[str, Tensor]:
    if not params:
        return {}
    sums = torch.stack([param.sum() for param in params])
    return {name: 0.0 * sums.sum()}
