# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""A classifier as an ONNX model: written, checked and run, all in memory."""

from __future__ import annotations

import copy
import importlib.util
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

INPUT = 'images'
"""Name of the model's input: preprocessed images (N, C, H, W), float32."""

OUTPUT = 'logits'
"""Name of the model's output: logits (N, classes), float32."""

PACKAGES = ('onnx', 'onnxruntime', 'onnxscript')
"""What the extra ``onnx`` installs and this module needs."""


def require_onnx() -> None:
    """Raise unless the packages of the extra ``onnx`` are installed.

    Raises:
        ImportError: If one is missing; the message says which one, and how
            to install it.
    """
    missing = [
        name for name in PACKAGES if importlib.util.find_spec(name) is None
    ]
    if missing:
        raise ImportError(
            f'ONNX needs {", ".join(PACKAGES)}; not installed: '
            f"{', '.join(missing)}. Type: pip install 'reducenet_mm[onnx]'"
        )


def to_onnx(
    model: nn.Module,
    images: Tensor,
    metadata: Mapping[str, str] | None = None,
) -> bytes:
    """Return a classifier in eval mode and float32 as an ONNX model.

    The batch may have any size, the images have that of ``images``. The
    exporter folds batch norms into convolutions, so that logits agree with
    torch's within rounding. Where each operation comes from in the sources,
    which the exporter writes down, is left out.

    Args:
        model: A classifier whose ``forward(images)`` gives logits
            (N, classes), as MMPretrain's does. It is not changed.
        images: Preprocessed images (N, C, H, W); only their shape matters.
        metadata: Texts by name to store in the model, such as its classes.

    Returns:
        The content of an ``.onnx`` file, weights included, checked by
        ``onnx``. The same arguments give the same bytes.

    Raises:
        ImportError: If a package of the extra ``onnx`` is missing.
        ValueError: If ``images`` are no images or ``model`` does not turn
            them into logits.
    """
    require_onnx()
    import onnx

    plain = copy.deepcopy(model).cpu().float().eval()
    example = _example(images)
    with torch.no_grad():
        _check_logits(plain(example), len(example))
        program = torch.onnx.export(
            plain,
            (example,),
            input_names=[INPUT],
            output_names=[OUTPUT],
            dynamic_shapes=({0: torch.export.Dim('batch')},),
            dynamo=True,
            verbose=False,
        )
    proto = program.model_proto  # type: ignore[union-attr]
    strip_origins(proto)
    onnx.helper.set_model_props(proto, dict(metadata or {}))
    onnx.checker.check_model(proto, full_check=True)
    return proto.SerializeToString(deterministic=True)


class OnnxClassifier:
    """A classifier of :func:`to_onnx` on onnxruntime's CPU provider.

    Args:
        content: The content of an ``.onnx`` file.
        threads: How many threads compute; None for as many as torch uses.

    Raises:
        ImportError: If a package of the extra ``onnx`` is missing.
        ValueError: If ``threads`` is not an integer >= 1.
    """

    def __init__(self, content: bytes, threads: int | None = None) -> None:
        require_onnx()
        import onnxruntime

        if threads is None:
            threads = torch.get_num_threads()
        if threads < 1:
            raise ValueError(
                f'threads must be an integer >= 1, got {threads}.'
            )
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3  # errors only
        self.session = onnxruntime.InferenceSession(
            content, options, providers=['CPUExecutionProvider']
        )

    def __call__(self, images: Tensor) -> Tensor:
        """Compute logits (N, classes) of preprocessed images (N, C, H, W).

        Raises:
            ValueError: If the images are not of the model's one size.
        """
        check_size(images, self.session.get_inputs()[0].shape[1:])
        feed = {INPUT: as_array(images)}
        return torch.from_numpy(self.session.run([OUTPUT], feed)[0])


def run_onnx(
    content: bytes, images: Tensor, threads: int | None = None
) -> Tensor:
    """Compute logits by onnxruntime.

    To run a model several times, keep an :class:`OnnxClassifier`, which
    takes the same arguments.

    Args:
        content: The content of an ``.onnx`` file of :func:`to_onnx`.
        images: Preprocessed images (N, C, H, W).
        threads: How many threads compute; None for as many as torch uses.

    Returns:
        Logits (N, classes), float32.
    """
    return OnnxClassifier(content, threads)(images)


def check_size(images: Tensor, size: Sequence[int]) -> None:
    """Raise ``ValueError`` unless images are of a model's size (C, H, W)."""
    if tuple(images.shape[1:]) != tuple(size):
        raise ValueError(
            f'an ONNX model takes images of one size, here {tuple(size)}, got '
            f'{tuple(images.shape[1:])}. Let the pipeline of val_dataloader '
            'bring all images to one size, such as by a crop.'
        )


def as_array(images: Tensor) -> Any:
    """Return images as onnxruntime takes them: float32, in numpy."""
    return images.detach().to('cpu', torch.float32).contiguous().numpy()


def strip_origins(proto: Any) -> None:
    """Remove in place what tools have noted beside each part of a model.

    The exporter notes class names and tracebacks with the paths of the
    machine, which are nobody's business and a third of a small file.
    """
    graph = proto.graph
    parts = (graph.node, graph.value_info, graph.input, graph.output)
    for part in (*parts, graph.initializer, [graph, proto]):
        for noted in part:
            noted.ClearField('metadata_props')


def _example(images: Tensor) -> Tensor:
    """Return two images of zeros: a batch of one would be kept fixed."""
    if images.ndim != 4:
        raise ValueError(
            'ONNX export needs images of shape (N, C, H, W), got shape '
            f'{tuple(images.shape)}.'
        )
    return torch.zeros(2, *images.shape[1:])


def _check_logits(logits: Any, count: int) -> None:
    shape = tuple(getattr(logits, 'shape', ()))
    if len(shape) != 2 or shape[0] != count:
        raise ValueError(
            'only a classifier whose forward(images) gives logits '
            f'(N, classes) becomes an ONNX model, got {type(logits).__name__} '
            f'of shape {shape} for {count} images.'
        )
