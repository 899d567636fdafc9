# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""Strict loading: a state dict that does not fit is refused, and why.

MMEngine loads what fits, maybe nothing, and only warns.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import Tensor, nn

from .checkpoint_views import ARCHITECTURE, is_distill_state_dict
from .supernet import is_branch_key, is_lora_key

STEM_BIAS = 'conv1.bias'
"""Key, in a ResNet, that is there only once its norms have been folded."""

IS_DISTILLATION = (
    'is a distillation checkpoint (keys architecture.*), the model is a plain '
    "network, so nothing of it would be loaded. Use the student's config. "
    "With the teacher's, tools/test.py takes it too (--scaler 1: the teacher, "
    '0: the student), and tools/export.py writes the student alone.'
)
IS_DEPLOYED = (
    'has its norms folded (switch_to_deploy), the model has not: set '
    'model.backbone.deploy=True.'
)
IS_NOT_DEPLOYED = (
    'has norms, and those of the model are folded (backbone.deploy=True): '
    "leave out `deploy`, or convert the checkpoint with MMPretrain's "
    'tools/model_converters/reparameterize_model.py and '
    'model.backbone.scaler=0.'
)
IS_NOT_MERGED = (
    'has parts that merge into convolutions (keys *.lora.*, *.pair.*), which '
    'a plain network has not: let tools/export.py write the student.'
)
"""How messages go on about a checkpoint that does not go with the model."""


def check_plain_state_dict(
    state_dict: Mapping[str, Tensor], folded: bool | None = None
) -> None:
    """Raise if a plain network is given a checkpoint of another kind.

    MMEngine loads what fits, maybe nothing, and only warns.

    Args:
        state_dict: The network's, or its backbone's own.
        folded: Whether the norms of the backbone are folded; None if the
            state dict is not a backbone's own, or that cannot be told.

    Raises:
        ValueError: If it is an algorithm's, or only one of state dict and
            backbone has its norms folded.
    """
    if is_distill_state_dict(state_dict):
        raise ValueError(f'this {IS_DISTILLATION}')
    stem = STEM_BIAS.replace('bias', 'weight')
    if folded is None or stem not in state_dict:
        return
    if folded != (STEM_BIAS in state_dict):
        cause = IS_NOT_DEPLOYED if folded else IS_DEPLOYED
        raise ValueError(f'this checkpoint {cause}')


def check_merged(state_dict: Mapping[str, Tensor]) -> None:
    """Raise if a network without branches would lose what has to merge.

    Raises:
        ValueError: If there are keys of ``lora`` branches or linear pairs.
    """
    if any(is_lora_key(key) or 'pair' in key.split('.') for key in state_dict):
        raise ValueError(f'this checkpoint {IS_NOT_MERGED}')


def check_state_dict(
    module: nn.Module,
    state_dict: Mapping[str, Tensor],
    source: str,
    may_lack: Callable[[str], bool] = lambda key: False,
) -> None:
    """Raise unless ``state_dict`` fits ``module``, naming the likely cause.

    Args:
        module: The module to be loaded; only compared with.
        state_dict: What is to be loaded into it.
        source: Where it comes from, for the error, such as
            ``"model.teacher_ckpt='a.pth'"``.
        may_lack: Keys for which this returns True may be missing.

    Raises:
        ValueError: If a key is missing, unexpected or of another shape.
    """
    own = module.state_dict()
    missing = [k for k in own if k not in state_dict and not may_lack(k)]
    unexpected = [k for k in state_dict if k not in own]
    reshaped = [
        key
        for key, value in own.items()
        if key in state_dict and state_dict[key].shape != value.shape
    ]
    if not missing and not unexpected and not reshaped:
        return
    details = [
        f'{len(names)} {kind} keys, e.g. {names[0]}'
        for kind, names in (('missing', missing), ('unexpected', unexpected))
        if names
    ]
    if reshaped:
        key = reshaped[0]
        details.append(
            f'{len(reshaped)} keys of another shape, e.g. {key} '
            f'{tuple(state_dict[key].shape)} instead of '
            f'{tuple(own[key].shape)}'
        )
    cause = _likely_cause(state_dict, missing, unexpected, reshaped)
    raise ValueError(
        f'{source} does not fit {type(module).__name__}: '
        f'{"; ".join(details)}. {cause}'
    )


def check_resumable(
    own: Mapping[str, Tensor], state_dict: Mapping[str, Tensor]
) -> None:
    """Raise unless a distillation stage can take up ``state_dict``.

    Args:
        own: The state dict of the stage's algorithm.
        state_dict: What is to be loaded into it.

    Raises:
        ValueError: If any key is missing, unexpected or of another shape.
    """
    if not is_distill_state_dict(state_dict):
        raise ValueError(
            'this checkpoint is not one of a distillation stage (no '
            f'`{ARCHITECTURE}*` keys), so it cannot be resumed or loaded '
            'by it. Give a plain checkpoint as model.teacher_ckpt or '
            'model.student_init of SupernetDistill; one to start '
            'InplaceDistill from, as '
            "model.architecture.init_cfg=dict(type='Pretrained', "
            'checkpoint=FILE).'
        )
    odd = sorted(
        key
        for key in {*own, *state_dict}
        if key not in own
        or key not in state_dict
        or own[key].shape != state_dict[key].shape
    )
    if odd:
        raise ValueError(
            'this distillation checkpoint has other keys or shapes, e.g. '
            f'{odd[0]} ({len(odd)} in all): it was trained with another '
            'architecture, distiller, reuse, norm_stats or student_init. '
            'Use the config it was trained with.'
        )


def _likely_cause(
    state_dict: Mapping[str, Tensor],
    missing: list[str],
    unexpected: list[str],
    reshaped: list[str],
) -> str:
    if is_distill_state_dict(state_dict):
        return (
            'This is a distillation checkpoint, not a plain network: give '
            'the checkpoint of the stage that trained the teacher.'
        )
    stem = f'backbone.{STEM_BIAS}'
    if stem in unexpected or stem in missing:
        cause = IS_DEPLOYED if stem in unexpected else IS_NOT_DEPLOYED
        return f'It {cause}'
    if missing and all(map(is_branch_key, missing)) and not unexpected:
        return (
            'It is a plain network without branches (an exported student?): '
            'give the checkpoint of the supernet.'
        )
    if reshaped and all('head.' in key for key in reshaped):
        return 'It was trained with another number of classes.'
    if reshaped and all(map(is_branch_key, reshaped)):
        return 'It was trained with another `expansion` or `kernel`.'
    if reshaped:
        return (
            'It was trained with another width (such as `base_channels`) or '
            'input: use the config it was trained with.'
        )
    return (
        'It was trained with another backbone (`depth`, `block`, `targets` '
        'of a graft) or head: use the config it was trained with.'
    )
