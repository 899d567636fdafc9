# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
from .expand_branch import ExpandBranch
from .reduce_conv import ReduceConv2d

__all__ = ['ExpandBranch', 'ReduceConv2d']
