# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""An optimizer constructor which leaves out what does not train."""

from __future__ import annotations

from mmengine.optim import DefaultOptimWrapperConstructor, OptimWrapper
from torch import nn

from reducenet_mm.registry import OPTIM_WRAPPER_CONSTRUCTORS


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class TrainableOptimWrapperConstructor(DefaultOptimWrapperConstructor):
    """The optimizer holds exactly the parameters with ``requires_grad``.

    MMEngine's default hands over all of them unless there is a
    ``paramwise_cfg``. That works as there.
    """

    def __call__(self, model: nn.Module) -> OptimWrapper:
        """Build the optimizer wrapper of ``model``.

        Raises:
            ValueError: If no parameter trains.
        """
        if not any(param.requires_grad for param in model.parameters()):
            raise ValueError(
                'no parameter of the model trains (requires_grad). Check '
                'model.reuse.freeze and backbone.frozen_stages.'
            )
        optim_wrapper = super().__call__(model)
        for group in optim_wrapper.optimizer.param_groups:
            group['params'] = [p for p in group['params'] if p.requires_grad]
        return optim_wrapper
