# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""The backbone of an exported student: an ordinary residual network.

This file needs MMPretrain and nothing else. It is shipped as it is, beside
the ``student.py`` that imports it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from mmcv.cnn import build_activation_layer, fuse_conv_bn
from mmpretrain.models.backbones.resnet import BasicBlock, ResNet
from mmpretrain.models.backbones.resnet_cifar import ResNet_CIFAR
from mmpretrain.registry import MODELS
from torch import Tensor, nn


class SumBlock(BasicBlock):
    """MMPretrain's ``BasicBlock`` without the activation after the sum."""

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C_in, H, W) to (N, C_out, H', W')."""
        out = self.relu(self.norm1(self.conv1(x)))
        out = self.drop_path(self.norm2(self.conv2(out)))
        return out + (x if self.downsample is None else self.downsample(x))


# Several exported folders may be loaded by one process, hence ``force``.
@MODELS.register_module(force=True)
class StudentResNet(ResNet):
    """MMPretrain's ``ResNet`` of depth 18 or 34 with other activations.

    Args:
        depth: A key of ``arch_settings``.
        base_channels: Width of stem and first stage; each further stage
            doubles it. Defaults to 64, or 16 for small images.
        in_channels: Channels of the input images.
        out_indices: Stages whose feature maps are returned, from 0.
            Defaults to the last one only.
        norm_cfg: Config of the norm layers.
        act_cfg: Config of the activations.
        out_act: Whether an activation follows each block's sum.
        folded: Build what folding the batch norms leaves: convolutions with
            biases, and no norms.
        frozen_stages: The stem and this many stages neither train nor move
            their statistics; -1 freezes nothing, 0 the stem only.
        norm_eval: Keep all batch norms in eval mode while training.
        init_cfg: Initialisation; defaults to that of ``ResNet``.

    Raises:
        ValueError: If there is no network of this depth.
    """

    arch_settings: ClassVar[dict] = {
        18: (BasicBlock, (2, 2, 2, 2)),
        34: (BasicBlock, (3, 4, 6, 3)),
    }
    default_width: ClassVar[int] = 64

    def __init__(
        self,
        depth: int,
        base_channels: int | None = None,
        in_channels: int = 3,
        out_indices: Sequence[int] | None = None,
        norm_cfg: Mapping[str, Any] | None = None,
        act_cfg: Mapping[str, Any] | None = None,
        out_act: bool = True,
        folded: bool = False,
        frozen_stages: int = -1,
        norm_eval: bool = False,
        init_cfg: Any = None,
    ) -> None:
        if depth not in self.arch_settings:
            raise ValueError(
                f'{type(self).__name__} has no depth {depth!r}. Set '
                f'`backbone.depth` to one of {sorted(self.arch_settings)}.'
            )
        stages = len(self.arch_settings[depth][1])
        width = base_channels or self.default_width
        self.act_cfg = dict(act_cfg or dict(type='ReLU', inplace=True))
        self.block_class = BasicBlock if out_act else SumBlock
        super().__init__(
            depth,
            in_channels=in_channels,
            stem_channels=width,
            base_channels=width,
            num_stages=stages,
            strides=(1, 2, 2, 2)[:stages],
            dilations=(1,) * stages,
            out_indices=tuple(out_indices or (stages - 1,)),
            norm_cfg=dict(norm_cfg or dict(type='BN', requires_grad=True)),
            frozen_stages=frozen_stages,
            norm_eval=norm_eval,
            **({} if init_cfg is None else dict(init_cfg=init_cfg)),
        )
        self.relu = build_activation_layer(self.act_cfg)
        self.folded = folded
        if folded:
            fuse_conv_bn(self)

    def _checkpoint_filter(
        self, state_dict: Mapping[str, Tensor], *args: Any
    ) -> None:
        """Refuse a training's checkpoint; MMPretrain's classifiers ask."""
        if any(key.startswith('architecture.') for key in state_dict):
            raise ValueError(
                'this is the checkpoint of a distillation, of which nothing '
                'would be loaded. Give the weights beside the config.'
            )

    def _load_from_state_dict(
        self, state_dict: dict[str, Tensor], prefix: str, *args: Any
    ) -> None:
        """Refuse what a loading that is not strict would load in part."""
        stem = f'{prefix}conv1.weight' in state_dict
        if stem and self.folded != (f'{prefix}conv1.bias' in state_dict):
            raise ValueError(
                f'folded={self.folded} in the config, but not so in the '
                'checkpoint: student.py goes with student.pth, '
                'student_folded.py with student_folded.pth.'
            )
        parts = {part for key in state_dict for part in key.split('.')}
        if parts & {'expand', 'lora', 'pair'}:
            raise ValueError(
                'the checkpoint has branches (keys *.expand.*, *.lora.* or '
                '*.pair.*): it is that of a training. Give the weights beside '
                'the config.'
            )
        super()._load_from_state_dict(state_dict, prefix, *args)

    def make_res_layer(self, **kwargs: Any) -> nn.Module:
        """Build one stage; MMPretrain's, with these blocks and activations."""
        kwargs.update(block=self.block_class, act_cfg=self.act_cfg)
        return super().make_res_layer(**kwargs)


@MODELS.register_module(force=True)
class StudentResNet_CIFAR(StudentResNet, ResNet_CIFAR):
    """MMPretrain's ``ResNet_CIFAR`` with another arch table: 6n+2 layers.

    Three stages for small images; He et al. 2016, section 4.2. Arguments are
    those of :class:`StudentResNet`.
    """

    arch_settings: ClassVar[dict] = {
        6 * n + 2: (BasicBlock, (n, n, n)) for n in range(1, 19) if n != 8
    }
    default_width: ClassVar[int] = 16
