# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""The accuracy of all forms of a student, with progress shown."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from rich.console import Console
from rich.progress import Progress
from torch import Tensor

from .images import ImageSource
from .parity import Answer, accuracies


@dataclass(frozen=True)
class Measured:
    """Accuracies, all on the same images.

    Attributes:
        accuracy: Network -> top-1 in percent; empty if not measured.
        images: On how many validation images.
        available: How many the validation set has.
    """

    accuracy: dict[str, float] = field(default_factory=dict)
    images: int = 0
    available: int = 0


def measure(
    answers: Mapping[str, Answer],
    data: ImageSource,
    limit: int | None,
    console: Console,
) -> Measured:
    """Measure how often networks are right on validation images.

    Args:
        answers: How each network answers, by name.
        data: Where the images are from.
        limit: On how many images at most; None for all.
        console: Where to say how many there are, before the first one. On a
            terminal a bar moves, too.
    """
    count, available = data.num_validation(limit)
    if not count:
        return Measured()
    console.print(
        f'measuring {len(answers)} networks on {count:,} of {available:,} '
        'validation images, on the CPU',
        highlight=False,
        soft_wrap=True,
    )
    batches = _shown(data.validation(limit), count, console)
    accuracy, images = accuracies(batches, answers)
    return Measured(accuracy, images, available)


def _shown(
    batches: Iterable[tuple[Tensor, Tensor]], count: int, console: Console
) -> Iterator[tuple[Tensor, Tensor]]:
    hidden = console.quiet or not console.is_terminal
    with Progress(console=console, disable=hidden, transient=True) as bars:
        task = bars.add_task('validation images', total=count)
        for images, labels in batches:
            yield images, labels
            bars.advance(task, len(labels))
