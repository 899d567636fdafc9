# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""tools/test.py: which network it tests, and where the result goes."""

from __future__ import annotations

import copy
import json
import os
import pickle
import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from mmengine.config import Config
from mmpretrain.registry import DATASETS, MODELS
from torch import Tensor, nn

IMAGES = 500
"""Size of the digits' test set."""

TEACHER, STUDENT = 'epoch_4.pth', 'epoch_2.pth'

Weights = dict[str, Tensor]
RunTest = Callable[..., dict]


def read_weights(path: Path) -> Weights:
    return torch.load(path, map_location='cpu')['state_dict']


def load(cfg: Config, weights: Weights) -> tuple[nn.Module, Tensor, Tensor]:
    """Build a plain network by hand, and the test set as two tensors.

    Returns:
        The network, images ``(500, 1, 8, 8)`` and labels ``(500,)``.
    """
    preprocessor = cfg.data_preprocessor
    model = MODELS.build(dict(cfg.model, data_preprocessor=preprocessor))
    model.eval()
    model.load_state_dict(weights)
    items = list(DATASETS.build(cfg.test_dataloader.dataset))
    images = torch.stack([item['inputs'] for item in items])
    images = model.data_preprocessor(dict(inputs=images))['inputs']
    labels = torch.cat([item['data_samples'].gt_label for item in items])
    assert images.shape == (IMAGES, 1, 8, 8)
    return model.requires_grad_(False), images, labels


def percent(scores: Tensor, labels: Tensor) -> float:
    """Percent of the images whose highest score is their label's."""
    return 100 * (scores.argmax(1) == labels).double().mean().item()


def accuracy(cfg: Config, weights: Weights) -> float:
    model, images, labels = load(cfg, weights)
    return percent(model(images), labels)


@pytest.fixture(scope='module')
def expected(
    config: SimpleNamespace, teacher_run: Path, student_run: Path
) -> dict[int, float]:
    """Accuracy of teacher (1) and student (0), each on a network of its own.

    The teacher's comes from the teacher's checkpoint, the student's from a
    network without branches.
    """
    cfg = Config.fromfile(config.teacher)
    cfg.merge_from_dict(config.narrow)
    teacher = accuracy(cfg, read_weights(teacher_run / TEACHER))
    cfg.model.backbone = dict(
        type='PlainResNet', depth=8, base_channels=8, in_channels=1
    )
    prefix = 'architecture.'
    student = accuracy(
        cfg,
        {
            key.removeprefix(prefix): value
            for key, value in read_weights(student_run / STUDENT).items()
            if key.startswith(prefix) and '.expand.' not in key
        },
    )
    assert teacher != student  # or a mix-up of the two would not show
    return {1: teacher, 0: student}


@pytest.fixture
def run_test(
    tmp_path: Path, load_tool: Callable, config: SimpleNamespace
) -> RunTest:
    """``run_test('teacher' or 'student', checkpoint, ...)`` -> metrics."""

    def run(network: str, checkpoint: Path, *argv: str) -> dict:
        out = tmp_path / 'results' / 'metrics.json'
        load_tool('test').main(
            [getattr(config, network), str(checkpoint), *argv]
            + ['--work-dir', str(tmp_path / 'work_dir'), '--out', str(out)]
            + ['--cfg-options', *getattr(config, f'{network}_model')]
        )
        assert os.listdir(out.parent) == [out.name]  # no partial file
        return json.loads(out.read_text())

    return run


@pytest.mark.parametrize('scaler', [0, 1])
@pytest.mark.parametrize('network', ['student', 'teacher'])
def test_one_distillation_checkpoint_gives_both_networks(
    run_test, expected, student_run, network, scaler
):
    """Under the distillation's config and under the plain one."""
    metrics = run_test(network, student_run / STUDENT, '--scaler', str(scaler))
    assert metrics['accuracy/top1'] == pytest.approx(expected[scaler])


def test_the_default_is_what_the_config_says(
    run_test, expected, teacher_run, student_run
):
    teacher = run_test('teacher', teacher_run / TEACHER)
    assert teacher['accuracy/top1'] == pytest.approx(expected[1])
    student = run_test('student', student_run / STUDENT)
    assert student['accuracy/top1'] == pytest.approx(expected[0])


def test_tta_averages_each_image_with_its_mirror_image(
    run_test, config, teacher_run
):
    cfg = Config.fromfile(config.teacher)
    cfg.merge_from_dict(config.narrow)
    model, images, labels = load(cfg, read_weights(teacher_run / TEACHER))
    mean = sum(model(x).softmax(1) for x in (images, images.flip(3))) / 2
    metrics = run_test('teacher', teacher_run / TEACHER, '--tta')
    assert metrics['accuracy/top1'] == pytest.approx(percent(mean, labels))


@pytest.mark.parametrize(
    ('setting', 'message'),
    [
        (
            "tta_model = dict(type='AverageClsTTA')",
            "tta_model and .* mean 'AverageClsScoreTTA'",
        ),
        (
            "tta_pipeline = [dict(type='PakInputs')]",
            "is tta_pipeline: .* mean 'PackInputs'",
        ),
        ('tta_model = None', 'tta_model must be a dict .*, got None'),
    ],
)
def test_what_is_wrong_of_tta_is_told_before_anything_is_written(
    tmp_path, load_tool, config, teacher_run, capsys, setting, message
):
    path = tmp_path / 'wrong.py'
    base = str(Path(config.teacher).resolve())
    path.write_text(f'_base_ = {base!r}\n{setting}')
    argv = [str(path), str(teacher_run / TEACHER), '--tta']
    argv += ['--work-dir', str(tmp_path / 'run')]
    with pytest.raises(SystemExit) as stopped:
        load_tool('test').main([*argv, '--cfg-options', *config.teacher_model])
    assert stopped.value.code == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert re.search(message, last)
    assert not (tmp_path / 'run').exists()


def test_tta_reaches_data_inside_wrappers(load_tool, config):
    apply_tta = load_tool('test').apply_tta
    inner = Config.fromfile(config.teacher).test_dataloader.dataset
    *_, pack = inner.pipeline
    for wrapper in (
        dict(type='RepeatDataset', times=2, dataset=inner),
        dict(type='ConcatDataset', datasets=[inner, inner]),
        dict(type='HoldoutSplit', dataset=inner, pipeline=inner.pipeline),
    ):
        cfg = Config.fromfile(config.teacher)
        cfg.test_dataloader.dataset = copy.deepcopy(wrapper)
        apply_tta(cfg)
        dataset = cfg.test_dataloader.dataset
        inside = dataset.get('datasets') or [dataset.dataset]
        for one in (*inside, *([dataset] if 'pipeline' in dataset else ())):
            (last,) = (s for s in one.pipeline if s.type == 'TestTimeAug')
            assert last.transforms[1] == [pack]
    for datasets in ([inner, dict(inner, pipeline=[])], [dict(type='X')]):
        wrapper = dict(type='ConcatDataset', datasets=datasets)
        cfg.test_dataloader.dataset = wrapper
        with pytest.raises(ValueError, match='the same in all of its data'):
            apply_tta(cfg)


def test_a_matrix_can_be_written(tmp_path, load_tool):
    out = tmp_path / 'metrics.json'
    metrics = {'confusion_matrix/result': torch.eye(2), 'accuracy/top1': 50.0}
    load_tool('test').dump_metrics(metrics, str(out))
    assert json.loads(out.read_text()) == {
        'confusion_matrix/result': [[1.0, 0.0], [0.0, 1.0]],
        'accuracy/top1': 50.0,
    }


def test_predictions_go_to_a_pickle(
    tmp_path, load_tool, config, expected, teacher_run
):
    out = tmp_path / 'predictions.pkl'
    load_tool('test').main(
        [config.teacher, str(teacher_run / TEACHER)]
        + ['--work-dir', str(tmp_path), '--out', str(out)]
        + ['--cfg-options', *config.teacher_model]
    )
    predictions = pickle.loads(out.read_bytes())
    right = [int(p['pred_label']) == int(p['gt_label']) for p in predictions]
    assert len(right) == IMAGES
    assert 100 * sum(right) / IMAGES == pytest.approx(expected[1])


@pytest.mark.parametrize(
    ('network', 'run', 'argv', 'message'),
    [
        ('student', 'student', ['--scaler', '0.5'], r'--scaler 0.5'),
        ('teacher', 'student', ['--scaler', '0.5'], r'scaler=0.5'),
        ('teacher', 'teacher', ['--scaler', '2'], r'in \[0, 1\], got 2'),
        ('student', 'teacher', [], 'holds a plain network'),
        ('teacher', 'teacher', ['--out-item', 'pred'], 'needs --out'),
        ('teacher', 'teacher', ['--out', 'p.txt'], r"--out 'p.txt' .*\.pkl"),
        (
            'teacher',
            'teacher',
            ['--out', 'm.csv', '--out-item', 'metrics'],
            r"--out 'm.csv' .*\.json",
        ),
        ('teacher', 'teacher', ['--out', f'{__file__}/m.json'], 'is a file; '),
        ('teacher', 'teacher', ['--work-dir', __file__], 'is a file; '),
    ],
)
def test_what_cannot_be_tested_is_refused(
    request, tmp_path, load_tool, config, capsys, network, run, argv, message
):
    folder = request.getfixturevalue(f'{run}_run')
    checkpoint = max(folder.glob('epoch_*.pth'))
    with pytest.raises(SystemExit) as stopped:
        load_tool('test').main(
            [getattr(config, network), str(checkpoint)]
            + ['--work-dir', str(tmp_path / 'run'), *argv, '--cfg-options']
            + getattr(config, f'{network}_model')
        )
    assert stopped.value.code == 2
    error = capsys.readouterr().err
    assert error.count('\n') == 1
    assert re.search(message, error)
    assert not (tmp_path / 'run').exists()


def test_no_interval_of_zero(load_tool, capsys):
    with pytest.raises(SystemExit):
        load_tool('test').main(['config.py', 'a.pth', '--interval', '0'])
    error = capsys.readouterr().err
    assert "--interval: must be an integer of at least 1, got '0'" in error


def drawn_config(scope: str, **settings: Any) -> Config:
    """A config with a hook that draws; of it only names and keys matter."""
    hooks = dict(visualization=dict(type='X'))
    model = dict(type='Y')
    found = dict(default_scope=scope, model=model, default_hooks=hooks)
    return Config({**found, **settings})


def show(load_tool: Callable, cfg: Config, *argv: str) -> Config:
    tool = load_tool('test')
    args = tool.build_parser().parse_args(['config.py', 'a.pth', *argv])
    tool.show_predictions(cfg, args)
    return cfg


@pytest.mark.parametrize(
    ('scope', 'keys'),
    [
        ('mmpretrain', dict(enable=True, out_dir='x')),
        ('mmdet', dict(draw=True, test_out_dir=str(Path('x').absolute()))),
        ('mmseg', dict(draw=True)),
    ],
)
def test_each_toolbox_is_told_to_draw_in_its_words(load_tool, scope, keys):
    backends = [dict(type='LocalVisBackend')]
    cfg = drawn_config(scope, visualizer=dict(vis_backends=backends))
    show(load_tool, cfg, '--show-dir', 'x', '--interval', '3')
    stock = dict(type='X', show=False, wait_time=2, interval=3)
    assert cfg.default_hooks.visualization == {**stock, **keys}
    folder = 'x' if scope == 'mmseg' else None
    assert cfg.visualizer.get('save_dir') == folder


def test_what_would_not_be_drawn_is_refused(load_tool):
    for visualizer in (None, dict(type='SegLocalVisualizer')):
        cfg = drawn_config('mmseg', visualizer=visualizer)
        with pytest.raises(ValueError, match='needs a `visualizer`'):
            show(load_tool, cfg, '--show-dir', 'x')
    with pytest.raises(ValueError, match='hook does either'):
        show(load_tool, drawn_config('mmseg'), '--show', '--show-dir', 'x')
    for scope, name in dict(mmpretrain="'Vis", mmdet="'DetVis").items():
        cfg = drawn_config(scope, default_hooks=dict())
        with pytest.raises(ValueError, match=f'{name}ualizationHook'):
            show(load_tool, cfg, '--show')


def test_a_file_in_the_place_of_drawings_is_refused(load_tool, tmp_path):
    file = tmp_path / 'file'
    file.touch()
    with pytest.raises(NotADirectoryError, match=str(file)):
        show(load_tool, drawn_config('mmseg'), '--show-dir', str(file))
