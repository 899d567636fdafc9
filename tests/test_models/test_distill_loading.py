# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""SupernetDistill: strict loading, and settings that are refused."""

from __future__ import annotations

import copy
import os
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.runner.checkpoint import load_state_dict
from mmrazor.registry import MODELS

from reducenet_mm import set_scaler
from reducenet_mm.engine.preflight import forget_missing_inputs
from reducenet_mm.models.checkpoint_views import split_state_dict
from tests.conftest import randomise_norms
from tests.test_models.distillation import (
    assert_teacher_is,
    batch,
    soft_labels,
    teacher_copy,
    train,
)

# I5: strict loading


def test_the_student_starts_as_the_teacher(build, classifier, save):
    algorithm = build(load=False, teacher_ckpt=save(classifier))
    assert_teacher_is(algorithm, teacher_copy(classifier))
    own = algorithm.architecture.state_dict()
    for key, value in classifier.state_dict().items():
        assert torch.equal(own[key], value), key


def test_a_work_dir_means_its_last_checkpoint(
    build, classifier, save, tmp_path
):
    save(classifier, 'epoch_3.pth')
    (tmp_path / 'last_checkpoint').write_text('/elsewhere/epoch_3.pth')
    algorithm = build(load=False, teacher_ckpt=str(tmp_path))
    assert_teacher_is(algorithm, teacher_copy(classifier))


def test_a_copied_work_dir_means_its_own_checkpoint(
    build, classifier, save, tmp_path
):
    (tmp_path / 'original').mkdir()
    original = save(classifier, 'original/epoch_3.pth')
    state = torch.load(original)
    state['state_dict']['head.fc.weight'].add_(1)
    (tmp_path / 'copy').mkdir()
    torch.save(state, tmp_path / 'copy/epoch_3.pth')
    (tmp_path / 'copy/last_checkpoint').write_text(original)
    algorithm = build(load=False, teacher_ckpt=str(tmp_path / 'copy'))
    own = algorithm.architecture.head.fc.weight
    assert torch.equal(own, state['state_dict']['head.fc.weight'])


def test_times_of_copying_mean_nothing(build, classifier, save, tmp_path):
    last = Path(save(classifier, 'epoch_4.pth'))
    teacher = teacher_copy(classifier)
    with torch.no_grad():
        classifier.head.fc.weight.add_(1)
    save(classifier, 'epoch_3.pth')  # copied after epoch_4.pth
    os.utime(last, ns=(1, 1))
    (tmp_path / 'last_checkpoint').write_text('/elsewhere/epoch_4.pth')
    algorithm = build(load=False, teacher_ckpt=str(tmp_path))
    assert_teacher_is(algorithm, teacher)


@pytest.mark.parametrize('named', ['', 'epoch_4.pth'])
def test_a_kill_leaves_a_work_dir_that_means_a_checkpoint(
    build, classifier, save, tmp_path, logged, named
):
    save(classifier, 'epoch_3.pth')
    (tmp_path / 'epoch_4.pth').write_bytes(b'cut off')
    (tmp_path / 'last_checkpoint').write_text(named)
    algorithm = build(load=False, teacher_ckpt=str(tmp_path))
    assert_teacher_is(algorithm, teacher_copy(classifier))
    assert 'epoch_4.pth is damaged' in ''.join(logged)
    (tmp_path / 'epoch_3.pth').write_bytes(b'cut off too')
    with pytest.raises(ValueError, match='model.teacher_ckpt=.*all check'):
        build(load=False, teacher_ckpt=str(tmp_path))


@pytest.mark.parametrize(
    ('other', 'message'),
    [
        (dict(base_channels=8), r'another width \(such as `base_channels`\)'),
        (dict(expansion=3), 'another `expansion`'),
        (dict(depth=14), r'another backbone \(`depth`'),
        (
            dict(type='PlainResNet', expansion=None),
            'plain network without branches',
        ),
    ],
)
def test_another_network_is_refused(
    build, classifier_cfg, save, other, message
):
    cfg = classifier_cfg(**other)
    if cfg['backbone']['expansion'] is None:
        del cfg['backbone']['expansion']
    path = save(randomise_norms(MODELS.build(cfg)))
    with pytest.raises(ValueError, match=message) as error:
        build(load=False, teacher_ckpt=path)
    assert f'model.teacher_ckpt={path!r}' in str(error.value)


LORA = dict(lora=dict(kind='weight', expansion=0.5))


@pytest.mark.parametrize('later', [{}, LORA], ids=['alike', 'lora'])
@pytest.mark.parametrize('earlier', [{}, LORA], ids=['without', 'with_lora'])
def test_a_student_stage_hands_on_its_teacher(
    build, classifier, save, logged, earlier, later
):
    stage = build(backbone=earlier)
    train(stage)
    path = save(stage)
    algorithm = build(load=False, teacher_ckpt=path, backbone=later)
    assert_teacher_is(algorithm, teacher_copy(classifier))
    assert 'also holds a trained student' in ''.join(logged)
    if later:
        for key, value in algorithm.architecture.state_dict().items():
            assert '.lora.up' not in key or not value.any(), key


ONLY_LORA = dict(
    backbone=LORA,
    reuse=dict(inherit='all', freeze='all'),
    norm_stats='inherited',
)


@pytest.mark.parametrize('settings', [dict(distiller=None), ONLY_LORA])
def test_a_stage_that_keeps_no_teacher_has_none_to_hand_on(
    build, save, settings
):
    path = save(build(**settings))
    with pytest.raises(ValueError, match='keeps no teacher beside') as error:
        build(load=False, teacher_ckpt=path)
    assert f'model.teacher_ckpt={path!r}' in str(error.value)


def test_missing_or_empty_teachers_are_refused(build, tmp_path):
    with pytest.raises(FileNotFoundError, match='model.teacher_ckpt=.*absent'):
        build(load=False, teacher_ckpt=str(tmp_path / 'absent.pth'))
    with pytest.raises(FileNotFoundError, match='without a finished'):
        build(load=False, teacher_ckpt=str(tmp_path))
    for empty in ({}, None):
        torch.save(dict(state_dict=empty), tmp_path / 'empty.pth')
        with pytest.raises(ValueError, match='holds no weights'):
            build(load=False, teacher_ckpt=str(tmp_path / 'empty.pth'))


@pytest.mark.parametrize('content', [[1, 2], torch.zeros(2), 'text'])
def test_a_file_that_is_no_checkpoint_is_refused(build, tmp_path, content):
    torch.save(content, tmp_path / 'other.pth')
    with pytest.raises(ValueError, match=r'other\.pth.* holds no weights'):
        build(load=False, teacher_ckpt=str(tmp_path / 'other.pth'))


def test_a_refused_teacher_changes_nothing(build, classifier):
    algorithm = build()
    before = copy.deepcopy(algorithm.state_dict())
    broken = classifier.state_dict()
    broken.pop('backbone.layer3.0.conv2.weight')
    with pytest.raises(ValueError, match='1 missing keys'):
        algorithm.load_teacher(broken)
    after = algorithm.state_dict()
    assert all(torch.equal(after[k], before[k]) for k in before)


def test_training_without_a_teacher_is_refused(build):
    algorithm = build(load=False)
    with pytest.raises(RuntimeError, match='Set model.teacher_ckpt'):
        algorithm.loss(*batch())


def test_a_plain_checkpoint_is_not_resumed(build, classifier):
    with pytest.raises(ValueError, match='not one of a distillation stage'):
        build().load_state_dict(classifier.state_dict(), strict=False)


def test_a_checkpoint_of_other_settings_is_not_resumed(build):
    state = build(norm_stats='inherited').state_dict()
    with pytest.raises(ValueError, match='another .* norm_stats'):
        build(norm_stats='live').load_state_dict(state, strict=False)


def test_another_width_is_not_loaded_by_mmengines_lenient_loader(build):
    state = {
        key: torch.zeros(*value.shape, 2) if 'layer2' in key else value
        for key, value in build().state_dict().items()
    }
    with pytest.raises(ValueError, match='other keys or shapes'):
        load_state_dict(build(), state, strict=False)


@pytest.mark.parametrize('other', [dict(base_channels=8), dict(depth=14)])
def test_an_unfit_student_init_is_refused(
    build, classifier, classifier_cfg, save, other
):
    path = save(MODELS.build(classifier_cfg(**other)), 'student.pth')
    with pytest.raises(ValueError, match='model.student_init=.*another'):
        build(teacher_ckpt=save(classifier), student_init=path)
    with pytest.raises(FileNotFoundError, match='model.student_init=.*absent'):
        build(teacher_ckpt=save(classifier), student_init='absent.pth')


def test_recalibration_must_have_happened(build):
    algorithm = build(norm_stats='recalibrated')
    algorithm.recalibrated = False
    with pytest.raises(RuntimeError, match='add .*SupernetSwitchHook'):
        algorithm.loss(*batch())


def test_nothing_to_recalibrate_is_refused(build):
    with pytest.raises(ValueError, match="Use 'inherited'"):
        build(norm_stats='recalibrated', backbone=dict(norm_eval=True))


def test_student_init_starts_from_another_student(
    build, classifier, save, logged
):
    stage = build()
    train(stage)
    _, student = split_state_dict(stage.state_dict())
    for source in (
        save(stage, 'distill.pth'),
        save(_Holder(student), 's.pth'),
    ):
        algorithm = build(
            load=False,
            teacher_ckpt=save(classifier),
            student_init=source,
            norm_stats='inherited',
            reuse=dict(freeze=['classifier']),
        )
        (line,) = [line for line in logged if 'The student starts' in line]
        assert f'starts from model.student_init={source!r} instead;' in line
        logged.clear()
        own = algorithm.architecture.state_dict()
        assert all(torch.equal(own[k], v) for k, v in student.items())
        assert_teacher_is(algorithm, teacher_copy(classifier))
        train(algorithm)
        assert_teacher_is(algorithm, teacher_copy(classifier))


@pytest.mark.parametrize('distiller', [None, soft_labels()])
@pytest.mark.parametrize('norm_stats', ['inherited', 'live'])
def test_resuming_needs_neither_teacher_nor_student_init(
    build, classifier, save, tmp_path, distiller, norm_stats
):
    student = build()
    train(student)
    inputs = dict(
        teacher_ckpt=save(classifier),
        student_init=save(student, 'student.pth'),
    )
    others = dict(distiller=distiller, norm_stats=norm_stats)
    stage = build(load=False, **inputs, **others)
    train(stage, steps=1)  # more diverge with inherited statistics
    checkpoint = save(stage, 'stage.pth')
    for path in inputs.values():
        Path(path).unlink()
    with pytest.raises(FileNotFoundError):
        build(load=False, **inputs, **others)

    cfg = Config(dict(model=dict(inputs)))
    forget_missing_inputs(cfg, checkpoint)
    resumed = build(load=False, **cfg.model, **others)
    resumed.load_state_dict(torch.load(checkpoint)['state_dict'])
    expected, state = stage.state_dict(), resumed.state_dict()
    assert state.keys() == expected.keys()
    assert all(torch.equal(state[key], expected[key]) for key in expected)
    if distiller is not None:
        assert_teacher_is(resumed, teacher_copy(classifier))
    train(resumed, steps=1)


def test_inputs_that_are_there_are_kept(classifier, save):
    inputs = dict(
        teacher_ckpt=save(classifier), student_init=save(classifier, 's.pth')
    )
    cfg = Config(dict(model=dict(inputs)))
    forget_missing_inputs(cfg, 'stage.pth')
    assert cfg.model == inputs
    cfg = Config(dict(model=dict(type='ImageClassifier')))
    forget_missing_inputs(cfg, 'stage.pth')
    assert cfg.model == dict(type='ImageClassifier')


class _Holder:
    def __init__(self, state):
        self.state = state

    def state_dict(self):
        return self.state


# bad settings


@pytest.mark.parametrize(
    ('settings', 'message'),
    [
        (dict(norm_stats='frozen'), "norm_stats must be .* got 'frozen'"),
        (dict(predict_view='both'), "predict_view must be .* got 'both'"),
        (dict(reuse=dict(inherit='none')), "reuse.inherit .* got 'none'"),
        (dict(reuse=dict(freeze='classifier')), r"freeze=\['classifier'\]"),
        (dict(reuse=dict(freeze=['stem2'])), r"unknown roles \['stem2'\]"),
        (dict(reuse=dict(frezze=[])), r"unknown keys \['frezze'\]"),
        (
            dict(predict_view='teacher', distiller=None),
            'needs model.distiller',
        ),
        (
            dict(
                backbone=dict(frozen_stages=3),
                reuse=dict(freeze=['classifier']),
            ),
            'nothing is left to train',
        ),
    ],
)
def test_bad_settings_are_refused(build, settings, message):
    with pytest.raises(ValueError, match=message):
        build(**settings)


def test_an_architecture_without_branches_is_refused(classifier_cfg):
    cfg = classifier_cfg(type='PlainResNet')
    del cfg['backbone']['expansion']
    with pytest.raises(ValueError, match='no ReduceNet branch'):
        MODELS.build(
            dict(_scope_='mmrazor', type='SupernetDistill', architecture=cfg)
        )


def test_predict_view_answers_with_that_network(build, classifier):
    inputs, _ = batch()
    teacher, student = teacher_copy(classifier), teacher_copy(classifier)
    set_scaler(student, 0.0)
    for view, expected in (('teacher', teacher), ('student', student)):
        algorithm = build(predict_view=view).eval()
        assert torch.equal(algorithm(inputs), expected(inputs))
    assert not torch.equal(teacher(inputs), student(inputs))
