# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""What MMPretrain's hooks and constructors, and ``set_scaler``, meet."""

from __future__ import annotations

from types import SimpleNamespace

import mmpretrain
import pytest
import torch
from mmengine.optim import build_optim_wrapper
from mmpretrain.engine.hooks import SwitchRecipeHook
from mmpretrain.models.losses import LabelSmoothLoss
from mmrazor.registry import MODELS
from torch import nn

from reducenet_mm import set_scaler
from reducenet_mm.models.supernet import hosts
from tests.test_models.distillation import batch, soft_labels


def test_hooks_that_change_the_loss_reach_the_head(build):
    """MMPretrain's ``SwitchRecipeHook`` looks for ``model.head``."""
    algorithm = build(distiller=soft_labels()).eval()
    smooth = LabelSmoothLoss(0.1, 5)
    SwitchRecipeHook._switch_loss(SimpleNamespace(model=algorithm), smooth)
    inputs, samples = batch()
    labels = torch.cat([sample.gt_label for sample in samples])
    logits = algorithm.architecture.head.fc(
        algorithm.architecture.extract_feat(inputs)[-1]
    )
    losses = algorithm.loss(inputs, samples)
    torch.testing.assert_close(losses['student.loss'], smooth(logits, labels))
    assert not [k for k in algorithm.state_dict() if k.startswith('head.')]


def rates_by_layer(model):
    """Name -> learning rate, as MMPretrain makes it fall with the depth."""
    optim = build_optim_wrapper(
        model,
        dict(
            constructor='mmpretrain.LearningRateDecayOptimWrapperConstructor',
            optimizer=dict(type='SGD', lr=1.0, weight_decay=0.1),
            paramwise_cfg=dict(layer_decay_rate=0.5),
        ),
    )
    names = {param: name for name, param in model.named_parameters()}
    return {
        names[param]: group['lr']
        for group in optim.optimizer.param_groups
        for param in group['params']
    }


def test_learning_rates_by_layer_are_the_architectures(classifier_cfg):
    """MMPretrain's constructor asks the model for ``get_layer_depth``."""
    cfg = dict(
        classifier_cfg(),
        backbone=dict(
            type='GraftedBackbone',
            backbone=dict(type='ConvNeXt', arch='atto', use_grn=True),
            targets='depthwise',
            expansion=1,
        ),
    )
    algorithm = MODELS.build(
        dict(
            _scope_='mmrazor',
            type='SupernetDistill',
            architecture=cfg,
            reuse=dict(freeze=[]),
        )
    )
    rates = rates_by_layer(algorithm)
    plain = rates_by_layer(mmpretrain.registry.MODELS.build(cfg))
    assert len({*rates.values()}) > 3
    for name, rate in rates.items():
        assert rate == plain[name.removeprefix('architecture.')]


@pytest.mark.parametrize('depth', [8, 18, 34])
def test_learning_rates_fall_by_block(depth, classifier_cfg):
    """The stem is layer 0, each block one more, the head the last."""
    cfg = classifier_cfg(depth=depth, base_channels=8)
    cfg['head']['in_channels'] = 64 if depth > 8 else 32
    model = mmpretrain.registry.MODELS.build(cfg)
    blocks = [
        f'backbone.{layer}.{index}.'
        for layer, count in zip(
            model.backbone.res_layers, model.backbone.stage_blocks
        )
        for index in range(count)
    ]
    assert len(blocks) == {8: 3, 18: 8, 34: 16}[depth]
    order = [('backbone.conv1.', 'backbone.bn1.'), *blocks, 'head.']
    for name, rate in rates_by_layer(model).items():
        (layer,) = (i for i, one in enumerate(order) if name.startswith(one))
        assert rate == 0.5 ** (len(order) - 1 - layer), name


def test_a_distillation_is_not_switched_by_set_scaler(build, inplace):
    for algorithm, advice in (
        (build(), "predict_view='teacher'"),
        (inplace(), "predict_view='teacher'"),
        (build(distiller=None), 'the stage before'),
    ):
        for model in (algorithm, nn.Sequential(algorithm)):
            with pytest.raises(ValueError, match=advice):
                set_scaler(model, 1.0)
        set_scaler(algorithm, 0.0)
        assert {host.scaler for _, host in hosts(algorithm)} == {0.0}
        set_scaler(algorithm.architecture, 1.0)  # its parts are anyone's
        assert {host.scaler for _, host in hosts(algorithm)} == {1.0}
