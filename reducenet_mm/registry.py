# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""The registries this package adds to; it has none of its own.

Layers, ``GraftedBackbone``, hooks, optimizer constructors, samplers and
transforms go to MMEngine's root registries, so that every toolbox's scope
finds them; the other backbones and data sets to MMPretrain's; the algorithms
to MMRazor's (in ``models/algorithms``, which alone imports MMRazor).
"""

from mmengine.registry import (
    DATA_SAMPLERS,
    HOOKS,
    OPTIM_WRAPPER_CONSTRUCTORS,
    TRANSFORMS,
)
from mmengine.registry import MODELS as LAYERS
from mmpretrain.registry import DATASETS
from mmpretrain.registry import MODELS as BACKBONES

__all__ = [
    'BACKBONES',
    'DATA_SAMPLERS',
    'DATASETS',
    'HOOKS',
    'LAYERS',
    'OPTIM_WRAPPER_CONSTRUCTORS',
    'TRANSFORMS',
]
