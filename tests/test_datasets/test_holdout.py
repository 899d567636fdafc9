# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
import copy
import hashlib

import numpy as np
import pytest
from mmengine.dataset import BaseDataset
from mmpretrain.registry import DATASETS

from reducenet_mm.datasets import Digits, holdout_indices

LABELS = np.random.RandomState(0).permutation(np.repeat(np.arange(7), 40))


def build(inner=None, **kwargs):
    inner = inner or dict(type='Digits', split='train')
    cfg = dict(part='train', val_size=100, dataset=inner, **kwargs)
    return DATASETS.build(dict(type='HoldoutSplit', **cfg))


def images(dataset):
    """The images as a set of bytes."""
    infos = (dataset.get_data_info(i) for i in range(len(dataset)))
    return {info['img'].tobytes() for info in infos}


def test_indices_are_the_recorded_ones():
    val = holdout_indices(LABELS, 'val', 35, seed=3)
    train = holdout_indices(LABELS, 'train', 35, seed=3, train_size=70)
    digest = hashlib.sha256(
        np.concatenate([val, train]).astype('<i8').tobytes()
    ).hexdigest()
    assert digest[:16] == '1a038de373ef86ed'
    other = holdout_indices(LABELS, 'val', 35, seed=4)
    assert not np.array_equal(val, other)


@pytest.mark.parametrize('val_size', [7, 35, 38, 273])
def test_parts_are_disjoint_whole_and_balanced(val_size):
    val = holdout_indices(LABELS, 'val', val_size)
    train = holdout_indices(LABELS, 'train', val_size)
    assert len(val) == val_size
    together = np.sort(np.concatenate([val, train]))
    np.testing.assert_array_equal(together, np.arange(len(LABELS)))
    counts = np.bincount(LABELS[val], minlength=7)
    share, extra = divmod(val_size, 7)
    assert counts.tolist() == [share + 1] * extra + [share] * (7 - extra)


def test_sizes_are_nested():
    sizes = [7, 8, 20, 70, 245]
    parts = [holdout_indices(LABELS, 'train', 35, train_size=n) for n in sizes]
    assert [len(part) for part in parts] == sizes
    for smaller, larger in zip(parts, parts[1:], strict=False):
        assert np.isin(smaller, larger).all()
    np.testing.assert_array_equal(
        parts[-1], holdout_indices(LABELS, 'train', 35)
    )
    smaller = holdout_indices(LABELS, 'val', 20)
    assert np.isin(smaller, holdout_indices(LABELS, 'val', 35)).all()


def test_unequal_classes_and_gaps_in_their_numbers():
    labels = np.array([5] * 10 + [9] * 3 + [2] * 6)
    train = holdout_indices(labels, 'train', 5, train_size=5)
    # Two of 2, two of 5 and one of 9 are held out; then two of each remain
    # to give, and only the classes before the scarcest one can give more.
    assert sorted(labels[train].tolist()) == [2, 2, 5, 5, 9]
    with pytest.raises(ValueError, match='from 3 to 8 .*got train_size=9'):
        holdout_indices(labels, 'train', 5, train_size=9)


def test_stratified_parts_have_the_shares_of_the_whole():
    labels = np.repeat([0, 1, 2, 3], [500, 400, 6, 1])
    settings = dict(seed=1, stratified=True)
    val = holdout_indices(labels, 'val', 90, **settings)
    train = holdout_indices(labels, 'train', 90, **settings)
    together = np.sort(np.concatenate([val, train]))
    np.testing.assert_array_equal(together, np.arange(len(labels)))
    # One of 2, at least; then 499 to 399 share 89 as 49.46 to 39.54. The one
    # image of 3 is trained on.
    assert np.bincount(labels[val], minlength=4).tolist() == [49, 40, 1, 0]
    some = holdout_indices(labels, 'train', 90, train_size=60, **settings)
    assert np.bincount(labels[some]).tolist() == [32, 26, 1, 1]
    for smaller in (3, 10, 89):
        part = holdout_indices(labels, 'val', smaller, **settings)
        assert len(part) == smaller and np.isin(part, val).all()
    with pytest.raises(ValueError, match='from 3 to 903 .*stratified'):
        holdout_indices(labels, 'val', 904, **settings)
    with pytest.raises(ValueError, match='stratified=True divides'):
        holdout_indices(labels, 'val', 90)
    balanced = holdout_indices(LABELS, 'val', 70, stratified=True)
    assert np.array_equal(balanced, holdout_indices(LABELS, 'val', 70))


def test_build_keeps_part_of_the_inner_data_set_in_place():
    inner = dict(type='Digits', metainfo=dict(note='kept'), lazy_init=True)
    before = copy.deepcopy(inner)
    val = build(inner)
    assert inner == before
    assert type(val) is Digits
    assert val.metainfo['note'] == 'kept'
    assert val.CLASSES == tuple('0123456789')


def test_build_keeps_the_right_images():
    whole = images(Digits(split='train'))
    val = DATASETS.build(
        dict(
            type='HoldoutSplit',
            part='val',
            val_size=100,
            dataset=dict(type='Digits'),
        )
    )
    train, few = build(), build(train_size=50)
    assert (len(val), len(train), len(few)) == (100, 897, 50)
    assert np.bincount(val.get_gt_labels()).tolist() == [10] * 10
    assert np.bincount(few.get_gt_labels()).tolist() == [5] * 10
    assert not images(val) & images(train)
    assert images(val) | images(train) == whole
    assert images(few) <= images(train)
    labels = Digits(split='train').get_gt_labels()
    wanted = holdout_indices(labels, 'val', 100)
    np.testing.assert_array_equal(val.get_gt_labels(), labels[wanted])


def test_the_test_split_of_digits_stays_out():
    assert not images(build()) & images(Digits(split='test'))


@pytest.mark.parametrize(
    ('kwargs', 'message'),
    [
        (dict(part='test'), r"got part='test'.*`\*_dataloader.dataset.part`"),
        (dict(val_size=9), r'an int from 10 to 938 .*got val_size=9\.'),
        (dict(val_size=939), r'got val_size=939.*`.*dataset.val_size`'),
        (dict(val_size=0.1), r'got val_size=0\.1'),
        (dict(val_size=True), r'got val_size=True'),
        (dict(train_size=0), r'got train_size=0.*`.*dataset.train_size`'),
        (dict(train_size=849), r'from 10 to 848 .*got train_size=849'),
        (dict(seed=-1), r'got seed=-1.*`.*dataset.seed`'),
    ],
)
def test_bad_arguments(kwargs, message):
    cfg = dict(part='train', val_size=100, dataset=dict(type='Digits'))
    with pytest.raises(ValueError, match=message):
        DATASETS.build(dict(type='HoldoutSplit', **{**cfg, **kwargs}))


def test_a_pipeline_is_only_repeated():
    steps = [dict(type='PackInputs')]
    inner = dict(type='Digits', pipeline=steps)
    cfg = dict(type='HoldoutSplit', part='val', val_size=10, dataset=inner)
    repeated = DATASETS.build(dict(cfg, pipeline=tuple(steps)))
    assert images(repeated) == images(DATASETS.build(cfg))
    with pytest.raises(ValueError, match=r'`\*_dataloader.dataset.pipeline`'):
        DATASETS.build(dict(cfg, pipeline=[]))


def test_no_class_left_to_train_on():
    with pytest.raises(ValueError, match='at least 2, of which .* only 1'):
        holdout_indices(np.array([0, 0, 1]), 'val', 1)


@pytest.mark.parametrize('labels', [[None, None], [[0, 1], [2]], [0.5, 1.0]])
def test_images_without_one_class_each(labels):
    class Odd(BaseDataset):
        def load_data_list(self):
            return [dict(gt_label=label) for label in labels]

    with pytest.raises(TypeError, match='gt_label.* which Odd does not give'):
        build(dict(type=Odd))


def test_wrappers_are_refused():
    inner = dict(
        type='ConcatDataset', datasets=[dict(type='mmpretrain.Digits')]
    )
    with pytest.raises(TypeError, match='got ConcatDataset.*dataset.type`'):
        build(inner)
