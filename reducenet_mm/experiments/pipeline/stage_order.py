# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""Which stages may follow one another, checked before anything is trained."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from mmengine.config import Config

from reducenet_mm.models.checkpoint_checks import check_state_dict
from reducenet_mm.models.merged_student import merge_student
from reducenet_mm.models.supernet import hosts, is_branch_key, is_lora_key

from ..checks import check_as_trained, errors_of
from ..cost import build_model, deployed_model
from .config import Pipeline
from .planned import Run
from .saturation import check_validated


def network_role(cfg: Config) -> str:
    """Return 'teacher' for a network with branches, else 'plain'.

    Raises:
        ValueError: If its branches are off, so that they would not train.
    """
    branches = [host for _, host in hosts(build_model(cfg))]
    if any(host.scaler == 0 for host in branches):
        raise ValueError(
            'the branches are off (model.backbone.scaler=0), so no teacher '
            'would be trained. Set model.backbone.scaler=1.'
        )
    return 'teacher' if branches else 'plain'


def takes_merged(cfg: Config) -> bool:
    """Whether a student stage can start from an exported student.

    Not so where the student itself trains what would merge, the pair of
    ``block='sequential'``: nothing can take it apart again.
    """
    architecture = build_model(cfg).architecture
    exported = deployed_model(cfg).state_dict()
    try:
        check_state_dict(
            architecture,
            merge_student(architecture, exported),
            'an exported student',
            may_lack=lambda key: is_branch_key(key) or is_lora_key(key),
        )
    except ValueError:
        return False
    return True


def validates_on_test(cfg: Config) -> bool:
    """Whether the validation images are the test images, by their config."""
    images = []
    for key in ('val_dataloader', 'test_dataloader'):
        dataset = (cfg.get(key) or {}).get('dataset')
        if dataset is None:
            return False
        images.append(_without_pipelines(dataset))
    return bool(images[0] == images[1])


def _without_pipelines(dataset: Any) -> Any:
    """Return a data set's config with how images are prepared left out."""
    if isinstance(dataset, Mapping):
        return {
            key: _without_pipelines(value)
            for key, value in dataset.items()
            if key != 'pipeline'
        }
    if isinstance(dataset, (list, tuple)):
        return [_without_pipelines(one) for one in dataset]
    return dataset


def check_stages(pipeline: Pipeline, stages: Sequence[Run]) -> None:
    """Raise ``ValueError`` if stages cannot follow one another like this."""
    _check_roles(stages)
    by_name = {stage.name: stage for stage in stages}
    for index, stage in enumerate(stages):
        where = f'stages[{index}] ({stage.name})'
        if stage.load_from is not None:
            _check_growth(where, stage, by_name[stage.load_from])
        students = _students_before(stages, index)
        if stage.role == 'student' and students:
            _check_successor(where, stage, students)
        _check_as_trained(stage, pipeline, bool(students), stage is stages[-1])
    students = [stage for stage in stages if stage.role == 'student']
    if pipeline.until is not None or len(students) > 1:
        for stage in stages:
            if stage.role != 'plain':
                check_validated(stage.cfg)
    if pipeline.until is not None:
        _check_until(pipeline, stages)


def _check_as_trained(
    stage: Run, pipeline: Pipeline, follows: bool, is_last: bool
) -> None:
    """Check a stage as its process will; ``follows`` another student's."""
    init, advice = None, ''
    if follows and stage.role == 'student':
        init = 'the best student so far'
        advice = (
            'Here the pipeline sets model.student_init, as students are '
            'trained before this one; branches can fade in the first of them.'
        )
    # A student that is not shipped is not tested.
    tested = stage.role != 'student' or is_last or pipeline.until is not None
    with errors_of(stage.name, stage.config):
        check_as_trained(
            stage.cfg,
            pipeline.metric,
            tested=tested,
            student_init=init,
            advice=advice,
        )


def _students_before(stages: Sequence[Run], index: int) -> list[Run]:
    """Return the student stages with nothing between them and a stage."""
    found = itertools.takewhile(
        lambda one: one.role == 'student', reversed(stages[:index])
    )
    return list(found)[::-1]


def _check_roles(stages: Sequence[Run]) -> None:
    roles = [stage.role for stage in stages]
    known = {stage.name: stage.role for stage in stages}
    student = roles.index('student') if 'student' in roles else 0
    if roles[-1] != 'student' or 'teacher' not in roles[:student]:
        raise ValueError(
            'the first stage must train a teacher (an ordinary config of a '
            'network with branches), alone or out of a plain network, and '
            'the last one a student (model.type=SupernetDistill), got '
            f'{known}.'
        )
    grown = {stage.load_from for stage in stages}
    idle = [
        s.name for s in stages if s.role == 'plain' and s.name not in grown
    ]
    if idle:
        raise ValueError(
            f'the network of {idle} has no branches and nothing grows from '
            f'it. Name it in a teacher stage, load_from={idle[0]!r}, or '
            'leave it to `controls`.'
        )


def _check_growth(where: str, stage: Run, source: Run) -> None:
    """Check that a stage takes all weights and adds only branches."""
    if 'student' in (stage.role, source.role):
        raise ValueError(
            f'{where}: load_from={source.name!r} is between ordinary '
            'trainings only; a student starts from its teacher and the best '
            'student by itself.'
        )
    grown = build_model(stage.cfg)
    if source.role == 'plain' and not all(
        getattr(host.expand, 'zero_init', False) for _, host in hosts(grown)
    ):
        raise ValueError(
            f'{where}: load_from={source.name!r} grows branches on a trained '
            'network, which would not start as that network. Set cfg_options='
            "{'model.backbone.zero_init_expand': True} (block='postsum'; "
            '`zero_init` of a GraftedBackbone).'
        )
    check_state_dict(
        grown,
        build_model(source.cfg).state_dict(),
        f'{where}: load_from={source.name!r}',
        may_lack=is_branch_key,
    )


def _check_successor(where: str, stage: Run, earlier: Sequence[Run]) -> None:
    """Check that a student stage can start from any of the earlier ones."""
    inherit = (stage.cfg.model.get('reuse') or {}).get('inherit', 'all')
    if inherit != 'all':
        raise ValueError(
            f'{where}: model.reuse.inherit={inherit!r}, but a student stage '
            'after another one starts from that student '
            "(model.student_init). Set inherit='all'."
        )
    own = _architecture(stage.cfg)
    others = [one.name for one in earlier if _architecture(one.cfg) != own]
    if others and not takes_merged(stage.cfg):
        raise ValueError(
            f'{where} trains a pair of convolutions '
            "(backbone.block='sequential'), which cannot start from the "
            f'merged student of {others[0]}. Give both the same '
            "model.architecture, or this one backbone.student_conv='merged'."
        )


def _check_until(pipeline: Pipeline, stages: Sequence[Run]) -> None:
    for stage in stages:
        if stage.role != 'plain' and validates_on_test(stage.cfg):
            raise ValueError(
                f'{stage.name} is validated on the test images '
                '(val_dataloader.dataset equals test_dataloader.dataset), and '
                '`until` chooses stages and students by validation. Cut '
                'validation images from the training set '
                "(type='HoldoutSplit'), or set `until` to None."
            )
    roles = [stage.role for stage in stages]
    first = roles.index('student')
    if set(roles[first:]) != {'student'}:
        raise ValueError(
            '`until` needs all student stages after all others, since any '
            'of them may be the last one, got '
            f'{dict((stage.name, stage.role) for stage in stages)}.'
        )
    always = [stage.name for stage in stages[1 : first + 1]]
    for index, control in enumerate(pipeline.controls):
        at = control.restart_at
        if at is not None and at not in always:
            raise ValueError(
                f'`controls[{index}].restart_at`={at!r} may be skipped '
                f'(`until`). Name a stage that always runs: {always}.'
            )


def _architecture(cfg: Config) -> Mapping[str, Any]:
    return cfg.model.architecture.to_dict()
