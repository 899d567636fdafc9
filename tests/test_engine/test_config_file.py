# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""Reading a config file: what is wrong in it is an error of its author."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from mmengine.config import Config

from reducenet_mm.engine.config_file import read_config

Load = Callable[..., Config]


@pytest.fixture
def load(tmp_path: Path) -> Load:
    """``load(text, options)``: the config of a file with that text."""
    path = tmp_path / 'some_name.py'

    def load_text(text: str, options: dict | None = None) -> Config:
        path.write_text(text)
        return read_config(str(path), options)

    return load_text


def test_a_file_that_is_not_there_is_named(tmp_path):
    path = str(tmp_path / 'none.py')
    with pytest.raises(FileNotFoundError) as refused:
        read_config(path, {})
    assert str(refused.value) == f'config file {path!r} is not there.'


@pytest.mark.parametrize(
    ('text', 'options', 'message'),
    [
        ('a = (', {}, 'some_name.py.*never closed'),
        ("custom_imports = dict(imports=['no_module'])", {}, 'no_module'),
        ("_base_ = './none.py'", {}, 'none.py'),
        ('a = b', {}, "some_name.py.*NameError: name 'b'.*line 1"),
        ('filename = 1', {}, 'some_name.py.*KeyError: filename is reserved'),
        ('a = [1]', {'a.7': 1}, r'a\.7.*cannot be applied'),
        ('a = [dict(b=1)]', {'a.0': 'c'}, r'a\.0.*cannot be applied'),
    ],
)
def test_what_is_no_config_is_a_value_error(load, text, options, message):
    with pytest.raises(ValueError, match=message):
        load(text, options)


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
    match = rf"config file '.*some_name\.py' cannot be used: .*{message}"
    with pytest.raises(ValueError, match=match):
        load(f'from mmengine.config import read_base\n{text}')


def test_an_import_that_no_setting_uses_may_fail(load):
    cfg = load('from mmengine.config import read_base\nimport torsh\na = 1')
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


def test_a_typo_in_the_section_of_an_option_is_told(load):
    text = 'train_dataloader = dict(batch_size=8)\nown = 1'
    for key, hint in (
        ('train_dataloder.batch_size', 'train_dataloader'),
        ('randomnes.seed', 'randomness'),  # though it is not in the file
    ):
        with pytest.raises(ValueError) as error:
            load(text, {key: 1})
        assert f'--cfg-options {key}=1: there is no section' in str(
            error.value
        )
        assert f"Did you mean '{hint}'?" in str(error.value)
    options = {'own': 2, 'randomness.seed': 3, 'train_evaluator.a': 4}
    cfg = load(text, options)
    assert (cfg.own, cfg.randomness.seed, cfg.train_evaluator.a) == (2, 3, 4)
