# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""Pipeline configs are checked before anything is done."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from reducenet_mm.experiments.checks import flatten
from reducenet_mm.experiments.pipeline.config import read_pipeline
from reducenet_mm.experiments.pipeline.saturation import Until

DIGITS = Path('configs/pipelines/digits.py')


@pytest.fixture
def write(tmp_path: Path):
    """Write a pipeline config beside two configs that are there."""
    for name in ('a', 'b'):
        (tmp_path / f'{name}.py').write_text('x = 1')

    def _write(**content: Any) -> Path:
        stages = [dict(name='t', config='a.py'), dict(name='s', config='b.py')]
        content.setdefault('stages', stages)
        path = tmp_path / 'pipeline.py'
        lines = (f'{key} = {value!r}\n' for key, value in content.items())
        path.write_text(''.join(lines))
        return path

    return _write


def test_the_digits_pipeline() -> None:
    pipeline = read_pipeline(DIGITS)
    assert [one.name for one in pipeline.stages] == ['teacher', 'student']
    names = [(one.name, one.restart_at) for one in pipeline.controls]
    assert names == [('plain', None), ('plain_restart', 'student')]
    assert all(one.config.is_file() for one in pipeline.stages)
    assert (pipeline.seed, pipeline.metric) == (0, 'accuracy/top1')


def test_options_of_the_command_line_and_of_all_runs(write: Any) -> None:
    path = write(cfg_options={'optim': {'lr': 1, 'wd': 2}})
    options = {'stages.1.epochs': 4, 'seed': 7, 'cfg_options.optim.lr': 5}
    pipeline = read_pipeline(
        path, {**options, 'stages.0.cfg_options': {'optim.wd': 3}}
    )
    assert pipeline.seed == 7
    teacher, student = pipeline.stages
    assert teacher.cfg_options == {'optim.lr': 5, 'optim.wd': 3}
    assert student.cfg_options == {'optim.lr': 5, 'optim.wd': 2}
    assert (teacher.epochs, student.epochs) == (None, 4)


def test_until_and_growth_are_read(write: Any) -> None:
    stages = [
        dict(name='small', config='a.py'),
        dict(name='t', config='b.py', load_from='small'),
    ]
    path = write(stages=stages, until=dict(min_gain=0.5))
    pipeline = read_pipeline(path, {'until.patience': 3})
    assert [one.load_from for one in pipeline.stages] == [None, 'small']
    assert pipeline.until == Until(min_gain=0.5, patience=3)
    assert read_pipeline(path, {'until': None}).until is None


def test_nested_options_become_dotted_ones() -> None:
    nested = {'a': {'b': 1, 'c': {'d': [2]}}, 'e.f': None, 'g': {}}
    assert flatten(nested) == {'a.b': 1, 'a.c.d': [2], 'e.f': None, 'g': {}}


def stage(**changes: Any) -> list[dict[str, Any]]:
    return [dict(dict(name='t', config='a.py'), **changes)]


@pytest.mark.parametrize(
    ('content', 'message'),
    [
        (dict(control=[]), r"unknown keys \['control'\]"),
        (dict(stages=[]), '`stages` is empty'),
        (dict(stages=3), '`stages` must be a list'),
        (dict(stages=['t']), r"`stages\[0\]` must be a dict, got 't'"),
        (dict(stages=stage(epoch=3)), r"unknown keys \['epoch'\]"),
        (dict(stages=stage(epochs=0)), r'stages\[0\].epochs` must be'),
        (dict(stages=stage(name='a/b')), "'a/b'"),
        (dict(stages=stage(name=None)), r'stages\[0\].name'),
        (dict(stages=stage() + stage()), r"\['t'\] more than once"),
        (dict(seed=-1), '`seed` must be an integer >= 0, got -1'),
        (dict(seed=2**32), '`seed` must be an integer <= 4294967295'),
        (
            dict(controls=[dict(name='student', config='a.py')]),
            r"`controls\[0\].name`='student' is what reports call",
        ),
        (
            dict(stages=stage(cfg_options={'work_dir': 'x'})),
            r"sets \['work_dir'\]",
        ),
        (
            dict(controls=[dict(name='c', config='a.py', restart_at='t')]),
            r"restart_at` must name a stage after the first one \(\['s'\]\)",
        ),
        (
            dict(stages=stage(load_from='s')),
            r'stages\[0\].load_from` must name a stage before it \(\[\]\)',
        ),
        (
            dict(stages=stage(cfg_options={'model.student_init': 'x'})),
            r"sets \['model.student_init'\]",
        ),
        (dict(until=dict(patience=3)), '`until.min_gain` is missing'),
        (dict(cfg_options=['a=1']), r"`cfg_options` must be .*\['a=1'\]"),
        (
            dict(stages=stage(cfg_options=['a=1'])),
            r"`stages\[0\].cfg_options` must be .*\['a=1'\]",
        ),
    ],
)
def test_wrong_content_is_named(
    write: Any, content: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        read_pipeline(write(**content))


def test_what_is_no_config_is_named(write: Any, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match='cannot be applied'):
        read_pipeline(write(), {'stages.9.epochs': 1})
    (tmp_path / 'typo.py').write_text('stages = [')
    with pytest.raises(ValueError, match=r"typo\.py' cannot be read"):
        read_pipeline(tmp_path / 'typo.py')


def test_missing_files_are_named(write: Any, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match='no pipeline config'):
        read_pipeline(tmp_path / 'gone.py')
    with pytest.raises(FileNotFoundError, match=r"config`='gone.py'"):
        read_pipeline(write(stages=stage(config='gone.py')))
