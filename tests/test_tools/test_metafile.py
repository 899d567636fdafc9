# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""The model index is what the tool writes, and MMPretrain reads it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import mmpretrain
import pytest
import yaml
from mmpretrain.apis.model import ModelHub

from reducenet_mm.experiments import metafile

ROOT = Path(__file__).parents[2]
PARAMS = {
    'reducenet8-w16-e4_digits_teacher': 201_754,
    'reducenet8-w16-e4_digits_student': 77_754,
    'plain8-w16_digits': 77_754,
    'grafted-resnet18-w8-e4_digits_teacher': 517_090,
    'grafted-resnet18-w8-e4_digits_student': 176_258,
    'resnet18-w8_digits': 176_258,
    'reducenet8-w16-e4_fashion-mnist_teacher': 201_754,
    'reducenet8-w16-e4_fashion-mnist_student': 77_754,
    'plain8-w16_fashion-mnist': 77_754,
}
"""Parameters by name, in the order of the file."""
NAMES = list(PARAMS)


@pytest.fixture
def tool(load_tool: Callable[[str], SimpleNamespace]) -> SimpleNamespace:
    return load_tool('analysis_tools/write_metafile')


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of what the tool reads."""
    shutil.copytree(ROOT / 'configs', tmp_path / 'configs')
    for name in metafile.REPORTS:
        (tmp_path / name).parent.mkdir(parents=True)
        shutil.copy(ROOT / name, tmp_path / name)
    speeds = metafile.SPEEDS
    shutil.copytree(ROOT / speeds, tmp_path / speeds)
    return tmp_path


def edit(path: Path, change: Callable[[Any], None]) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def models(root: Path) -> dict[str, Any]:
    text = metafile.metafiles(root)[root / metafile.METAFILE]
    return {one['Name']: one for one in yaml.safe_load(text)['Models']}


def test_the_committed_files_are_what_the_tool_writes(
    tool: SimpleNamespace, checkout: Path, capsys: Any
) -> None:
    (checkout / metafile.METAFILE).unlink()
    tool.main(['--root', str(checkout)])
    printed = capsys.readouterr().out
    for name in (metafile.METAFILE, metafile.INDEX):
        assert str(checkout / name) in printed
        text = (checkout / name).read_text()
        assert text == (ROOT / name).read_text(), (
            f'{name} is old: run `python '
            'tools/analysis_tools/write_metafile.py`'
        )
        assert 'tools/analysis_tools/write_metafile.py`' in text[:100]


def test_mmpretrain_lists_and_builds_the_models(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ModelHub, '_models_dict', {})
    # MMPretrain's own five hundred take long to read.
    monkeypatch.setattr(ModelHub, '_ModelHub__mmpretrain_registered', True)
    ModelHub.register_model_index(ROOT / metafile.INDEX, config_prefix=ROOT)
    assert mmpretrain.list_models() == sorted(NAMES)
    assert mmpretrain.list_models('plain8') == [NAMES[2], NAMES[8]]
    task = 'Image Classification'
    assert mmpretrain.list_models(task=task) == sorted(NAMES)
    for name in NAMES:
        model = mmpretrain.get_model(name)
        info = model._metainfo
        assert info.weights is None
        whole = info.full_model.metadata  # with that of the collection
        assert 'linear layers' in whole.data['FLOPs Counted']
        params = sum(param.numel() for param in model.parameters())
        assert params == info.metadata.parameters
        assert params == PARAMS[name]


def test_figures_are_those_of_the_reports(checkout: Path) -> None:
    def change(report: Any) -> None:
        report['networks'][1].update(accuracy=12.345678, training_epochs=[7])
        report['runs'][1]['epochs'] = 7

    edit(checkout / metafile.REPORTS[0], change)
    found = models(checkout)
    assert list(found) == NAMES
    student = found[NAMES[1]]
    assert student['Results'][0]['Metrics'] == {'Top 1 Accuracy': 12.35}
    assert student['Metadata']['Epochs'] == 7
    assert student['Metadata']['FLOPs'] == 763_520
    assert student['Metadata']['MMEngine FLOPs'] == 774_528
    assert student['Metadata']['Training Techniques'] == [
        'SGD with Momentum',
        'Weight Decay',
        'Cosine Annealing',
        'Weights of the Supernet without Branches (SupernetDistill)',
        'Knowledge Distillation (KLDivergence)',
    ]
    # It is a network like the control, with weights trained otherwise.
    assert student['Config'] == found[NAMES[2]]['Config']
    assert student['Config'].endswith('/plain8-w16_digits.py')
    assert student['Metadata']['Training Config'].endswith(
        '/reducenet8-w16-e4_digits_student.py'
    )
    for name in (NAMES[0], NAMES[2]):
        config = found[name]['Config']
        assert config == found[name]['Metadata']['Training Config']
    assert student['Metadata']['Training Data'] == 'Digits (scikit-learn)'
    # The control in one go, not the one with a restart.
    plain = json.loads((ROOT / metafile.REPORTS[0]).read_text())['networks'][2]
    assert plain['name'] == 'plain'
    assert found[NAMES[2]]['Metadata']['Epochs'] == plain['training_epochs'][0]


def test_what_the_benchmark_has_written_becomes_rows(checkout: Path) -> None:
    rates = dict(teacher=50.0, student=80.0, deployed=100.0, plain=125.0)
    speed = dict(
        settings=dict(device='cpu', threads=2, input_shape=[1, 8, 8]),
        results=dict(
            onnx={
                '64': dict(
                    images_per_second={
                        name: dict(median=rate) for name, rate in rates.items()
                    }
                )
            }
        ),
    )
    path = checkout / metafile.SPEEDS / 'digits.json'
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(speed))
    found = models(checkout)
    key = 'inference time (ms/im)'
    assert found[NAMES[1]]['Metadata'][key] == [
        {
            'value': 10.0,  # as deployed
            'hardware': 'cpu, 2 threads',
            'backend': 'ONNX Runtime',
            'batch size': 64,
            'mode': 'FP32',
            'resolution': [8, 8],
        }
    ]
    values = [found[name]['Metadata'][key][0]['value'] for name in NAMES[:3]]
    assert values == [20.0, 10.0, 8.0]
    assert key not in found[NAMES[3]]['Metadata']


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (
            lambda report: report['networks'][1].update(params=5),
            "says params=5 of 'student', its config",
        ),
        (
            lambda report: report['networks'][0].update(multiply_adds=6),
            "says multiply_adds=6 of 'teacher'",
        ),
        (
            lambda report: report['runs'][0].update(config='no/config.py'),
            "names the config 'no/config.py'",
        ),
        (
            lambda report: report['runs'][2].update(periods=[100, 42]),
            'has no control in one go',
        ),
    ],
)
def test_a_report_of_another_network_is_refused(
    tool: SimpleNamespace,
    checkout: Path,
    change: Callable[[Any], None],
    message: str,
    capsys: Any,
) -> None:
    edit(checkout / metafile.REPORTS[0], change)
    before = (checkout / metafile.METAFILE).read_text()
    with pytest.raises(SystemExit) as caught:
        tool.main(['--root', str(checkout)])
    assert caught.value.code == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith('write_metafile.py: error: ')
    assert message in error and 'tools/reduce.py' in error
    assert (checkout / metafile.METAFILE).read_text() == before
    assert not (checkout / metafile.INDEX).exists()


def test_a_missing_report_is_named(
    tool: SimpleNamespace, checkout: Path, capsys: Any
) -> None:
    (checkout / metafile.REPORTS[-1]).unlink()
    with pytest.raises(SystemExit):
        tool.main(['--root', str(checkout)])
    assert 'fashion-mnist/report.json' in capsys.readouterr().err
