# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""Convolutions with a branch or a pair, their gates and their merge.

Nothing here knows of a network around them.
"""

from .expand_branch import ExpandBranch
from .host import Gated, Host, Replaceable
from .lambda_relu import LambdaReLU
from .lora import LoraBranch
from .reduce_conv import ParallelConv2d, ReduceConv2d
from .sequential import SequentialConv2d, SequentialPair

__all__ = [
    'ExpandBranch',
    'Gated',
    'Host',
    'LambdaReLU',
    'LoraBranch',
    'ParallelConv2d',
    'ReduceConv2d',
    'Replaceable',
    'SequentialConv2d',
    'SequentialPair',
]
