# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""An ONNX model with 8-bit integer weights and activations."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from .onnx_file import (
    INPUT,
    as_array,
    check_size,
    require_onnx,
    strip_origins,
)


def quantise(content: bytes, calibration: Iterable[Tensor]) -> bytes:
    """Return a quantised ONNX model, by onnxruntime's static quantisation.

    Each tensor's range is the smallest that holds all of its values on the
    calibration images: their order and batches do not matter. Weights have
    a scale for each output channel and use 7 of 8 bits, since sums of 8-bit
    products saturate on processors without VNNI. Logits remain float.

    Args:
        content: The content of an ``.onnx`` file of
            :func:`~reducenet_mm.export.onnx_file.to_onnx`.
        calibration: Batches (N, C, H, W) of preprocessed training images.

    Returns:
        The content of an ``.onnx`` file with the same input, output and
        metadata, checked by ``onnx``. The same arguments give the same
        bytes.

    Raises:
        ImportError: If a package of the extra ``onnx`` is missing.
        ValueError: If there is no calibration image, one has another size
            than the model takes, or a weight or a pixel is NaN or infinite.
    """
    require_onnx()
    import onnx

    proto = onnx.load_from_string(content)
    for tensor in proto.graph.initializer:
        _check_finite(onnx.numpy_helper.to_array(tensor), tensor.name)
    dims = proto.graph.input[0].type.tensor_type.shape.dim[1:]
    reader = _Reader(calibration, [dim.dim_value for dim in dims])
    with tempfile.TemporaryDirectory(prefix='int8.') as folder:
        quantised = onnx.load_from_string(
            _quantise_file(content, reader, Path(folder))
        )
    strip_origins(quantised)
    quantised.metadata_props.extend(proto.metadata_props)
    onnx.checker.check_model(quantised, full_check=True)
    return quantised.SerializeToString(deterministic=True)


class _Reader:
    """Hands batches to onnxruntime, which asks until it gets None."""

    def __init__(
        self, calibration: Iterable[Tensor], size: Sequence[int]
    ) -> None:
        self._size = size
        batches = (batch for batch in calibration if len(batch))
        first = next(batches, None)
        if first is None:
            raise ValueError(
                'quantisation needs at least one training image to calibrate '
                'on, got none. Is train_dataloader.dataset empty?'
            )
        self._batches = itertools.chain([first], batches)

    def get_next(self) -> dict[str, Any] | None:
        batch = next(self._batches, None)
        if batch is None:
            return None
        check_size(batch, self._size)
        images = as_array(batch)
        _check_finite(images, 'the calibration images')
        return {INPUT: images}


def _quantise_file(content: bytes, reader: _Reader, folder: Path) -> bytes:
    """Quantise by files in ``folder``: onnxruntime offers nothing else."""
    from onnxruntime import quantization

    given, prepared, written = (
        folder / f'{name}.onnx' for name in ('given', 'prepared', 'written')
    )
    given.write_bytes(content)
    # The exporter has folded the norms: only shapes are to be inferred.
    quantization.quant_pre_process(
        given, prepared, skip_optimization=True, skip_symbolic_shape=True
    )
    quantization.quantize_static(
        prepared,
        written,
        reader,
        quant_format=quantization.QuantFormat.QDQ,
        activation_type=quantization.QuantType.QUInt8,
        weight_type=quantization.QuantType.QInt8,
        per_channel=True,
        reduce_range=True,
        extra_options=dict(OpTypesToExcludeOutputQuantization=['Gemm']),
    )
    return written.read_bytes()


def _check_finite(values: np.ndarray, name: str) -> None:
    if not np.isfinite(values).all():
        raise ValueError(
            f'{name}: NaN or infinity cannot be quantised. Choose a '
            'checkpoint from before the training diverged.'
        )
