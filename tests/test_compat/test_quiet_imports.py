# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""Two warnings of others are not shown; everything else still is."""

from __future__ import annotations

import sys
import warnings
from importlib import metadata
from pathlib import Path

import pytest

from reducenet_mm.compat import install_quiet_imports

ROOT = Path(__file__).parents[2]
CONFIG = ROOT / 'configs/_base_/default_runtime.py'  # of an mmpretrain:: base

PARSE = f"""
import reducenet_mm
from mmengine.config import Config
Config.fromfile({str(CONFIG)!r})
"""
LITE = 'mmcv-lite' in {d.metadata['Name'] for d in metadata.distributions()}


def shown(run, text: str) -> int:
    assert run.returncode == 0, run.stderr
    return run.stderr.count(text)


def test_a_config_of_mmpretrain_is_read_without_a_warning(run_python):
    run = run_python(PARSE, PYTHONWARNINGS='')
    assert shown(run, 'Warning') == 0, run.stderr


def test_the_user_can_have_the_warnings_back(run_python):
    run = run_python(PARSE, PYTHONWARNINGS='always')
    if LITE:
        assert shown(run, 'UserWarning: Fail to import') == 1
    assert shown(run, 'pkg_resources is deprecated') >= 1


@pytest.mark.parametrize(
    'own',
    [
        'import pkg_resources',
        "import importlib; importlib.import_module('pkg_resources')",
        "warnings.warn('pkg_resources is deprecated as an API')",
        "warnings.warn('Fail to import ``MultiScaleDeformableAttention`` "
        "from ``mmcv.ops.multi_scale_deform_attn``')",
        "warnings.warn('mine')",
    ],
)
def test_a_users_own_warning_is_shown(run_python, own):
    code = f'import reducenet_mm, sys, warnings\n{own}'
    run = run_python(code, PYTHONWARNINGS='')
    assert shown(run, 'UserWarning') == 1, run.stderr


def test_other_warnings_of_the_same_modules_are_shown():
    with warnings.catch_warnings(record=True) as caught:
        warnings.resetwarnings()
        install_quiet_imports()
        for module, text, category in (
            ('mmcv.cnn.bricks.transformer', 'another', UserWarning),
            ('mmengine.utils.package_utils', 'another', UserWarning),
            (
                'mmengine.utils.package_utils',
                'pkg_resources is deprecated as an API',
                FutureWarning,
            ),
            (
                'mmengine.utils.package_utils',
                'pkg_resources is deprecated as an API',
                UserWarning,  # the one that is ignored
            ),
        ):
            warnings.warn_explicit(text, category, 'a.py', 1, module)
    assert [str(warning.message) for warning in caught] == [
        'another',
        'another',
        'pkg_resources is deprecated as an API',
    ]


def test_install_is_idempotent():
    with warnings.catch_warnings():
        warnings.resetwarnings()
        install_quiet_imports()
        before = list(warnings.filters)
        assert len(before) == 3, sys.version
        install_quiet_imports()
        assert list(warnings.filters) == before
