# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""An optimizer constructor for what trains, with learning rates by role."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mmengine.logging import print_log
from mmengine.optim import DefaultOptimWrapperConstructor, OptimWrapper
from torch import nn

from reducenet_mm.models.roles import match_parameters
from reducenet_mm.plain_numbers import is_number
from reducenet_mm.registry import OPTIM_WRAPPER_CONSTRUCTORS
from reducenet_mm.spelling import did_you_mean

PARAMWISE_KEY = 'optim_wrapper.paramwise_cfg'
ROLES_KEY = f'{PARAMWISE_KEY}.roles'

_MMENGINE_KEYS = frozenset(
    {
        'bias_decay_mult',
        'bias_lr_mult',
        'bypass_duplicate',
        'custom_keys',
        'dcn_offset_lr_mult',
        'dwconv_decay_mult',
        'flat_decay_mult',
        'norm_decay_mult',
    }
)
"""What ``DefaultOptimWrapperConstructor`` reads of ``paramwise_cfg``."""

_OF_CONFIGS = frozenset({'_delete_', '_scope_'})
"""What ``Config`` leaves where there was nothing to merge with."""


def check_paramwise_keys(paramwise_cfg: Mapping[str, Any]) -> None:
    """Raise ``ValueError`` at a key that would have no effect.

    Args:
        paramwise_cfg: That of a :class:`TrainableOptimWrapperConstructor`,
            not of a subclass, which may read more.
    """
    known = _MMENGINE_KEYS | {'roles'}
    for name, value in paramwise_cfg.items():
        if name not in known | _OF_CONFIGS:
            raise ValueError(
                f'unknown key {PARAMWISE_KEY}.{name}={value!r}. '
                f'{did_you_mean(name, known)}'
                'TrainableOptimWrapperConstructor takes: '
                f'{", ".join(sorted(known))}. What another constructor '
                "takes, as MMPretrain's does `layer_decay_rate`, needs that "
                'one in optim_wrapper.constructor.'
            )


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class TrainableOptimWrapperConstructor(DefaultOptimWrapperConstructor):
    """The optimizer holds exactly the parameters with ``requires_grad``.

    MMEngine's default hands over all of them unless there is a
    ``paramwise_cfg``. That works as there and takes one more key,
    ``roles=dict(classifier=0.1, ...)``: multipliers of the learning rate by
    role or ``'re:<regex>'`` (see :mod:`reducenet_mm.models.roles`), on top of
    whatever the other options give.

    Raises:
        ValueError: If ``paramwise_cfg`` has a key that is not known.
    """

    def _validate_cfg(self) -> None:  # of MMEngine's constructor
        super()._validate_cfg()
        if type(self) is TrainableOptimWrapperConstructor:
            check_paramwise_keys(self.paramwise_cfg)

    def __call__(self, model: nn.Module) -> OptimWrapper:
        """Build the optimizer wrapper of ``model``.

        Raises:
            ValueError: If no parameter trains, or ``roles`` is wrong.
        """
        if not any(param.requires_grad for param in model.parameters()):
            raise ValueError(
                'no parameter of the model trains (requires_grad). Check '
                'model.reuse.freeze and backbone.frozen_stages.'
            )
        optim_wrapper = super().__call__(model)
        for group in optim_wrapper.optimizer.param_groups:
            group['params'] = [p for p in group['params'] if p.requires_grad]
        return optim_wrapper

    def add_params(
        self,
        params: list[dict],
        module: nn.Module,
        prefix: str = '',
        is_dcn_module: int | float | None = None,
    ) -> None:
        """Add one group per parameter, as MMEngine does, then the roles.

        Raises:
            ValueError: If ``roles`` is wrong.
        """
        super().add_params(params, module, prefix, is_dcn_module)
        roles = self.paramwise_cfg.get('roles')
        if prefix != '' or not roles:  # one of the model's modules, later all
            return
        _check_multipliers(roles)
        if self.base_lr is None:
            raise ValueError(f'{ROLES_KEY} needs optim_wrapper.optimizer.lr.')
        factors = _factors(getattr(module, 'architecture', module), roles)
        for group in params:
            factor = factors.get(group['params'][0])
            if factor is not None:
                group.setdefault('lr', self.base_lr)
                group['lr'] *= factor


def _factors(
    network: nn.Module, roles: Mapping[str, float]
) -> dict[nn.Parameter, float]:
    """Return the multiplier of each trained parameter with such a role."""
    params = dict(network.named_parameters(remove_duplicate=False))
    factors: dict[nn.Parameter, float] = {}
    for role, names in match_parameters(network, roles, ROLES_KEY).items():
        # A parameter with several names is one.
        played = {id(params[name]): params[name] for name in names}
        trained = [param for param in played.values() if param.requires_grad]
        if not trained:
            raise ValueError(
                f'{ROLES_KEY}.{role}={roles[role]}, but all of it is frozen '
                '(model.reuse.freeze or backbone.frozen_stages). Leave one '
                'of the two out.'
            )
        if any(factors.get(p, roles[role]) != roles[role] for p in trained):
            raise ValueError(
                f'{ROLES_KEY}={dict(roles)} gives a parameter that plays '
                f'{role!r} and another role two multipliers. Tell them apart '
                "by a 're:<regex>'."
            )
        factors.update(dict.fromkeys(trained, roles[role]))
        size = sum(param.numel() for param in trained)
        print_log(
            f'learning rate x {roles[role]:g} for {role}: {len(trained)} '
            f'tensors ({size:,} parameters)',
            logger='current',
        )
    return factors


def _check_multipliers(roles: Any) -> None:
    if not isinstance(roles, dict):
        raise TypeError(
            f'{ROLES_KEY} must be a dict of multipliers by role such as '
            f'dict(classifier=0.1), got {roles!r}.'
        )
    for role, factor in roles.items():
        if not is_number(factor) or factor <= 0:
            raise ValueError(
                f'{ROLES_KEY}.{role} must be a number > 0, got {factor!r}. '
                'What is not to train belongs in model.reuse.freeze.'
            )
