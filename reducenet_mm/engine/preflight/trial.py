# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""Whether the network can take its own training images: one of them tells."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from mmengine.dataset import pseudo_collate
from mmengine.model import is_model_wrapper
from torch import Tensor, nn
from torch.nn.modules.module import (
    register_module_forward_hook,
    register_module_forward_pre_hook,
)
from torch.nn.parallel import DistributedDataParallel

from reducenet_mm.datasets import SampleIndex

from .classes import classes_of
from .side_effects import no_side_effects

_OF_SHAPES = re.compile('shape|size|channel|elements|dim', re.IGNORECASE)
"""What torch speaks of if a tensor is not as a layer wants it."""


class LayerError(ValueError):
    """A layer cannot take the tensor that it is given."""


def check_image(model: Any, dataset: Any) -> None:
    """Refuse a network that cannot take an image of its training set.

    The first image goes through it as when training, but with the layers
    evaluating. Passed over are models that are no classifiers (what others
    compute from an image alone need not be what trains them), that are spread
    over processes or not built yet, data sets without a first image, images
    that cannot be prepared, and whatever fails but for the shapes of tensors:
    the training says what is wrong with those.

    Args:
        model: What will be trained; its weights do not matter, and it is left
            as it was.
        dataset: The training set, built. Transforms that remember images,
            as mosaics do, remember this one.

    Raises:
        LayerError: If a layer cannot take what is put into it, as with
            channels that do not agree.
    """
    if isinstance(model, DistributedDataParallel):
        model = model.module
    if not isinstance(model, nn.Module) or is_model_wrapper(model):
        return
    if classes_of(model)[1] is None:
        return
    with no_side_effects():
        try:
            batch = pseudo_collate([dataset[SampleIndex(0, seed=0, epoch=0)]])
        except Exception:
            return
        try:
            with evaluating(model), torch.no_grad(), told_by_layer(model):
                preprocess: Any = model.data_preprocessor
                data = preprocess(batch, True)
                model(**data, mode='tensor')
        except LayerError:
            raise
        except Exception:
            return


@contextmanager
def told_by_layer(
    model: nn.Module, image: str = 'an image of train_dataloader.dataset'
) -> Iterator[None]:
    """Say of tensors of wrong shapes which layer they do not get through.

    Args:
        model: The network; while it is run under this, it is watched.
        image: What is put into it.

    Raises:
        LayerError: Instead of torch's error, with a config key.
    """
    with _entered(model) as entered:
        try:
            yield
        except RuntimeError as error:
            if not entered or not _is_of_shapes(error):
                raise
            raise LayerError(_explained(*entered[-1], image, error)) from error


def _is_of_shapes(error: RuntimeError) -> bool:
    # Its subclasses say that something is not there, or that memory is full.
    return type(error) is RuntimeError and bool(_OF_SHAPES.search(str(error)))


def _explained(
    name: str,
    layer: nn.Module,
    shapes: list[tuple],
    image: str,
    error: Exception,
) -> str:
    parts = ['model', *name.split('.')]
    depth = 3 if 'architecture' in parts else 2
    key = '.'.join(parts[:depth])
    given = ' and '.join(str(shape) for shape in shapes) or 'no tensor'
    first = str(error).splitlines()[0]
    return (
        f'{key}: {image} does not get through {".".join(parts)}, which is '
        f'{layer} and is given {given}: {first}. Let what {key} takes, '
        'channels above all, agree with the images and with what comes before '
        'it.'
    )


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Let all layers evaluate, and be in their own modes again afterwards."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, training in modes.items():
            module.training = training


@contextmanager
def _entered(
    model: nn.Module,
) -> Iterator[list[tuple[str, nn.Module, list[tuple]]]]:
    """Keep a list of the layers that are being run, the innermost last.

    Each with its name in ``model`` and the shapes of the tensors it is given.
    """
    names = {module: name for name, module in model.named_modules() if name}
    running: list[tuple[str, nn.Module, list[tuple]]] = []

    def enter(module: nn.Module, args: tuple) -> None:
        if module in names:
            tensors = [value for value in args if isinstance(value, Tensor)]
            shapes = [tuple(tensor.shape) for tensor in tensors]
            running.append((names[module], module, shapes))

    def leave(module: nn.Module, args: tuple, output: Any) -> None:
        if module in names:
            running.pop()

    handles = [
        register_module_forward_pre_hook(enter),
        register_module_forward_hook(leave),
    ]
    try:
        yield running
    finally:
        for handle in handles:
            handle.remove()
