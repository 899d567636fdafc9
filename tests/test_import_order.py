# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""Imports go one way, as CONTRIBUTING.md says."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = 'reducenet_mm'
ORDER = [
    f'{PACKAGE}.experiments',
    f'{PACKAGE}.export',
    f'{PACKAGE}.engine',
    f'{PACKAGE}.models.algorithms',
    f'{PACKAGE}.models.backbones',
    f'{PACKAGE}.models',
    f'{PACKAGE}.models.layers',
]
"""What may import all that is below it."""

KINDS = ('benchmarks', 'campaign', 'kills', 'pipeline')
"""Folders of experiments, which do not import one another."""

ALLOWED = {(f'{PACKAGE}.experiments.pipeline.pipeline', 'benchmarks')}
"""But for a pipeline's latency."""


def imports(file: Path) -> Iterator[tuple[str, str]]:
    """Yield the name of a module with each module that it imports from."""
    parts = list(file.relative_to(ROOT).with_suffix('').parts)
    package = parts[:-1]
    name = '.'.join(package if parts[-1] == '__init__' else parts)
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom):
            start = package[: len(package) - node.level + 1]
            prefix = start if node.level else []
            yield name, '.'.join([*prefix, *filter(None, [node.module])])


def place(module: str) -> int | None:
    """Return where in ``ORDER`` a module is, the longest name first."""
    found = [p for p in ORDER if f'{module}.'.startswith(f'{p}.')]
    return ORDER.index(max(found, key=len)) if found else None


FILES = sorted((ROOT / PACKAGE).rglob('*.py'))


def test_modules_are_found_by_their_imports() -> None:
    file = ROOT / PACKAGE / 'models/layers/host.py'
    assert (
        f'{PACKAGE}.models.layers.host',
        f'{PACKAGE}.models.layers.views',
    ) in imports(file)
    assert place(f'{PACKAGE}.models.layers.views') == len(ORDER) - 1
    assert place(f'{PACKAGE}.models.supernet') == len(ORDER) - 2
    assert place(f'{PACKAGE}.files') is None


@pytest.mark.parametrize('folder', ORDER)
def test_nothing_imports_what_is_above_it(folder: str) -> None:
    above = range(ORDER.index(folder))
    upwards = [
        (name, other)
        for file in FILES
        for name, other in imports(file)
        if place(name) == ORDER.index(folder)
        and place(other) in above
        and file.name != '__init__.py'  # hands on what is beside it
    ]
    assert upwards == []


def test_kinds_of_experiments_do_not_import_one_another() -> None:
    start = f'{PACKAGE}.experiments.'
    found = set()
    for file in FILES:
        for name, other in imports(file):
            if name.startswith(start) and other.startswith(start):
                one, two = (
                    x[len(start) :].split('.')[0] for x in (name, other)
                )
                if one in KINDS and two in KINDS and one != two:
                    found.add((name, two))
    assert found == ALLOWED
