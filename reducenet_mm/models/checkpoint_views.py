# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""Checkpoints as networks: both views of a file, and strict loading.

A *teacher* checkpoint holds the plain classifier's keys (``backbone.*``,
``head.*``), branches included. A *distillation* checkpoint holds
``architecture.*`` (the student's values and the untouched branches) and
``teacher_overlay.*`` (the teacher's values where they differ).
"""

from __future__ import annotations

import os.path as osp
from collections.abc import Callable, Mapping

from mmengine.runner import find_latest_checkpoint
from mmengine.runner.checkpoint import CheckpointLoader
from torch import Tensor, nn

from .supernet import is_branch_key, is_lora_key

ARCHITECTURE = 'architecture.'
OVERLAY = 'teacher_overlay.'

STEM_BIAS = 'conv1.bias'
"""Key, in a ResNet, that is there only once its norms have been folded."""

IS_DISTILLATION = (
    'is a distillation checkpoint (keys architecture.*), the model is a plain '
    "classifier, so nothing of it would be loaded. Use the student's config. "
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

StateDict = dict[str, Tensor]


def is_distill_state_dict(state_dict: Mapping[str, Tensor]) -> bool:
    """Whether the state dict is an algorithm's, not a plain network's."""
    return any(key.startswith(ARCHITECTURE) for key in state_dict)


def strip_prefix(state_dict: Mapping[str, Tensor], prefix: str) -> StateDict:
    """Return the entries below ``prefix``, without it."""
    return {
        key[len(prefix) :]: value
        for key, value in state_dict.items()
        if key.startswith(prefix)
    }


def split_state_dict(
    state_dict: Mapping[str, Tensor],
) -> tuple[StateDict | None, StateDict]:
    """Take both networks out of one state dict.

    Args:
        state_dict: That of a teacher or of a distillation checkpoint.

    Returns:
        The teacher's state dict with the keys of the supernet, and the
        student's without any branch. The teacher is ``None`` if the stage
        was trained without a distiller: it kept no overlay, and the teacher
        is in its own checkpoint only.
    """
    if not is_distill_state_dict(state_dict):
        teacher: StateDict | None = dict(state_dict)
        supernet = dict(state_dict)
    else:
        supernet = strip_prefix(state_dict, ARCHITECTURE)
        overlay = strip_prefix(state_dict, OVERLAY)
        teacher = {**supernet, **overlay} if overlay else None
    student = {k: v for k, v in supernet.items() if not is_branch_key(k)}
    return teacher, student


def check_plain_state_dict(
    state_dict: Mapping[str, Tensor], folded: bool | None = None
) -> None:
    """Raise if a plain network is given a checkpoint of another kind.

    MMEngine loads what fits, maybe nothing, and only warns.

    Args:
        state_dict: The network's, or its backbone's own.
        folded: Whether the norms of the backbone are folded; None if the
            state dict is not a backbone's own.

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


def resolve_checkpoint(path: str, config_key: str) -> str:
    """Return the checkpoint file that ``path`` means.

    Args:
        path: A file, an address that MMEngine can load, or a work
            directory, which means its last checkpoint.
        config_key: Where the path was configured, for the error.

    Raises:
        FileNotFoundError: If there is no such file, or no checkpoint in the
            directory.
    """
    if osp.isdir(path):
        latest = find_latest_checkpoint(path)
        if latest is not None and not osp.exists(latest):
            latest = osp.join(path, osp.basename(latest))  # a moved run
        if latest is None or not osp.exists(latest):
            raise FileNotFoundError(
                f'{config_key}={path!r} is a directory without a finished '
                'checkpoint. Train that stage first, or set '
                f'`--cfg-options {config_key}=FILE`.'
            )
        return latest
    if '://' not in path and not osp.isfile(path):
        raise FileNotFoundError(
            f'{config_key}={path!r} does not exist. Train the stage that '
            f'writes it first, or set `--cfg-options {config_key}=FILE`.'
        )
    return path


def read_state_dict(path: str, config_key: str) -> StateDict:
    """Read the state dict of a checkpoint onto the CPU.

    Args:
        path: See :func:`resolve_checkpoint`, likewise ``config_key``.

    Raises:
        FileNotFoundError: If it is not there.
        ValueError: If it holds no state dict.
    """
    file = resolve_checkpoint(path, config_key)
    checkpoint = CheckpointLoader.load_checkpoint(file, map_location='cpu')
    state_dict = checkpoint.get('state_dict', checkpoint)
    tensors = [k for k, v in state_dict.items() if isinstance(v, Tensor)]
    if not tensors:
        raise ValueError(
            f'{config_key}={file!r} holds no weights (no `state_dict` of '
            'tensors). Give a checkpoint written by a training run.'
        )
    return {key: state_dict[key] for key in tensors}


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
            'by it. Give a plain checkpoint as model.teacher_ckpt.'
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
        return 'It was trained with another `expansion`.'
    if reshaped:
        return (
            'It was trained with another width (`base_channels`) or input: '
            'use the config it was trained with.'
        )
    return (
        'It was trained with another `depth`, `block` or head: use the '
        'config it was trained with.'
    )
