# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""Ship the student: plain weights and a plain config, checked first."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.registry import DefaultScope
from rich.console import Console
from torch import Tensor

from reducenet_mm.engine.preflight import no_side_effects, read_weights
from reducenet_mm.engine.toolbox import CLASSIFIERS, scope_of
from reducenet_mm.files import (
    check_folder,
    checkpoint_bytes,
    json_text,
    write_folder,
)
from reducenet_mm.models.checkpoint_views import (
    ARCHITECTURE,
    is_distill_state_dict,
    strip_prefix,
)

from . import forms as student_forms
from .forms import (
    EXACT,
    FOLDED,
    INT8,
    ONNX,
    WEIGHTS,
    Forms,
)
from .images import ImageSource
from .measure import Measured, measure
from .onnx_file import require_onnx
from .onnx_metadata import onnx_metadata
from .parity import SUPERNET, Comparison, as_content, compare
from .plain_config import (
    BACKBONE_FILE,
    CONFIG_FILE,
    FOLDED_CONFIG_FILE,
    plain_files,
)
from .plain_model import plain_model_cfg
from .provenance import checkpoint_meta, header_of

PARITY = 'parity.json'
ALL_FILES = (
    WEIGHTS,
    CONFIG_FILE,
    BACKBONE_FILE,
    FOLDED,
    FOLDED_CONFIG_FILE,
    ONNX,
    INT8,
    PARITY,
)
"""All that an export may write."""


@dataclass(frozen=True)
class ExportResult:
    """What was written, and how it was checked.

    Attributes:
        files: All written files by name.
        comparisons: How far each form is from the supernet at scaler 0.
        images: How many images of which kind they were compared on.
        accuracy: Top-1 in percent of the supernet and of each written
            network on the validation set; empty if it was not measured or
            the set is not on this machine.
        num_validation: On how many images.
        all_validation: How many that set has.
        params: Number of the plain network's parameters.
        missing: Why images are missing, by the dataloader that names them.
    """

    files: dict[str, Path]
    comparisons: list[Comparison]
    images: dict[str, int]
    accuracy: dict[str, float]
    num_validation: int
    all_validation: int
    params: int
    missing: dict[str, str]

    @property
    def weights(self) -> Path:
        """The written ``student.pth``."""
        return self.files[WEIGHTS]

    @property
    def config(self) -> Path:
        """The written ``student.py``."""
        return self.files[CONFIG_FILE]

    @property
    def largest_difference(self) -> float:
        """Of the float64 logits, before anything is rounded."""
        return self.comparisons[0].largest


@dataclass(frozen=True)
class ExportOptions:
    """What is written beside ``student.pth`` and how it is checked.

    Attributes:
        fold: Write ``student_folded.pth`` and ``.py``: every batch norm is
            folded into the convolution before it.
        onnx: Write ``student.onnx``.
        int8: Write ``student_int8.onnx`` too.
        accuracy: Measure each network on the validation set.
        max_validation: On how many images at most; None for all. So few
            because this happens on the CPU, and the forms are compared with
            each other: they all get the same images.
        num_calibration: How many training images calibrate ``int8``.
        tolerance: Largest accepted difference of float64 logits, relative
            to the largest logit.
    """

    fold: bool = False
    onnx: bool = False
    int8: bool = False
    accuracy: bool = False
    max_validation: int | None = 2000
    num_calibration: int = 256
    tolerance: float = EXACT


def export_student(
    config: str | Path | Config,
    checkpoint: str | Path,
    out_dir: str | Path,
    options: ExportOptions = ExportOptions(),
    console: Console | None = None,
) -> ExportResult:
    """Write the student of a checkpoint as files of an ordinary network.

    These are ``student.pth``, ``student.py``, ``parity.json``, where
    MMPretrain has no class for it ``student_backbone.py``, and what the
    options ask for. Everything is made and checked before anything is
    written: weights load strictly into networks without branches, which
    answer as the supernet does at scaler 0. A detector or segmentor, which
    is one of its toolbox's own then, is compared by all of its outputs, and
    its accuracy is not measured. Files which an earlier export
    has left in the folder and this one does not write are removed: all that
    is there is the same network.

    Args:
        config: The config with which ``checkpoint`` was trained.
        checkpoint: A teacher's or a distillation checkpoint.
        out_dir: Folder to write to; created if it is not there.
        options: What to write and to measure.
        console: Where to show how far measuring is; None for nowhere.

    Raises:
        FileNotFoundError: If ``checkpoint`` is not there.
        ImportError: If ONNX is asked for and not installed, or the toolbox
            of the network is not.
        OSError: If ``out_dir`` cannot be written to.
        ValueError: If the checkpoint cannot be read, is an address and no
            file, or does not fit ``config``, ``config`` has no ReduceNet, a
            norm cannot absorb what merging or folding leaves, a data set's
            config is wrong, ``int8`` lacks training images or a
            ``val_dataloader``, ``options`` has a form that only a classifier
            has, or a file would overwrite ``config`` or ``checkpoint``.
        ParityError: If a form is not the same function.
            Whatever is raised, nothing has been written.
    """
    if options.onnx or options.int8:
        require_onnx()
    check_folder(out_dir)
    if '://' in str(checkpoint):
        raise ValueError(
            f'checkpoint {str(checkpoint)!r} is an address. Download it, and '
            'give the file: the student keeps its hash.'
        )
    if not isinstance(config, Config):
        config = Config.fromfile(config)
    _check_kept(Path(out_dir), (config.filename, checkpoint))
    scope = scope_of(config)
    _check_options(options, scope)
    plain_model_cfg(config, options.fold)  # refuses what has no such form
    weights = read_weights(str(checkpoint))
    source = f'checkpoint {str(checkpoint)!r}'
    with no_side_effects(), DefaultScope.overwrite_default_scope(scope):
        forms = student_forms.strip(
            config, _supernet(weights), source, options.tolerance
        )
        data = ImageSource(config, forms.plain)
        images = data.to_compare()
        meta = checkpoint_meta(config, checkpoint)
        _add_forms(forms, config, options, data, images, meta)
        compared = compare(forms.references(), forms.made, images)
        found = Measured()
        if options.accuracy and scope == CLASSIFIERS:
            found = _measure(forms, options, data, console)
        accuracy = found.accuracy, found.images, found.available
        parity = as_content(compared, images, *accuracy)
        header = header_of(meta)
        texts = plain_files(config, header)
        if options.fold:
            texts.update(plain_files(config, header, folded=True))
    files: dict[str, bytes | str] = {**texts, **forms.files}
    for name, state in forms.states.items():
        files[name] = checkpoint_bytes(state, dict(meta, parity=parity))
    files[PARITY] = json_text(parity)
    earlier = (Path(out_dir) / PARITY).is_file()
    obsolete = ALL_FILES if earlier else ()  # no file of anybody else's
    paths = write_folder(out_dir, files, obsolete)
    params = sum(param.numel() for param in forms.plain.parameters())
    counts = {kind: len(batch) for kind, batch in images.items()}
    return ExportResult(
        paths, compared, counts, *accuracy, params, data.missing
    )


def _check_kept(out_dir: Path, inputs: Iterable[str | Path | None]) -> None:
    """Refuse to write where the export reads."""
    written = {(out_dir / name).resolve() for name in ALL_FILES}
    for path in inputs:
        if path is not None and Path(path).resolve() in written:
            raise ValueError(
                f'{str(path)!r} would be overwritten by the exported student. '
                'Give another folder to write to.'
            )


def _add_forms(
    forms: Forms,
    config: Config,
    options: ExportOptions,
    data: ImageSource,
    images: Mapping[str, Tensor],
    meta: Mapping[str, Any],
) -> None:
    if options.fold:
        student_forms.add_folded(forms, config, options.tolerance)
    if options.onnx or options.int8:
        batch = images['random']
        metadata = onnx_metadata(config, meta, batch.shape[1:])
        student_forms.add_onnx(forms, batch, metadata)
    if options.int8:
        calibration = data.calibration(options.num_calibration)
        student_forms.add_int8(forms, calibration)


def _check_options(options: ExportOptions, scope: str) -> None:
    """Refuse, for other networks, what is made for classifiers.

    Raises:
        ValueError: If a form is asked for that there is not.
    """
    asked = dict(fold=options.fold, onnx=options.onnx, int8=options.int8)
    refused = [name for name, value in asked.items() if value]
    if refused and scope != CLASSIFIERS:
        raise ValueError(
            f'{", ".join(refused)}: only a classifier is written so, and '
            f'this is a network of {scope!r}, whose boxes or masks are made '
            'by code outside of its graph. Export without, then take the '
            "toolbox's own way (MMDeploy) with student.py and student.pth, "
            'which are stock.'
        )


def _measure(
    forms: Forms,
    options: ExportOptions,
    data: ImageSource,
    console: Console | None,
) -> Measured:
    """Measure the top-1 accuracy of the supernet and all that is written."""
    answers = {SUPERNET: forms.references()['float32']}
    written = {*forms.states, *forms.files}
    answers.update(
        {form.name: form.answer for form in forms.made if form.name in written}
    )
    console = console or Console(quiet=True)
    return measure(answers, data, options.max_validation, console)


def _supernet(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the supernet's keys with the student's values."""
    if not is_distill_state_dict(weights):
        return dict(weights)
    return strip_prefix(weights, ARCHITECTURE)
