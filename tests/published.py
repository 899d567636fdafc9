# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""The published network, written anew from its description, to compare with.

Three generations, told by the name of our block with the same function:

- ``sequential``: conv, norm, ``g relu(x) + (1 - g) x``, 1x1 conv, norm, ReLU,
  conv, norm, plus shortcut.
- ``parallel``: ``g`` times a bottleneck that ends in norm and ReLU, plus conv,
  norm, ReLU; then conv, norm, plus shortcut.
- ``postsum``: a bare conv, plus a bottleneck that ends in a norm where the
  gate ``scaler`` is exactly 1, plus a linear branch where the gate ``lora``
  is exactly 1; then norm, ReLU, conv, norm, plus shortcut, ReLU.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.conftest import randomise_norms


def conv(inputs: int, outputs: int, size: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(
        inputs, outputs, size, stride, padding=size // 2, bias=False
    )


def conv_norm(*geometry: int) -> list[nn.Module]:
    return [conv(*geometry), nn.BatchNorm2d(geometry[1])]


def lora_branch(
    kind: str, inputs: int, outputs: int, stride: int, wide: int
) -> nn.Sequential:
    if kind == '1x1':
        return nn.Sequential(*conv_norm(inputs, outputs, 1, stride))
    return nn.Sequential(
        *conv_norm(inputs, wide, 3, stride), *conv_norm(wide, outputs, 1)
    )


class Block(nn.Module):
    """One block with the published names of its layers."""

    def __init__(
        self, inputs: int, outputs: int, stride: int, wide: int
    ) -> None:
        super().__init__()
        self.shortcut = nn.Sequential()
        if inputs != outputs:
            self.shortcut.extend(conv_norm(inputs, outputs, 1, stride))
        self.build(inputs, outputs, stride, wide)

    def bottleneck(
        self, inputs: int, outputs: int, stride: int, wide: int
    ) -> nn.Sequential:
        return nn.Sequential(
            *conv_norm(inputs, wide, 3, stride),
            nn.ReLU(),
            *conv_norm(wide, outputs, 1),
        )

    def second(self, x: Tensor) -> Tensor:
        return self.bn3(self.conv3(x))


class SequentialBlock(Block):
    def build(self, inputs: int, outputs: int, stride: int, wide: int) -> None:
        self.conv1, self.bn1 = conv_norm(inputs, wide, 3, stride)
        self.conv2, self.bn2 = conv_norm(wide, outputs, 1)
        self.conv3, self.bn3 = conv_norm(outputs, outputs, 3)

    def forward(self, x: Tensor) -> Tensor:
        gate = float(self.scaler)
        inner = self.bn1(self.conv1(x))
        inner = gate * inner.clamp(min=0) + (1 - gate) * inner
        inner = self.bn2(self.conv2(inner)).clamp(min=0)
        return self.second(inner) + self.shortcut(x)


class ParallelBlock(Block):
    def build(self, inputs: int, outputs: int, stride: int, wide: int) -> None:
        self.branch1 = self.bottleneck(inputs, outputs, stride, wide)
        self.branch2 = nn.Sequential(*conv_norm(inputs, outputs, 3, stride))
        self.conv3, self.bn3 = conv_norm(outputs, outputs, 3)

    def forward(self, x: Tensor) -> Tensor:
        gate = float(self.scaler)
        inner = self.branch2(x).clamp(min=0)
        inner = inner + gate * self.branch1(x).clamp(min=0)
        return self.second(inner) + self.shortcut(x)


class PostsumBlock(Block):
    def build(self, inputs: int, outputs: int, stride: int, wide: int) -> None:
        self.branch1 = self.bottleneck(inputs, outputs, stride, wide)
        self.branch2 = nn.Sequential(conv(inputs, outputs, 3, stride))
        self.fuse = nn.Sequential(
            nn.BatchNorm2d(outputs), nn.ReLU(), *conv_norm(outputs, outputs, 3)
        )

    def forward(self, x: Tensor) -> Tensor:
        inner = self.branch2(x)
        if float(self.scaler) == 1:
            inner = inner + self.branch1(x)
        if float(self.lora) == 1:
            inner = inner + self.lora_branch(x)
        return (self.fuse(inner) + self.shortcut(x)).clamp(min=0)


BLOCKS = dict(
    sequential=SequentialBlock, parallel=ParallelBlock, postsum=PostsumBlock
)


class Published(nn.Module):
    """A published network with ``blocks`` blocks in each of its stages.

    Its norms hold nothing trivial, and its outputs are about 1 in size.
    """

    def __init__(
        self,
        block: str = 'postsum',
        blocks: int = 3,
        width: int = 16,
        expansion: int = 1,
        classes: int = 10,
        lora: str | None = '1x1',
    ) -> None:
        super().__init__()
        self.block = block
        self.scaler = nn.Parameter(torch.tensor(1.0), requires_grad=False)
        if block == 'postsum':
            self.lora = nn.Parameter(torch.tensor(0.0), requires_grad=False)
            self.conv1 = nn.Sequential(*conv_norm(3, width, 3), nn.ReLU())
        else:
            self.requires_grad = nn.Parameter(torch.tensor(True), False)
            self.conv1, self.bn1 = conv_norm(3, width, 3)
        inputs = width
        for stage in range(3):
            outputs, layer = width * 2**stage, nn.Sequential()
            for _ in range(blocks):
                stride = 1 if inputs == outputs else 2
                wide = expansion * outputs
                made = BLOCKS[block](inputs, outputs, stride, wide)
                made.scaler = self.scaler
                if block == 'postsum':
                    made.lora = self.lora
                    made.lora_branch = lora_branch(
                        lora or '1x1', inputs, outputs, stride, wide
                    )
                layer.append(made)
                inputs = outputs
            self.add_module(f'layer{stage + 1}', layer)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):  # so that the input still shows
                nn.init.kaiming_normal_(layer.weight)
        randomise_norms(self)
        weight = torch.randn(classes, inputs)
        if block == 'sequential':  # its classifier multiplies from the right
            self.linear = nn.Module()
            self.linear.w = nn.Parameter(weight.t().clone())
            self.linear.b = nn.Parameter(torch.randn(classes))
        else:
            self.linear = nn.Linear(inputs, classes)
            self.linear.weight = nn.Parameter(weight)
        self.eval().tame()

    @torch.no_grad()
    def tame(self) -> None:
        """Scale the classifier, as sums grow with the depth."""
        self.linear.requires_grad_(False)
        largest = self(torch.randn(4, 3, 8, 8)).abs().max()
        for parameter in self.linear.parameters():
            parameter /= largest

    def set_gates(self, scaler: float, lora: float = 0.0) -> Published:
        self.scaler.fill_(scaler)
        if self.block == 'postsum':
            self.lora.fill_(lora)
        return self

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv1(x)
        if self.block != 'postsum':
            x = F.relu(self.bn1(x))
        x = self.layer3(self.layer2(self.layer1(x))).mean((2, 3))
        if self.block == 'sequential':
            return x @ self.linear.w + self.linear.b
        return self.linear(x)


def rename(state: dict, old: str, new: str) -> None:
    """Rename a layer of every block, in place."""
    for key in [key for key in state if f'.{old}.' in key]:
        state[key.replace(f'.{old}.', f'.{new}.')] = state.pop(key)


def drop(state: dict, part: str) -> None:
    """Drop all keys which contain ``part``, in place."""
    for key in [key for key in state if part in key]:
        del state[key]
