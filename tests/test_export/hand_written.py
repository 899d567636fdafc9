# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""A plain residual network, written by hand of torch's layers alone."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class HandWrittenNet(nn.Module):
    """A classifier of basic blocks, as in a textbook.

    Args:
        blocks: Number of blocks of each stage.
        width: Channels of stem and first stage; each stage doubles them.
        classes: Number of classes.
        folded: Convolutions with biases, and no norms.
        out_act: Whether an activation follows each block's sum.
        large_images: With ImageNet's stem instead of CIFAR's.
    """

    def __init__(
        self,
        blocks: tuple[int, ...],
        width: int,
        classes: int,
        folded: bool = False,
        out_act: bool = True,
        large_images: bool = False,
    ) -> None:
        super().__init__()
        stem = (7, 2) if large_images else (3, 1)
        self.stem = conv_norm(3, width, *stem, folded)
        self.relu = nn.ReLU(inplace=True)
        self.pool = nn.MaxPool2d(3, 2, 1) if large_images else nn.Identity()
        stages, inputs = [], width
        for stage, count in enumerate(blocks):
            outputs = width * 2**stage
            for index in range(count):
                stride = 2 if stage > 0 and index == 0 else 1
                stages.append(Block(inputs, outputs, stride, folded, out_act))
                inputs = outputs
        self.stages = nn.Sequential(*stages)
        self.mean = nn.AdaptiveAvgPool2d((1, 1))
        self.linear = nn.Linear(inputs, classes)

    def forward(self, images: Tensor) -> Tensor:
        features = self.pool(self.relu(self.stem(images)))
        features = self.mean(self.stages(features))
        return self.linear(features.view(features.size(0), -1))


class Block(nn.Module):
    def __init__(
        self, inputs: int, outputs: int, stride: int, folded: bool, act: bool
    ) -> None:
        super().__init__()
        self.first = conv_norm(inputs, outputs, 3, stride, folded)
        self.relu = nn.ReLU(inplace=True)
        self.second = conv_norm(outputs, outputs, 3, 1, folded)
        self.shortcut = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.shortcut = conv_norm(inputs, outputs, 1, stride, folded)
        self.act = act

    def forward(self, x: Tensor) -> Tensor:
        out = self.second(self.relu(self.first(x)))
        if not self.act:
            return out + self.shortcut(x)
        out += self.shortcut(x)
        return self.relu(out)


def conv_norm(
    inputs: int, outputs: int, kernel: int, stride: int, folded: bool
) -> nn.Sequential:
    conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=folded)
    return nn.Sequential(conv, *([] if folded else [nn.BatchNorm2d(outputs)]))


def operations(
    model: nn.Module, images: Tensor
) -> tuple[list[tuple], list[str]]:
    """Export a network and list what it computes.

    Returns:
        Each operation in its order: what, with which settings, on which
        earlier results, parameters, buffers and inputs (all numbered as they
        are met), and the result's shape; and the names of the parameters and
        buffers in the order in which they are met.
    """
    program = torch.export.export(model, (images,))
    signature = program.graph_signature
    given = {
        **dict.fromkeys(signature.user_inputs, 'input'),
        **dict.fromkeys(signature.inputs_to_parameters, 'parameter'),
        **dict.fromkeys(signature.inputs_to_buffers, 'buffer'),
    }
    tensors = {**signature.inputs_to_parameters, **signature.inputs_to_buffers}
    numbers: dict[torch.fx.Node, str] = {}
    found: list[tuple] = []
    names: list[str] = []

    def number(node: torch.fx.Node) -> str:
        if node not in numbers:
            numbers[node] = f'%{len(numbers)}'
            if node.op == 'placeholder':
                shape = tuple(node.meta['val'].shape)
                found.append((given[node.name], shape))
                names.extend(
                    [tensors[node.name]] if node.name in tensors else []
                )
        return numbers[node]

    for node in program.graph.nodes:
        if node.op != 'placeholder':
            used = torch.fx.node.map_arg((node.args, node.kwargs), number)
            value = node.meta.get('val')
            shape = None if value is None else tuple(value.shape)
            found.append((node.op, str(node.target), str(used), shape))
            number(node)
    return found, names
