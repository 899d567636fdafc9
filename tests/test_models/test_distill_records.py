# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""Recorders of a distiller that cannot work are refused, and named."""

from __future__ import annotations

import copy

import pytest

from tests.test_models.distillation import batch, soft_labels


def test_a_recorder_of_the_students_tensor_for_the_teachers_is_refused(build):
    distiller = soft_labels()
    weight = dict(type='Parameter', source='head.fc.weight')
    distiller['student_recorders']['weight'] = weight
    assert build(distiller=copy.deepcopy(distiller)).distiller
    for kind in ('Parameter', 'mmrazor.Parameter'):
        distiller['teacher_recorders']['weight'] = dict(weight, type=kind)
        with pytest.raises(
            ValueError, match=r'teacher_recorders\.weight: .* the student.s'
        ):
            build(distiller=distiller)


@pytest.mark.parametrize(
    ('recorder', 'index', 'said'),
    [
        ('head.loss_module', {}, 'of the teacher by `logits`, source'),
        ('head.fc', dict(record_idx=1), 'record_idx is 1'),
        ('backbone', dict(data_idx=1), 'length of record is 1'),
        ('head.fc', dict(data_idx=0), 'record should be a list or tuple'),
    ],
)
def test_a_record_that_is_not_made_is_named(build, recorder, index, said):
    distiller = soft_labels()
    distiller['teacher_recorders']['logits']['source'] = recorder
    distiller['loss_forward_mappings']['loss_kl']['preds_T'].update(index)
    algorithm = build(distiller=distiller)
    with pytest.raises(RuntimeError) as error:
        algorithm.loss(*batch())
    assert 'loss_forward_mappings.loss_kl.preds_T' in str(error.value)
    assert said in str(error.value)


def test_a_source_that_is_not_there_is_told_what_is(build):
    distiller = soft_labels()
    distiller['student_recorders']['logits']['source'] = 'head.layers.fc'
    with pytest.raises(ValueError) as error:
        build(distiller=distiller)
    assert '"head.layers.fc" is not in the model.' in str(error.value)
    assert 'last linear layer, ' in str(error.value)
    assert '"head.fc"' in str(error.value)


def test_connectors_that_must_know_a_teacher_network_are_refused(build):
    distiller = soft_labels()
    distiller['connectors'] = dict(
        margin=dict(type='OFDTeacherConnector'),
        fits=dict(type='ConvModuleConnector', in_channel=16, out_channel=16),
    )
    with pytest.raises(ValueError, match='margin: .*Overhaul.*features.py'):
        build(distiller=copy.deepcopy(distiller))
    del distiller['connectors']['margin']
    assert build(distiller=distiller).distiller.connectors


def test_a_record_that_trains_nothing_is_refused(build):
    """Reentrant checkpointing computes the block without a graph first."""
    source = 'backbone.layer3.0.conv1'
    distiller = soft_labels()
    for side in ('student', 'teacher'):
        distiller[f'{side}_recorders']['logits']['source'] = source
    losses = build(distiller=copy.deepcopy(distiller)).loss(*batch())
    assert losses['distill.loss_kl'].requires_grad
    algorithm = build(distiller=distiller, backbone=dict(with_cp=True))
    with pytest.raises(RuntimeError) as error:
        algorithm.train().loss(*batch())
    assert "none of ['loss_kl'] has a gradient" in str(error.value)
    assert source in str(error.value) and 'with_cp' in str(error.value)


def test_one_loss_that_trains_nothing_is_said_once(build, logged):
    """Such as one inside a block that is computed again."""
    source = 'backbone.layer2.0.conv2'
    distiller = soft_labels()
    for side in ('student_recorders', 'teacher_recorders'):
        distiller[side]['map'] = dict(type='ModuleOutputs', source=source)
    distiller['distill_losses']['loss_map'] = dict(type='L2Loss')
    distiller['loss_forward_mappings']['loss_map'] = dict(
        s_feature=dict(recorder='map', from_student=True),
        t_feature=dict(recorder='map', from_student=False),
    )
    for with_cp in (False, True):
        algorithm = build(
            backbone=dict(with_cp=with_cp), distiller=copy.deepcopy(distiller)
        ).train()
        for _ in range(2):
            losses = algorithm.loss(*batch())
            assert losses['distill.loss_map'].requires_grad is not with_cp
        said = [line for line in logged if 'trains nothing' in line]
        assert len(said) == with_cp
    assert 'loss_map has no gradient' in said[0] and 'with_cp' in said[0]


def test_losses_that_would_not_be_minimised_are_refused(build):
    distiller = soft_labels()
    for key in ('distill_losses', 'loss_forward_mappings'):
        distiller[key] = {'kl': distiller[key]['loss_kl']}
    with pytest.raises(ValueError, match=r"none of \['kl'\] has .*'loss_kl'"):
        build(distiller=distiller)
