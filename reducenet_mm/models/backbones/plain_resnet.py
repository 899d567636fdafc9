# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""The student's architecture: an ordinary ResNet, of MMPretrain's parts.

The student while it trains and the control beside it. What is shipped is
MMPretrain's own ``ResNet`` or a class of ``student_backbone.py``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from mmcv.cnn import build_activation_layer, build_conv_layer, build_norm_layer
from mmengine.model import PretrainedInit, constant_init
from mmpretrain.models.backbones.resnet import BasicBlock, ResNet
from mmpretrain.registry import MODELS
from torch import Tensor, nn

from ..checkpoint_checks import (
    check_merged,
    check_plain_state_dict,
)
from ..checkpoint_views import strip_prefix
from ..deploy import Deployable
from ..layers.host import hosts
from ..layers.loading import check_has_part
from .plain_block import PlainBlock

CIFAR_ARCHS = {6 * n + 2: (n, n, n) for n in range(1, 19) if n != 8}
"""Blocks of each stage by depth; He et al. 2016, section 4.2.

Without 50, which would be taken for that of MMPretrain's ``ResNet``.
"""

IMAGENET_ARCHS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3)}
"""Blocks of each stage by depth; He et al. 2016, table 1."""


@MODELS.register_module()
class PlainResNet(Deployable, ResNet):
    """ResNet of basic blocks: depth 6n+2 for small images, or 18 and 34.

    Depths 8, 14, 20, ... 110 (but 50) have the stem and the three stages of
    CIFAR's ResNets, with a convolution in the shortcut where the shape
    changes. Depths 18 and 34 are MMPretrain's ``ResNet``, key for key, and
    with ``out_act`` in function too.

    Args:
        depth: 18, 34 or 6n+2 from 8 to 110, but not 50.
        base_channels: Width of stem and first stage; each further stage
            doubles it. Defaults to 16 (6n+2) or 64 (18, 34).
        in_channels: Channels of the input images.
        out_indices: Stages whose feature maps are returned, from 0.
            Defaults to the last one only.
        frozen_stages: The stem and this many stages neither train nor move
            their statistics; -1 freezes nothing, 0 the stem only.
        norm_eval: Keep all batch norms in eval mode while training.
        with_cp: Recompute blocks in the backward pass to save memory.
        norm_cfg: Config of the norm layers.
        act_cfg: Config of the activations.
        zero_init_residual: Start every block's last norm scale at zero.
        out_act: Whether an activation follows each block's sum, as in
            ResNet. False is the student of ReduceNet's blocks ``parallel``
            and ``sequential``.
        deploy: Build what :meth:`switch_to_deploy` leaves: convolutions
            with biases, and no norms. Takes a checkpoint that
            ``reparameterize_model.py`` wrote.
        init_cfg: Initialisation as in MMPretrain; defaults to its ResNet's.

    Raises:
        ValueError: If ``depth``, ``base_channels``, ``out_indices`` or
            ``frozen_stages`` is not one of those above, or ``deploy`` meets
            norms that cannot be folded.

    Examples:
        >>> import torch
        >>> from reducenet_mm.models import PlainResNet
        >>> net = PlainResNet(depth=20, out_indices=(0, 1, 2)).eval()
        >>> for feat in net(torch.rand(1, 3, 32, 32)):
        ...     print(tuple(feat.shape))
        (1, 16, 32, 32)
        (1, 32, 16, 16)
        (1, 64, 8, 8)
    """

    arch_settings: ClassVar[dict] = {
        depth: (BasicBlock, blocks)
        for depth, blocks in {**CIFAR_ARCHS, **IMAGENET_ARCHS}.items()
    }

    def __init__(
        self,
        depth: int,
        base_channels: int | None = None,
        in_channels: int = 3,
        out_indices: Sequence[int] | None = None,
        frozen_stages: int = -1,
        norm_eval: bool = False,
        with_cp: bool = False,
        norm_cfg: Mapping[str, Any] | None = None,
        act_cfg: Mapping[str, Any] | None = None,
        zero_init_residual: bool = True,
        out_act: bool = True,
        deploy: bool = False,
        init_cfg: Any = None,
    ) -> None:
        check_depth(depth)
        self.block_class = self._block_class(out_act)
        stages = len(self.arch_settings[depth][1])
        self.small_images = depth in CIFAR_ARCHS
        if base_channels is None:
            base_channels = 16 if self.small_images else 64
        if out_indices is None:
            out_indices = (stages - 1,)
        _check_settings(stages, base_channels, out_indices, frozen_stages)
        self.act_cfg = dict(act_cfg or dict(type='ReLU', inplace=True))
        super().__init__(
            depth,
            in_channels=in_channels,
            stem_channels=base_channels,
            base_channels=base_channels,
            num_stages=stages,
            strides=(1, 2, 2, 2)[:stages],
            dilations=(1,) * stages,
            out_indices=tuple(out_indices),
            frozen_stages=frozen_stages,
            norm_cfg=dict(norm_cfg or dict(type='BN', requires_grad=True)),
            norm_eval=norm_eval,
            with_cp=with_cp,
            zero_init_residual=zero_init_residual,
            **({} if init_cfg is None else dict(init_cfg=init_cfg)),
        )
        if deploy:
            self.switch_to_deploy()

    def init_weights(self) -> None:
        """Initialise as MMPretrain does.

        Where the last norm of a block is folded, ``zero_init_residual``
        starts the convolution before it at zero.
        """
        already = self.is_init
        super().init_weights()
        if not self.deploy or already or self._is_pretrained():
            return
        if self.zero_init_residual:
            for module in self.modules():
                if isinstance(module, BasicBlock):
                    constant_init(module.conv2, 0)

    def _is_pretrained(self) -> bool:
        """Whether values come from a file, in any form MMEngine takes."""
        init_cfg = self.init_cfg
        many = init_cfg if isinstance(init_cfg, (list, tuple)) else [init_cfg]
        kinds = [one.get('type') for one in many if isinstance(one, Mapping)]
        return any(kind in ('Pretrained', PretrainedInit) for kind in kinds)

    def get_layer_depth(
        self, param_name: str, prefix: str = ''
    ) -> tuple[int, int]:
        """Return the layer of a parameter, for rates that fall by layer.

        The stem is layer 0, each block is one, and all behind the backbone
        is the last. MMPretrain's own answer is for networks of four stages
        with other numbers of blocks.

        Args:
            param_name: Of a parameter of the whole model.
            prefix: That of the backbone's names, such as ``'backbone.'``.

        Returns:
            The layer and the number of layers.
        """
        last = sum(self.stage_blocks) + 1
        if not param_name.startswith(prefix):
            return last, last + 1
        names = param_name.removeprefix(prefix).split('.')
        if names[0] not in self.res_layers:
            return 0, last + 1
        stage = self.res_layers.index(names[0])
        before = sum(self.stage_blocks[:stage])
        return before + int(names[1]) + 1, last + 1

    def _load_from_state_dict(
        self, state_dict: dict[str, Tensor], prefix: str, *args: Any
    ) -> None:
        check_has_part(self.state_dict(), state_dict, prefix)
        own = strip_prefix(state_dict, prefix)
        check_plain_state_dict(own, self.conv1.bias is not None)
        if next(hosts(self), None) is None:
            check_merged(own)
        super()._load_from_state_dict(state_dict, prefix, *args)

    def train(self, mode: bool = True) -> PlainResNet:
        """Set the mode as MMPretrain does; return the network, as torch."""
        super().train(mode)
        return self

    def _block_class(self, out_act: bool) -> type[BasicBlock]:
        return BasicBlock if out_act else PlainBlock

    def make_res_layer(self, **kwargs: Any) -> nn.Module:
        """Build one stage; MMPretrain's, with our block and activation."""
        kwargs.update(block=self.block_class, act_cfg=self.act_cfg)
        return super().make_res_layer(**kwargs)

    def _make_stem_layer(self, in_channels: int, stem_channels: int) -> None:
        if not self.small_images:
            super()._make_stem_layer(in_channels, stem_channels)
        else:
            self.conv1 = build_conv_layer(
                self.conv_cfg,
                in_channels,
                stem_channels,
                kernel_size=3,
                stride=1,
                padding=1,
                bias=False,
            )
            self.norm1_name, norm1 = build_norm_layer(
                self.norm_cfg, stem_channels, postfix=1
            )
            self.add_module(self.norm1_name, norm1)
            self.maxpool = nn.Identity()
        self.relu = build_activation_layer(self.act_cfg)


def check_depth(depth: int) -> None:
    """Raise ``ValueError`` unless ``depth`` is in the arch table."""
    if depth not in PlainResNet.arch_settings:
        raise ValueError(
            'depth must be 18, 34 or 6n+2 from 8 to 110 (but not 50), got '
            f'{depth!r}. Set `backbone.depth` to one of '
            f'{sorted(PlainResNet.arch_settings)}. Networks of bottlenecks, '
            'such as ResNet-50, are grafted: backbone=dict(type='
            "'GraftedBackbone', backbone=dict(type='mmpretrain.ResNet', "
            r"depth=50), targets=r'layer\d\.\d+\.conv2')."
        )


def _check_settings(
    stages: int,
    base_channels: int,
    out_indices: Sequence[int],
    frozen_stages: int,
) -> None:
    if not isinstance(base_channels, int) or base_channels < 1:
        raise ValueError(
            'backbone.base_channels must be an integer >= 1, got '
            f'{base_channels!r}.'
        )
    if not out_indices or not set(out_indices) <= set(range(stages)):
        raise ValueError(
            f'backbone.out_indices must be among 0 to {stages - 1} for this '
            f'depth, got {tuple(out_indices)}.'
        )
    if not -1 <= frozen_stages <= stages:
        raise ValueError(
            f'backbone.frozen_stages must be from -1 to {stages} for this '
            f'depth, got {frozen_stages}.'
        )
