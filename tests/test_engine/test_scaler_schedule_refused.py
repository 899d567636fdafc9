# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""Models that the hook cannot anneal; it says why before any training."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from mmpretrain.registry import MODELS

from reducenet_mm.engine import LearnedMaskHook, ScalerScheduleHook
from reducenet_mm.models.supernet import hosts

REFUSED: dict[str, tuple[dict, dict, dict, str]] = {
    'recalibrated': (
        {},
        {},
        dict(norm_stats='recalibrated'),
        "norm_stats='recalibrated' with .*Set model.norm_stats",
    ),
    'merged': (
        {},
        dict(block='sequential', student_conv='merged'),
        {},
        r"conv1\.expand\.act.*set backbone\.student_conv='pair'",
    ),
    'no LambdaReLU': (
        dict(gates=['expand', 'lambda_relu']),
        {},
        {},
        r"has \('expand',\) of .*'lambda_relu' the block 'sequential'",
    ),
    'no branch': (
        dict(gates=['expand']),
        dict(block='sequential'),
        {},
        r"has \('lambda_relu',\) of .*'expand' needs a block",
    ),
    'a student without branches': (
        {},
        {},
        dict(student_init='before.pth'),
        r'has ended without `backbone\.layer1\.0\.conv1\.expand`',
    ),
    'a student that was linear': (
        {},
        dict(block='sequential'),
        dict(student_init='before.pth'),
        r"student_init='before\.pth' .* without `.*conv1\.pair\.act`",
    ),
    'branches at 0': (
        dict(gates=['lambda_relu']),
        dict(block='parallel', lora=dict(kind='kxk_1x1', act=True)),
        dict(train_branches=True),
        "leaves the branches at 0.*Add 'expand'",
    ),
}


@pytest.mark.parametrize('case', REFUSED)
def test_students_that_cannot_be_annealed_are_refused(case, classifier_cfg):
    settings, backbone, options, message = REFUSED[case]
    model = MODELS.build(
        dict(
            _scope_='mmrazor',
            type='SupernetDistill',
            architecture=classifier_cfg(**backbone),
            **options,
        )
    )
    with pytest.raises(ValueError, match=message):
        ScalerScheduleHook(**settings).before_train(
            SimpleNamespace(model=model)
        )
    assert {host.scaler for _, host in hosts(model)} == {0.0}


@pytest.mark.parametrize(
    ('backbone', 'message'),
    [
        (dict(), r'has scaler=1\.0\. Set model\.backbone\.scaler=0'),
        (dict(type='PlainResNet'), 'has none of'),
    ],
)
def test_plain_networks_that_cannot_be_annealed_are_refused(
    backbone, message, classifier_cfg
):
    cfg = classifier_cfg(**backbone)
    if backbone:
        del cfg['backbone']['expansion']
    runner = SimpleNamespace(model=MODELS.build(cfg))
    with pytest.raises(ValueError, match=message):
        ScalerScheduleHook().before_train(runner)


def test_an_algorithm_with_views_of_its_own_is_refused(classifier_cfg):
    two_networks = MODELS.build(
        dict(
            _scope_='mmrazor',
            type='SingleTeacherDistill',
            architecture=classifier_cfg(scaler=0.0),
            teacher=classifier_cfg(),
            distiller=dict(type='ConfigurableDistiller'),
        )
    )
    with pytest.raises(ValueError, match='Leave the hook out'):
        ScalerScheduleHook().before_train(SimpleNamespace(model=two_networks))


def test_the_learned_mask_is_called_by_its_own_name(classifier_cfg):
    """And is not told to change settings that it has not."""
    with pytest.raises(ValueError, match=r'^LearnedMaskHook\.begin must be'):
        LearnedMaskHook(begin=-1)
    model = MODELS.build(
        dict(
            _scope_='mmrazor',
            type='SupernetDistill',
            architecture=classifier_cfg(block='sequential'),
        )
    )
    with pytest.raises(ValueError) as error:
        LearnedMaskHook(end=1).check_fit(model, dict(max_epochs=3))
    assert str(error.value).startswith("LearnedMaskHook moves gates (['expand")
    assert 'gates=' not in str(error.value)
