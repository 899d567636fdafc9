# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""Head, labels and metrics that do not agree are found before a step."""

from __future__ import annotations

from pathlib import Path

import cv2
import mmpretrain
import numpy as np
import pytest
from mmcv.transforms import BaseTransform
from mmengine.config import Config
from mmengine.registry import DATASETS, DefaultScope
from torch.utils.data import DataLoader, IterableDataset

from reducenet_mm.engine import preflight
from reducenet_mm.engine.preflight import build_model, walk_model
from tests.config_runs import LEAVES, load, stem
from tests.test_engine.conftest import CONFIG, TRAIN
from tests.tiny_data import use_tiny_data

MIM = Path(mmpretrain.__file__).parent / '.mim/configs'
STOCK = [
    'arcface/resnet50-arcface_8xb32_inshop.py',
    'lenet/lenet5_mnist.py',
    'resnet/resnet18_8xb16_cifar10.py',
    'resnet/resnet18_8xb32_in1k.py',
    'resnet/resnet50_8xb32-mixup_in1k.py',
    'vgg/vgg11_8xb32_in1k.py',
    'csra/resnet101-csra_1xb16_voc07-448px.py',
]
"""Configs of MMPretrain, of one label an image and of several."""

EVALUATOR = """
val_dataloader = dict(
    batch_size=1,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(type='Digits', split='val'),
)
val_cfg = dict()
val_evaluator = {}
"""


def write_images(root: Path, counts: dict[str, int]) -> None:
    """Write so many 8x8 images into the folder of each class."""
    rng = np.random.RandomState(0)
    for name, count in counts.items():
        (root / name).mkdir(parents=True)
        for index in range(count):
            image = rng.randint(0, 256, (8, 8), np.uint8)
            assert cv2.imwrite(str(root / name / f'{index}.png'), image)


def folder_config(root: Path, model: str, classes: int, inner: str) -> Path:
    """Write a training config of images in folders."""
    dataset = f"""dict(
        type='CustomDataset',
        data_root={str(root)!r},
        {inner}
        pipeline=[
            dict(type='LoadImageFromFile', color_type='grayscale'),
            dict(type='PackInputs'),
        ],
    )"""
    text = CONFIG.format(model=model, dataset=dataset)
    path = root / 'config.py'
    path.write_text(
        text.replace('num_classes=10', f'num_classes={classes}')
        + f'work_dir = {str(root / "work_dir")!r}\n'
    )
    return path


INPLACE = "dict(type='mmrazor.InplaceDistill', architecture=classifier)"
HOOKS = "\ncustom_hooks = [dict(type='mmrazor.InplaceHook')]\n"


@pytest.mark.parametrize(
    'inner', ["data_prefix='images',", "ann_file='list.txt',"]
)
@pytest.mark.parametrize(
    ('model', 'key'),
    [
        ('classifier', 'model.head.num_classes'),
        (INPLACE, 'model.architecture.head.num_classes'),
    ],
)
def test_labels_that_the_head_does_not_have(
    tmp_path, capsys, inner, model, key
):
    images = tmp_path / 'images'
    write_images(images, dict(ants=2, bees=2, cats=1))
    files = sorted(images.glob('*/*.png'))
    names = ['ants', 'bees', 'cats']
    lines = [f'{f} {names.index(f.parent.name)}' for f in files]
    (tmp_path / 'list.txt').write_text('\n'.join(lines))

    config = folder_config(tmp_path, model, 2, inner)
    config.write_text(config.read_text() + HOOKS * (model == INPLACE))
    with pytest.raises(SystemExit) as stopped:
        TRAIN([str(config)])
    assert stopped.value.code == 2
    (line,) = [
        line
        for line in capsys.readouterr().err.splitlines()
        if line.startswith('train.py: error: ')
    ]
    assert f'{key}=2, but train_dataloader.dataset has labels up to 2' in line
    assert f'Set {key}=3, and data_preprocessor.num_classes=3' in line
    assert not list((tmp_path / 'work_dir').glob('*.pth'))

    text = config.read_text().replace('num_classes=2', 'num_classes=3')
    config.write_text(text)
    TRAIN([str(config)])
    assert (tmp_path / 'work_dir/epoch_1.pth').exists()


@pytest.mark.parametrize(
    ('evaluator', 'key'),
    [
        ("dict(type='Accuracy', topk=(1, 11))", 'val_evaluator.topk=(1, 11)'),
        (
            "[dict(type='SingleLabelMetric'), "
            "dict(type='mmpretrain.Accuracy', topk=11)]",
            'val_evaluator.1.topk=11',
        ),
        (
            "dict(type='Evaluator', metrics=[dict(type='Accuracy', "
            'topk=(11,))])',
            'val_evaluator.metrics.0.topk=(11,)',
        ),
    ],
)
def test_accuracy_among_more_classes_than_there_are(
    make_config, refuse, evaluator, key
):
    config = make_config()
    config.write_text(config.read_text() + EVALUATOR.format(evaluator))
    line = refuse(config)
    assert key in line and 'model.head.num_classes=10' in line
    config.write_text(config.read_text().replace('11', '10'))
    check(Config.fromfile(config))


def check(cfg: Config) -> None:
    fields = ('val_evaluator', 'test_evaluator')
    with preflight.no_side_effects():
        model = build_model(cfg, walk_model(cfg), init_weights=False)
        preflight.check_topk(cfg, model, fields)


@pytest.mark.parametrize('path', LEAVES, ids=stem)
def test_our_own_configs_pass(path, tmp_path):
    cfg = use_tiny_data(load(path), tmp_path)
    check(cfg)
    with (
        preflight.no_side_effects(),
        DefaultScope.overwrite_default_scope('mmpretrain'),
    ):
        model = build_model(cfg, walk_model(cfg), init_weights=False)
        dataset = DATASETS.build(cfg.train_dataloader.dataset)
    preflight.check_labels(model, dataset)
    assert len(dataset) == 4
    head = getattr(model, 'architecture', model).head
    head.num_classes -= 1  # the images are of the first and the last class
    with pytest.raises(ValueError, match=f'={head.num_classes}, but '):
        preflight.check_labels(model, dataset)


@pytest.mark.parametrize('name', STOCK)
def test_configs_of_mmpretrain_pass(name):
    check(Config.fromfile(MIM / name))


def test_images_of_several_classes_are_passed_over(classifier):
    class Several:
        def __len__(self) -> int:
            return 1

        def get_data_info(self, index: int) -> dict:
            return dict(gt_label=[0, 7])

    preflight.check_labels(classifier, Several())
    preflight.check_labels(classifier, [])
    classifier.head.num_classes = None
    preflight.check_labels(classifier, Several())


def test_a_stream_of_images_is_passed_over(classifier):
    class Stream(IterableDataset):
        def __iter__(self):
            yield from ()

    stream = DataLoader(Stream(), batch_size=4, drop_last=True)
    preflight.check_data(classifier, stream)


class Halved(BaseTransform):
    """Two classes of the data set become one of the network."""

    def transform(self, results: dict) -> dict:
        return dict(results, gt_label=results['gt_label'] // 2)


@pytest.mark.parametrize(
    'wrap',
    [
        lambda one: one,
        lambda one: dict(type='RepeatDataset', times=2, dataset=one),
        lambda one: dict(type='ConcatDataset', datasets=[one, one]),
    ],
)
def test_what_counts_is_what_the_pipeline_makes_of_a_label(classifier, wrap):
    classifier.head.num_classes = 5
    steps = [dict(type='SeedSample'), dict(type='PackInputs')]
    digits = dict(type='Digits', split='train', pipeline=steps)
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        with pytest.raises(ValueError, match='=5, but .* labels up to 9'):
            preflight.check_labels(classifier, DATASETS.build(wrap(digits)))
        digits['pipeline'] = [steps[0], dict(type=Halved), steps[1]]
        preflight.check_labels(classifier, DATASETS.build(wrap(digits)))
        digits['pipeline'] = [dict(type='LoadImageFromFile')]  # there is none
        preflight.check_labels(classifier, DATASETS.build(wrap(digits)))
        classifier.head.num_classes = 1  # one logit, of yes and no
        digits['pipeline'] = steps
        preflight.check_labels(classifier, DATASETS.build(wrap(digits)))
