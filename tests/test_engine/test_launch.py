# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""The way from a command line to a Runner's config."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from mmengine.config import Config
from mmengine.device import get_device

from reducenet_mm.engine import launch

Load = Callable[..., Config]


@pytest.fixture
def load(tmp_path: Path) -> Load:
    """``load(text, *argv)``: the config of a file with that text."""
    path = tmp_path / 'some_name.py'

    def load_text(text: str, *argv: str) -> Config:
        path.write_text(text)
        parser = argparse.ArgumentParser()
        launch.add_arguments(parser)
        args = launch.parse_args(parser, [str(path), *argv])
        return launch.load_config(args)

    return load_text


@pytest.mark.parametrize(
    ('text', 'argv', 'work_dir'),
    [
        ('', [], './work_dirs/some_name'),
        ("work_dir = 'a'", [], 'a'),
        ("work_dir = 'a'", ['--work-dir', 'b'], 'b'),
        ('', ['--cfg-options', 'work_dir=c'], 'c'),
        ('', ['--cfg-options', 'work_dir=c', '--work-dir', 'b'], 'b'),
    ],
)
def test_work_dir(load, text, argv, work_dir):
    assert load(text, *argv).work_dir == work_dir


def test_options_replace_nested_settings_and_items_of_lists(load):
    text = 'a = dict(b=1, c=[dict(d=2), dict(d=3)])'
    options = ['a.b=[4,5]', 'a.c.1.d=6', 'a.e=x']
    cfg = load(text, '--cfg-options', *options, '--launcher', 'pytorch')
    assert cfg.a == dict(b=[4, 5], c=[dict(d=2), dict(d=6)], e='x')
    assert cfg.launcher == 'pytorch'


@pytest.mark.parametrize(
    ('text', 'argv', 'message'),
    [
        ('a = (', [], 'some_name.py.*never closed'),
        ("custom_imports = dict(imports=['no_module'])", [], 'no_module'),
        ("_base_ = './none.py'", [], 'none.py'),
        ('a = b', [], "some_name.py.*NameError: name 'b'.*line 1"),
        ('filename = 1', [], 'some_name.py.*KeyError: filename is reserved'),
        ('a = [1]', ['--cfg-options', 'a.7=1'], r'a\.7.*cannot be applied'),
    ],
)
def test_what_is_no_config_is_a_value_error(load, text, argv, message):
    with pytest.raises(ValueError, match=message):
        load(text, *argv)


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ("_base_ = ['one.py', 'two.py']", "Duplicate key .*{'a'}"),
        ("_base_ = 'one.py'\nb = _base_.wodel", "'wodel'.*name.py', line 2"),
        ("_base_ = 'one.py'\nb = _base_['wodel']", 'KeyError: wodel .*line 2'),
        ("_base_ = 'typo.py'", r"'wodel' \(in '.*typo.py', line 3\)"),
        ("_base_ = 'one.py'\na = dict(b=dict(c=1))", 'b=.* cannot inherit'),
        ("_base_ = 'lazy.py'", 'must match the current configuration file'),
        (
            'import torch\na = torch.zeros(3)',
            r"RuntimeError: of which nothing else is known \(in '.*', line 2",
        ),
    ],
)
def test_errors_of_inheriting_name_file_and_reason(
    load, tmp_path, text, message
):
    (tmp_path / 'one.py').write_text('a = dict(b=1)')
    (tmp_path / 'two.py').write_text('a = dict(b=2)')
    (tmp_path / 'typo.py').write_text("_base_ = 'one.py'\n\nb = _base_.wodel")
    (tmp_path / 'lazy.py').write_text('from torch.nn import Linear')
    match = rf"config file '.*some_name\.py' cannot be read: .*{message}"
    with pytest.raises(ValueError, match=match):
        load(text)


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        (
            'from torch.nn import Lina\na = dict(b=[dict(type=Lina)])',
            'Lina',
        ),
        ('from torch import nn\na = dict(type=nn.Lina)', r'torch\.nn\.Lina'),
        ('import torsh\na = torsh.nn', "No module named 'torsh'"),
    ],
)
def test_a_typo_in_an_import_of_a_new_style_config(load, text, message):
    cfg = load(f'from mmengine.config import read_base\n{text}')
    match = rf"config file '.*some_name\.py' cannot be used: .*{message}"
    with pytest.raises(ValueError, match=match):
        launch.check_imports(cfg)


def test_an_import_that_no_setting_uses_may_fail(load):
    cfg = load('from mmengine.config import read_base\nimport torsh\na = 1')
    launch.check_imports(cfg)
    assert cfg.a == 1


@pytest.mark.parametrize(
    'text',
    [
        "custom_imports = dict(imports=['faulty_module'])",
        "a = __import__('faulty_module')",
    ],
)
def test_errors_of_imported_code_keep_their_traceback(
    load, tmp_path, monkeypatch, text
):
    (tmp_path / 'faulty_module.py').write_text('dict(a=1).b')
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(AttributeError, match="no attribute 'b'"):
        load(text)


def test_local_rank_of_the_launcher_has_priority(load, monkeypatch):
    monkeypatch.setenv('LOCAL_RANK', '3')
    load('', '--local-rank', '1')
    assert os.environ['LOCAL_RANK'] == '3'
    monkeypatch.delenv('LOCAL_RANK')
    load('', '--local-rank', '1')
    assert os.environ['LOCAL_RANK'] == '1'


def test_loader_defaults_leave_what_the_config_says():
    cfg = Config(
        dict(
            bare=dict(num_workers=2),
            set=dict(
                num_workers=2,
                pin_memory=True,
                persistent_workers=False,
                collate_fn=dict(type='pseudo_collate'),
            ),
            single=dict(num_workers=0, persistent_workers=True),
            absent=None,
        )
    )
    said = cfg.set.copy()
    launch.set_loader_defaults(cfg, ['bare', 'set', 'single', 'absent'])
    assert cfg.set == said
    assert cfg.bare == dict(
        num_workers=2,
        pin_memory=get_device() != 'cpu',
        persistent_workers=True,
        collate_fn=dict(type='default_collate'),
    )
    assert cfg.single.persistent_workers is False
    assert cfg.absent is None


@pytest.mark.parametrize('scope', ['mmpretrain', 'mmdet'])
def test_batches_of_other_toolboxes_stay_lists(scope):
    loader = dict(num_workers=0)
    cfg = Config(dict(default_scope=scope, loader=loader))
    launch.set_loader_defaults(cfg, ['loader'])
    assert ('collate_fn' in cfg.loader) == (scope == 'mmpretrain')


def test_loader_flags_override_the_config():
    loader = dict(num_workers=2, pin_memory=True, persistent_workers=True)
    cfg = Config(dict(loader=loader))
    launch.set_loader_defaults(
        cfg, ['loader'], pin_memory=False, persistent_workers=False
    )
    assert cfg.loader.pin_memory is False
    assert cfg.loader.persistent_workers is False


@pytest.mark.parametrize('kind', [ValueError, TypeError, FileNotFoundError])
def test_usage_error_is_one_line(kind, capsys, monkeypatch):
    monkeypatch.setenv('LOCAL_RANK', '0')
    with pytest.raises(SystemExit) as stopped, launch.usage_errors('tool'):
        raise kind('first\n  second')
    assert stopped.value.code == 2
    assert capsys.readouterr().err == 'tool: error: first second\n'


def test_usage_error_is_printed_once_on_a_machine(capsys, monkeypatch):
    monkeypatch.setenv('LOCAL_RANK', '1')
    with pytest.raises(SystemExit), launch.usage_errors('tool'):
        raise ValueError('message')
    assert capsys.readouterr().err == ''


def test_any_other_error_keeps_its_traceback():
    with pytest.raises(ZeroDivisionError), launch.usage_errors('tool'):
        raise ZeroDivisionError


@pytest.mark.skipif(get_device() != 'cpu', reason='allowed with a GPU')
def test_slurm_without_a_gpu_is_refused():
    with pytest.raises(ValueError, match="launcher='slurm'"):
        launch.join_processes(Config(dict(launcher='slurm')))
