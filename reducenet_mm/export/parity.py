# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""Is each form of the student the same function as the supernet's?"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from math import isnan
from typing import Any

import torch
from mmengine.structures import BaseDataElement
from torch import Tensor, nn

Answer = Callable[[Tensor], Tensor]
"""Preprocessed images (N, C, H, W) -> logits (N, classes).

A network with several outputs, such as a detector: all of them, flat; a
two-stage one: the features in which it finds boxes.
"""

SUPERNET = 'supernet at scaler 0'

SIZE_KEYS = ('img_shape', 'ori_shape', 'pad_shape', 'batch_input_shape')
"""What a detector may ask of a data sample."""


class ParityError(RuntimeError):
    """A form of the student is not the same function as the supernet's."""


@dataclass(frozen=True)
class Form:
    """One form of the student, such as a file that is to be written.

    Attributes:
        name: What it is called in tables and errors.
        precision: What it computes in: ``'float64'``, ``'float32'``,
            ``'int8'``.
        answer: Computes its logits.
        tolerance: Largest accepted difference to the supernet of the same
            precision, relative to the largest logit; None where no
            agreement is expected.
    """

    name: str
    precision: str
    answer: Answer
    tolerance: float | None


@dataclass(frozen=True)
class Comparison:
    """How far a form is from the supernet at scaler 0.

    Attributes:
        form: Its name.
        precision: Its precision.
        differences: Kind of images -> largest difference of any logit,
            relative to the supernet's largest; NaN if any logit is.
        tolerance: See :class:`Form`.
    """

    form: str
    precision: str
    differences: dict[str, float]
    tolerance: float | None

    @property
    def largest(self) -> float:
        """The largest difference on any kind of images, or NaN."""
        values = torch.tensor(list(self.differences.values()))
        return values.max().item()  # NaN if one is


def answer_of(model: nn.Module) -> Answer:
    """Return how a network answers in eval mode, without gradients.

    Its precision decides that of the logits; images are converted to it.
    """
    model.eval()
    dtype = next(model.parameters()).dtype

    @torch.no_grad()
    def answer(images: Tensor) -> Tensor:
        outputs = _outputs(model, images.to(dtype))
        if isinstance(outputs, Tensor):
            return outputs
        return torch.cat([output.flatten() for output in _tensors(outputs)])

    return answer


def _outputs(model: Any, images: Tensor) -> Any:
    """Return all that a network computes before boxes or masks are made."""
    if hasattr(model, 'roi_head'):
        # A two-stage detector selects boxes midway, in float32 only. Its
        # heads are copied; features are all that stripping could change.
        return model.extract_feat(images)
    sizes = dict.fromkeys(SIZE_KEYS, tuple(images.shape[2:]))
    samples = [BaseDataElement(metainfo=sizes) for _ in images]
    return model(images, samples, mode='tensor')


def _tensors(value: Any) -> Iterator[Tensor]:
    """Yield the tensors in nested lists, tuples and dicts, in order."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        yield from _tensors(list(value.values()))
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _tensors(item)


def compare(
    references: Mapping[str, Answer],
    forms: Iterable[Form],
    images: Mapping[str, Tensor],
) -> list[Comparison]:
    """Compare forms of the student with the supernet, step by step.

    Args:
        references: Precision -> how the supernet at scaler 0 answers. What
            has none is compared with ``'float32'``.
        forms: In the order in which they are made from each other.
        images: Preprocessed images (N, C, H, W) by kind.

    Raises:
        ParityError: If a form differs by more than its tolerance, or
            answers NaN; it is named, and so are the steps that passed.
    """
    compared: list[Comparison] = []
    for form in forms:
        reference = references.get(form.precision, references['float32'])
        differences = {
            kind: largest_difference(reference(batch), form.answer(batch))
            for kind, batch in images.items()
        }
        one = Comparison(
            form.name, form.precision, differences, form.tolerance
        )
        _check(one, [earlier.form for earlier in compared])
        compared.append(one)
    return compared


def largest_difference(reference: Tensor, logits: Tensor) -> float:
    """Return the largest difference, relative to the largest logit.

    Args:
        reference: The supernet's logits (N, classes).
        logits: Those of a form of the student.

    Returns:
        NaN if any logit of either is NaN or infinite.
    """
    if not (reference.isfinite().all() and logits.isfinite().all()):
        return float('nan')
    difference = (reference.double() - logits.double()).abs().max()
    scale = reference.double().abs().max()
    return (difference / scale if scale > 0 else difference).item()


def accuracies(
    batches: Iterable[tuple[Tensor, Tensor]], answers: Mapping[str, Answer]
) -> tuple[dict[str, float], int]:
    """Measure how many answers are right.

    Args:
        batches: Images (N, C, H, W) and labels (N,).
        answers: How each network answers, by name.

    Returns:
        Name -> top-1 accuracy in percent, and the number of images; empty
        and 0 without images.
    """
    right = dict.fromkeys(answers, 0)
    count = 0
    for images, labels in batches:
        count += len(labels)
        for name, answer in answers.items():
            right[name] += int((answer(images).argmax(1) == labels).sum())
    if not count:
        return {}, 0
    return {name: 100 * hits / count for name, hits in right.items()}, count


def as_content(
    compared: Iterable[Comparison],
    images: Mapping[str, Tensor],
    accuracy: Mapping[str, float],
    count: int,
    available: int,
) -> dict[str, Any]:
    """Return all of a check as it is written to ``parity.json``.

    Args:
        compared: How far each form is from the supernet.
        images: What they were compared on, by kind.
        accuracy: Network -> top-1 in percent.
        count: On how many validation images.
        available: How many of them there are.
    """
    return dict(
        reference=SUPERNET,
        difference='largest of any logit, relative to the largest logit',
        images={kind: len(batch) for kind, batch in images.items()},
        comparisons=[
            dict(
                form=one.form,
                precision=one.precision,
                differences=one.differences,
                tolerance=one.tolerance,
            )
            for one in compared
        ],
        accuracy=dict(
            metric='top-1 on the validation set, in percent',
            images=count,
            available=available,
            values=dict(accuracy),
        ),
    )


def _check(one: Comparison, passed: list[str]) -> None:
    tolerance = float('inf') if one.tolerance is None else one.tolerance
    if one.largest <= tolerance:  # not if it is NaN
        return
    after = f'; right until then: {", ".join(passed)}' if passed else ''
    if isnan(one.largest):
        hint = 'Does CHECKPOINT hold NaN or infinity?'
        if passed:
            hint = 'Its numbers overflow.'
    elif passed:
        hint = 'Leave it out if an option asked for it, or report it.'
    else:
        hint = 'Is CONFIG the one with which CHECKPOINT was trained?'
    raise ParityError(
        f'{one.form} ({one.precision}) is not the same function as the '
        f'{SUPERNET}: largest relative difference of the logits '
        f'{one.largest:.3g}, tolerance {tolerance:.3g}{after}. Nothing '
        f'was written. {hint}'
    )
