# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""The forms in which a student is written, each made from the one before."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mmengine.config import Config, ConfigDict
from mmpretrain.registry import MODELS
from torch import Tensor, nn

from reducenet_mm.models.checkpoint_checks import check_state_dict
from reducenet_mm.models.deploy import deployed_modules
from reducenet_mm.models.merged_student import absorb_biases, check_biases
from reducenet_mm.models.replace import replace_module
from reducenet_mm.models.supernet import set_scaler, ungraft

from .int8 import quantise
from .onnx_file import OnnxClassifier, to_onnx
from .parity import Form, answer_of
from .plain_model import plain_model_cfg, supernet_cfg

EXACT = 1e-10
"""Tolerance in float64, where all that is merged is merged."""

ROUNDED = 1e-5
"""Tolerance in float32."""

OTHER_RUNTIME = 1e-4
"""Tolerance in float32 where another library computes."""

WEIGHTS, FOLDED = 'student.pth', 'student_folded.pth'
ONNX, INT8 = 'student.onnx', 'student_int8.onnx'


@dataclass
class Forms:
    """A student, and what has been made of it so far.

    Attributes:
        supernet: The network with branches, at scaler 0, in float32.
        exact: The same function without branches, in float64.
        plain: The same in float32, which is what is written.
        made: The forms, in the order in which they were made.
        files: Content by file name, for what is not a torch checkpoint.
        states: State dict by file name, for what is.
    """

    supernet: nn.Module
    exact: nn.Module
    plain: nn.Module
    made: list[Form]
    files: dict[str, bytes] = field(default_factory=dict)
    states: dict[str, dict[str, Tensor]] = field(default_factory=dict)

    def references(self) -> dict[str, Any]:
        """Return how the supernet at scaler 0 answers, by precision."""
        return dict(
            float32=answer_of(self.supernet),
            float64=answer_of(copy.deepcopy(self.supernet).double()),
        )


def strip(
    config: Config,
    state: Mapping[str, Tensor],
    source: str,
    tolerance: float = EXACT,
) -> Forms:
    """Build a student without branches out of a supernet's weights.

    What merges is merged in float64 and then rounded.

    Args:
        config: The config with which the supernet was trained.
        state: The supernet's keys, with the student's values.
        source: Where they are from, for errors.
        tolerance: Largest accepted difference in float64.

    Raises:
        ValueError: If ``state`` does not fit ``config``, or a norm cannot
            absorb what merging leaves.
    """
    # As a Runner has it: detectors read attributes of their config.
    supernet = MODELS.build(ConfigDict(supernet_cfg(config)))
    check_state_dict(supernet, state, source)
    supernet.load_state_dict(state)
    set_scaler(supernet, 0.0)
    plain = MODELS.build(ConfigDict(plain_model_cfg(config)))
    exact = copy.deepcopy(plain).double()
    merged = ungraft(copy.deepcopy(supernet).double()).state_dict()
    merged = absorb_biases(merged, exact)
    check_biases(merged.keys() - exact.state_dict().keys())
    check_state_dict(exact, merged, source)
    exact.load_state_dict(merged)
    plain.load_state_dict(exact.state_dict())
    made = [
        Form('stripped and merged', 'float64', answer_of(exact), tolerance),
        Form(WEIGHTS, 'float32', answer_of(plain), ROUNDED),
    ]
    states = {WEIGHTS: plain.state_dict()}
    return Forms(supernet, exact, plain, made, states=states)


def add_folded(forms: Forms, config: Config, tolerance: float = EXACT) -> None:
    """Fold every batch norm into the convolution before it.

    Args:
        forms: A student.
        config: The config with which the supernet was trained.
        tolerance: Largest accepted difference in float64.

    Raises:
        ValueError: If a norm is no batch norm with statistics.
    """
    folded = MODELS.build(plain_model_cfg(config, folded=True))
    exact: Any = copy.deepcopy(forms.exact)
    for name, module in deployed_modules(exact.backbone).items():
        replace_module(exact.backbone, name, module)
    folded.load_state_dict(exact.state_dict())
    forms.states[FOLDED] = folded.state_dict()
    forms.made += [
        Form('norms folded', 'float64', answer_of(exact), tolerance),
        Form(FOLDED, 'float32', answer_of(folded), ROUNDED),
    ]


def add_onnx(
    forms: Forms, images: Tensor, metadata: Mapping[str, str]
) -> None:
    """Write the plain network as an ONNX model.

    Args:
        forms: A student.
        images: Preprocessed images (N, C, H, W); their shape matters.
        metadata: Texts to store in the model.
    """
    content = to_onnx(forms.plain, images, metadata)
    forms.files[ONNX] = content
    answer = OnnxClassifier(content)
    forms.made.append(Form(ONNX, 'float32', answer, OTHER_RUNTIME))


def add_int8(forms: Forms, calibration: list[Tensor]) -> None:
    """Quantise the ONNX model.

    Args:
        forms: A student that has been through :func:`add_onnx`.
        calibration: Batches (N, C, H, W) of preprocessed training images.
    """
    content = quantise(forms.files[ONNX], calibration)
    forms.files[INT8] = content
    forms.made.append(Form(INT8, 'int8', OnnxClassifier(content), None))
