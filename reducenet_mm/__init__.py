# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""ReduceNet for OpenMMLab: train big and ship small from one network.

Importing the package registers its backbones, hooks, constructors and data
sets; ``custom_imports=dict(imports=['reducenet_mm'])`` in a config does it.
MMRazor is imported only when an algorithm is built.
"""

from . import compat

compat.check_mmcv()
compat.install()

from . import datasets, engine, models  # noqa: E402
from .models.supernet import graft, set_scaler, ungraft  # noqa: E402
from .version import __version__  # noqa: E402

__all__ = [
    '__version__',
    'datasets',
    'engine',
    'graft',
    'models',
    'set_scaler',
    'ungraft',
]
