# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""Any backbone of any toolbox with branches, out of a config."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mmengine.registry import MODELS
from torch import nn

from reducenet_mm.registry import LAYERS

from ..idle_branches import settle_branches
from ..layers.expand_branch import Kernel
from ..supernet import check_scaler, graft, hosts, set_scaler


@LAYERS.register_module()
def GraftedBackbone(
    backbone: Mapping[str, Any],
    targets: str | Sequence[str],
    expansion: int = 1,
    kernel: Kernel | None = None,
    scaler: float = 1.0,
    norm_cfg: Mapping[str, Any] | None = None,
    act_cfg: Mapping[str, Any] | None = None,
    zero_init: bool = True,
    lora: Mapping[str, Any] | None = None,
    pretrained: str | None = None,
) -> nn.Module:
    """Build a backbone, graft it, and return that backbone itself.

    So nothing comes between the network around it and the backbone: no key
    is renamed, and all settings of ``backbone`` (``out_indices``,
    ``frozen_stages``, ``norm_eval``, ``init_cfg`` with a stock checkpoint)
    mean what they always mean. Branches are parts of their stages: in a
    frozen stage they do not train, so there they add nothing, and with
    ``norm_eval`` their norms keep the statistics they begin with.

    Args:
        backbone: Config of the backbone, which is found as anywhere else:
            in its ``_scope_``, or else in the default scope.
        targets: Which convolutions get branches, see ``supernet.graft``;
            likewise all arguments that are not named here.
        scaler: Which network to start as, in [0, 1]: 1 is the teacher, 0 the
            student.
        norm_cfg: Config of the branches' norms, by default batch norms; the
            host's own are as they are.
        zero_init: Start the branches at zero output, so that the teacher
            begins as the stock network.
        pretrained: A stock checkpoint, for a host which takes one so.
            MMSegmentation's models hand over theirs; elsewhere set
            ``init_cfg`` of ``backbone``.

    Returns:
        The backbone, an instance of its own class.

    Raises:
        ValueError: If an argument is not one of those above, or a matching
            convolution cannot be grafted; it is named.

    Examples:
        >>> import reducenet_mm
        >>> from mmpretrain.registry import MODELS
        >>> cfg = dict(
        ...     type='GraftedBackbone',
        ...     backbone=dict(type='mmpretrain.ResNet', depth=18),
        ...     targets='block_first_conv',
        ...     expansion=2)
        >>> net = MODELS.build(cfg)
        >>> print(type(net).__name__, type(net.layer1[0].conv1).__name__)
        ResNet ReduceConv2d
    """
    check_scaler(scaler)
    host = _build_host(backbone, pretrained)
    if next(hosts(host), None) is not None:
        raise ValueError(
            f'backbone.backbone.type={backbone["type"]!r} has branches '
            'already. Use it as the backbone itself.'
        )
    graft(
        host,
        targets,
        expansion,
        norm_cfg=norm_cfg,
        act_cfg=act_cfg,
        zero_init=zero_init,
        lora=lora,
        kernel=kernel,
    )
    host.train()  # where some freeze their stages
    settle_branches(host)
    set_scaler(host, scaler)
    return host


def _build_host(cfg: Mapping[str, Any], pretrained: str | None) -> nn.Module:
    """Build the config of a backbone in its scope.

    Raises:
        ValueError: If it is no config, or its type is not found.
    """
    if not isinstance(cfg, Mapping) or 'type' not in cfg:
        raise ValueError(
            'backbone.backbone of a GraftedBackbone must be the config of '
            f'the stock backbone, a dict with `type`, got {cfg!r}.'
        )
    kind, scope = cfg['type'], cfg.get('_scope_')
    with MODELS.switch_scope_and_registry(scope) as registry:
        if isinstance(kind, str) and registry.get(kind) is None:
            raise ValueError(
                f'backbone.backbone.type={kind!r} is not known in the scope '
                f'{registry.scope!r}. Check the name, or say where it comes '
                "from: `_scope_='mmpretrain'` (mmdet, mmseg) beside `type`."
            )
    if pretrained is None:
        return MODELS.build(dict(cfg))
    try:
        return MODELS.build({**cfg, 'pretrained': pretrained})
    except TypeError as error:
        raise ValueError(
            f'pretrained={pretrained!r}, but {kind} takes none ({error}). '
            "Set backbone.backbone.init_cfg=dict(type='Pretrained', "
            'checkpoint=FILE) instead.'
        ) from error
