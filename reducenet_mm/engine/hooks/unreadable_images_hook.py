# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""Let training replace a few unreadable images, and say how many."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from mmengine.hooks import Hook
from mmengine.runner import Runner

from reducenet_mm.datasets import LoadReadableImage
from reducenet_mm.registry import HOOKS


@HOOKS.register_module()
class UnreadableImagesHook(Hook):
    """Let the training pipeline's ``LoadReadableImage`` replace images.

    As many as its ``max_unreadable`` says. After an epoch in which images
    were replaced it logs how many. The counts start anew with each session
    of a run and are those of one process with its workers.
    """

    # Before a hook that reads training images itself.
    priority = 'VERY_HIGH'

    def __init__(self) -> None:
        self._loaders: list[LoadReadableImage] = []
        self._replaced = 0

    def before_train(self, runner: Runner) -> None:
        """Allow it, in the training pipeline only."""
        self._loaders = list(_loaders(runner.train_dataloader.dataset))
        for loader in self._loaders:
            loader.replaces = loader.max_unreadable > 0

    def after_train_epoch(self, runner: Runner) -> None:
        """Log how many images this epoch has replaced."""
        replaced = sum(x.unreadable.meetings for x in self._loaders)
        if replaced > self._replaced:
            files = sum(len(x.unreadable) for x in self._loaders)
            limit = sum(x.max_unreadable for x in self._loaders)
            runner.logger.warning(
                f'{replaced - self._replaced} images of epoch '
                f'{runner.epoch + 1} were unreadable and replaced by others '
                f'({files} files so far, of at most {limit}).'
            )
        self._replaced = replaced


def _loaders(dataset: Any) -> Iterator[LoadReadableImage]:
    """Find the transforms of a data set and of those that it wraps."""
    for transform in getattr(
        getattr(dataset, 'pipeline', None), 'transforms', ()
    ):
        if isinstance(transform, LoadReadableImage):
            yield transform
    inner = getattr(dataset, 'dataset', None)
    for wrapped in [inner, *getattr(dataset, 'datasets', [])]:
        if wrapped is not None:
            yield from _loaders(wrapped)
