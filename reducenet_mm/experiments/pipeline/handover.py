# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""A student stage's result as a plain network: to ship, or to go on from."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from reducenet_mm.engine.preflight import no_side_effects
from reducenet_mm.export import export_student
from reducenet_mm.export.forms import WEIGHTS

from ..processes import RunFailed
from ..records import content_hash, read_marker, write_marker
from .planned import Run
from .progress import Display
from .runs import Finished
from .stage_order import takes_merged

EXPORTED = 'export.json'


def export_once(
    one: Finished, folder: Path, display: Display
) -> dict[str, Any]:
    """Export a student into ``folder`` unless that has been done.

    Args:
        one: A finished student stage.
        folder: Where the files of the export go.
        display: Progress display.

    Returns:
        How the export was checked.

    Raises:
        ParityError: If the student cannot be exported as it is.
        RunFailed: If it cannot be exported for another reason.
    """
    digest = content_hash(
        dict(config=one.run.cfg.to_dict(), weights=one.sha256)
    )
    marker = read_marker(folder, digest, EXPORTED)
    if marker is not None and all(
        (folder / name).is_file() for name in marker['files']
    ):
        return marker
    display.note(f'exporting the student of {one.run.name} to {folder}')
    (folder / EXPORTED).unlink(missing_ok=True)  # the files will be others
    with no_side_effects():
        try:
            result = export_student(one.run.cfg, one.checkpoint, folder)
        except (OSError, ValueError) as error:
            raise RunFailed(
                f'the student of {one.run.name} cannot be exported: {error}'
            ) from error
    kind, count = next(iter(result.images.items()))
    content = dict(
        files=list(result.files),
        largest_difference=result.largest_difference,
        images=kind,
        num_images=count,
    )
    return write_marker(folder, digest, content, EXPORTED)


def as_start(
    student: Finished, run: Run, work_dir: Path, display: Display
) -> Finished:
    """Return a student as the stage ``run`` can start from it.

    It is merged, into ``<work_dir>/merged/<stage>``: what a stage has added
    beside a convolution, such as a ``lora`` branch, is inside it then. Only
    between stages on the same pair of ``block='sequential'`` the checkpoint
    is handed on as it is.

    Returns:
        The same, with another file as its checkpoint; ``sha256`` remains
        that of the training's checkpoint.

    Raises:
        ParityError: If the student cannot be exported as it is.
        RunFailed: If it cannot be exported for another reason.
    """
    if not takes_merged(run.cfg):
        return student
    folder = work_dir / 'merged' / student.run.name
    export_once(student, folder, display)
    return replace(student, checkpoint=folder / WEIGHTS)
