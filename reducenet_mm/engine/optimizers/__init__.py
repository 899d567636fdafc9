# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
from .trainable import TrainableOptimWrapperConstructor

__all__ = ['TrainableOptimWrapperConstructor']
