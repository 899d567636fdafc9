# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""MMRazor's distiller on one instance: built, checked, emptied."""

from __future__ import annotations

import functools
import logging
import re
from collections.abc import Callable, Iterator
from typing import Any

from mmengine.logging import print_log
from mmrazor.models.architectures.connectors import OFDTeacherConnector
from mmrazor.models.distillers import ConfigurableDistiller
from mmrazor.registry import MODELS
from torch import Tensor, nn

from ..roles import is_head


def build_distiller(
    config: dict, architecture: nn.Module, data_preprocessor: nn.Module
) -> ConfigurableDistiller:
    """Build the distiller; both of its networks are ``architecture``.

    Args:
        config: Config of MMRazor's ``ConfigurableDistiller``.
        architecture: The supernet, frozen where it does not train.
        data_preprocessor: What makes the batches.

    Raises:
        ValueError: If a loss cannot work on these batches, or no loss is
            minimised or reaches anything that trains.
    """
    distiller = MODELS.build({'_scope_': 'mmrazor', **config})
    _check_names(distiller)
    _check_labels(distiller, data_preprocessor)
    _check_reach(distiller, architecture)
    _check_connectors(distiller)
    _warn_of_the_last_stage(distiller, architecture)
    try:
        distiller.prepare_from_student(architecture)
        distiller.prepare_from_teacher(architecture)
    except AssertionError as error:  # a recorder's source
        raise ValueError(f'{error}{_last_linear(architecture)}') from error
    return distiller


def compute_losses(
    distiller: ConfigurableDistiller,
    teacher: Callable[[], Any],
    student: Callable[[], dict[str, Tensor]],
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Record the teacher, then the student, and compare.

    Args:
        distiller: As :func:`build_distiller` returns it. Its records are
            released afterwards.
        teacher: Calls the teacher.
        student: Calls the student.

    Returns:
        The student's own losses and those of the distillation.
    """
    record_teacher(distiller, teacher)
    losses = compare_student(distiller, student)
    release_records(distiller)
    return losses


def record_teacher(
    distiller: ConfigurableDistiller, teacher: Callable[[], Any]
) -> Any:
    """Record the teacher, without its graph; return what it returns."""
    distiller.set_deliveries_override(False)
    with distiller.teacher_recorders, distiller.deliveries:
        returned = teacher()
    for recorder in distiller.teacher_recorders.recorders.values():
        recorder.data_buffer[:] = _detached(recorder.data_buffer)
    return returned


def compare_student(
    distiller: ConfigurableDistiller, student: Callable[[], dict[str, Tensor]]
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Record a student and compare it with the recorded teacher.

    Returns:
        As :func:`compute_losses`.

    Raises:
        RuntimeError: If a loss asks for what was not recorded or for one
            class per image where there are scores, or none of them has a
            gradient, though the student's own have.
    """
    distiller.set_deliveries_override(True)
    with distiller.student_recorders, distiller.deliveries:
        losses = student()
    try:
        compared = distiller.compute_distill_losses()
    except (AssertionError, TypeError, RuntimeError):
        _check_recorded(distiller)
        _check_recorded_labels(distiller)
        raise
    if compared and not _has_gradient(compared) and _has_gradient(losses):
        recorders = distiller.student_recorders.recorders.values()
        raise RuntimeError(
            f'model.distiller: none of {sorted(compared)} has a gradient, so '
            'that nothing would be distilled. Either nothing that trains '
            'comes before what is recorded of the student '
            f'({[recorder.source for recorder in recorders]}), or it is '
            'inside a part that is computed again in the backward pass '
            '(backbone.with_cp, activation_checkpointing): record the end of '
            'a stage or the head, or leave that out.'
        )
    if _has_gradient(losses):
        for name, value in compared.items():
            if 'loss' in name and not _has_gradient(value):
                _warn_of_a_constant(name)
    return losses, compared


def release_records(distiller: ConfigurableDistiller) -> None:
    """Forget a step: its records hold graphs, and deepcopy fails on them."""
    for manager in (distiller.student_recorders, distiller.teacher_recorders):
        for recorder in manager.recorders.values():
            recorder.reset_data_buffer()


def _has_gradient(losses: Any) -> bool:
    """Whether a tensor in these losses, or in lists of them, has a graph."""
    if isinstance(losses, Tensor):
        return losses.requires_grad
    if isinstance(losses, dict):
        losses = list(losses.values())
    return isinstance(losses, list | tuple) and any(map(_has_gradient, losses))


def _detached(record: Any) -> Any:
    """Return a record of tensors in lists, tuples and dicts without graph."""
    if isinstance(record, Tensor):
        return record.detach()
    if isinstance(record, dict):
        return {key: _detached(value) for key, value in record.items()}
    if type(record) in (list, tuple):
        return type(record)(map(_detached, record))
    return record


def _check_recorded(distiller: ConfigurableDistiller) -> None:
    """Say which record a loss asks for in vain; MMRazor names none."""
    for loss, inputs in distiller.loss_forward_mappings.items():
        for key, wanted in inputs.items():
            side = 'student' if wanted['from_student'] else 'teacher'
            recorders = getattr(distiller, f'{side}_recorders')
            recorder = recorders.get_recorder(wanted['recorder'])
            try:
                recorder.get_record_data(
                    wanted.get('record_idx', 0), wanted.get('data_idx')
                )
            except (AssertionError, TypeError) as error:
                raise RuntimeError(
                    f'model.distiller.loss_forward_mappings.{loss}.{key}: no '
                    f'such record of the {side} by `{wanted["recorder"]}`, '
                    f'source {recorder.source!r} ({error}). The student runs '
                    "in forward mode 'loss', the teacher of SupernetDistill "
                    "in mode 'tensor'. Record what both execute, and correct "
                    'record_idx and data_idx.'
                ) from error


def _check_labels(
    distiller: ConfigurableDistiller, data_preprocessor: nn.Module
) -> None:
    """Refuse losses on one class per image where images have several."""
    if not getattr(data_preprocessor, 'to_onehot', False):
        return
    for loss, key in _uses_of_labels(distiller):
        raise ValueError(
            f'{_needs_one_class(distiller, loss, key)}: '
            'data_preprocessor.batch_augments (mixup, cutmix: '
            'train_cfg.augments of the classifier) or to_onehot makes them. '
            'Drop those, or use a loss of the predictions alone, such as '
            'KLDivergence or DISTLoss.'
        )


def _check_recorded_labels(distiller: ConfigurableDistiller) -> None:
    """Say where images come with scores, which MMRazor cannot index by."""
    for loss, key in _uses_of_labels(distiller):
        wanted = distiller.loss_forward_mappings[loss][key]
        side = 'student' if wanted['from_student'] else 'teacher'
        recorders = getattr(distiller, f'{side}_recorders')
        labels = recorders.get_recorder(wanted['recorder']).get_record_data(
            wanted.get('record_idx', 0), wanted.get('data_idx')
        )
        if isinstance(labels, Tensor) and labels.is_floating_point():
            raise RuntimeError(
                f'{_needs_one_class(distiller, loss, key)} of shape '
                f'{tuple(labels.shape)}: the data set gives them (gt_score). '
                'Let it give gt_label, or use a loss of the predictions '
                'alone, such as KLDivergence or DISTLoss.'
            )


def _uses_of_labels(
    distiller: ConfigurableDistiller,
) -> Iterator[tuple[str, str]]:
    """Yield the losses that want labels, each with the argument's name."""
    for loss, arguments in distiller.loss_forward_mappings.items():
        for key in arguments:
            if key.startswith('gt_label'):
                yield loss, key


def _needs_one_class(
    distiller: ConfigurableDistiller, loss: str, key: str
) -> str:
    """Begin both messages on labels."""
    kind = type(distiller.distill_losses[loss]).__name__
    return (
        f'model.distiller.distill_losses.{loss} ({kind}) needs one class per '
        f'image (`{key}`), but the batches have class scores'
    )


def _check_names(distiller: ConfigurableDistiller) -> None:
    """Refuse losses that MMEngine would log and not minimise."""
    names = sorted(distiller.distill_losses)
    if names and not any('loss' in name for name in names):
        raise ValueError(
            f'model.distiller.distill_losses: none of {names} has "loss" in '
            'its name, and MMEngine minimises nothing else. Call it '
            f"'loss_{names[0]}', in loss_forward_mappings too."
        )


def _check_reach(
    distiller: ConfigurableDistiller, architecture: nn.Module
) -> None:
    """Refuse a teacher whose losses could not train anything.

    Only the case that is sure whatever the backbone: nothing but the head
    trains, and everything recorded comes before it.
    """
    trained = [
        n for n, p in architecture.named_parameters() if p.requires_grad
    ]
    recorders = distiller.student_recorders.recorders.values()
    sources = [recorder.source for recorder in recorders]
    body = ('backbone', 'neck')
    reachable = not all(map(is_head, trained))
    recorded = not all(source.split('.')[0] in body for source in sources)
    if sources and not reachable and not recorded:
        raise ValueError(
            'model.distiller compares only what comes before the head '
            f'({sources}), but only the head trains (model.reuse.freeze): '
            'its losses have no gradient. Train more, record a layer of the '
            'head such as `head.fc`, or set model.distiller=None.'
        )


def _check_connectors(distiller: ConfigurableDistiller) -> None:
    """Refuse a connector that would have to be told of the teacher first."""
    for name, connector in distiller.connectors.items():
        if isinstance(connector, OFDTeacherConnector):
            raise ValueError(
                f'model.distiller.connectors.{name}: OFDTeacherConnector '
                'reads its margins from a teacher that is a network of its '
                "own. Use MMRazor's OverhaulFeatureDistillation with two "
                'networks, or another loss of features, such as L2Loss '
                '(preset: configs/_base_/distill/features.py).'
            )


def _last_linear(architecture: nn.Module) -> str:
    """Say what to record for soft labels, if there is anything."""
    names = [
        name
        for name, module in architecture.named_modules()
        if isinstance(module, nn.Linear)
    ]
    if not names:
        return ''
    return (
        f' Its last linear layer, what soft labels record, is "{names[-1]}": '
        'set `source` of both recorders.'
    )


@functools.cache  # once a process
def _warn_of_a_constant(loss: str) -> None:
    """Warn of one loss of several that changes nothing.

    Not an error, since all that trains may come behind it.
    """
    print_log(
        f'model.distiller: {loss} has no gradient and trains nothing. What '
        'it compares is behind nothing that trains, or inside a part that '
        'is computed again in the backward pass (backbone.with_cp, '
        'activation_checkpointing): record the end of a stage instead.',
        logger='current',
        level=logging.WARNING,
    )


def _warn_of_the_last_stage(
    distiller: ConfigurableDistiller, architecture: nn.Module
) -> None:
    """Warn where ends of several stages are compared, but not the last.

    Not an error, since it can be meant.
    """
    stage = re.compile(r'(?:backbone\.)?layer(\d+)')
    recorders = distiller.student_recorders.recorders.values()
    sources = [recorder.source for recorder in recorders]
    compared = {int(m[1]) for m in map(stage.fullmatch, sources) if m}
    backbone = getattr(architecture, 'backbone', nn.Identity())
    names = [name for name, _ in backbone.named_children()]
    present = {int(m[1]) for m in map(stage.fullmatch, names) if m}
    last = max(present, default=0)
    if len(compared) > 1 and last > max(compared):
        presets = ' (presets: configs/_base_/distill/four_stages/)'
        print_log(
            f'model.distiller compares {sources}, but not the last stage, '
            f'`backbone.layer{last}`. Record it too'
            f'{presets if last == 4 else ""}, unless that is meant.',
            logger='current',
            level=logging.WARNING,
        )
