# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""The test set: each network answers it once, at the very end."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmengine.config import Config

from reducenet_mm.files import sha256_file
from reducenet_mm.plain_numbers import as_number

from ..processes import LOG, option_arguments, run_logged, shell_command
from ..records import MARKER, content_hash, read_marker, write_marker
from .planned import check_unchanged
from .runs import Workshop


@dataclass(frozen=True)
class Candidate:
    """A network to be tested.

    Attributes:
        name: Unique in the pipeline.
        config: Its plain config.
        options: Overrides of it, by dotted key.
        cfg: Both merged.
        checkpoint: Its weights.
    """

    name: str
    config: Path
    options: dict[str, Any]
    cfg: Config
    checkpoint: Path


def evaluate_once(
    candidate: Candidate, folder: Path, workshop: Workshop
) -> dict[str, Any]:
    """Test a network through ``tools/test.py`` unless it has been.

    Args:
        candidate: The network.
        folder: Where results go.
        workshop: What the pipeline's processes share.

    Returns:
        ``metrics`` by name, the ``command``, and ``evaluations``: how often
        a network of this name has met the test set in this work dir; more
        than once if it was trained again after a change.

    Raises:
        RunFailed: If the test ends with an error, or the config has changed
            since it was planned.
    """
    digest = content_hash(
        dict(
            config=candidate.cfg.to_dict(),
            weights=sha256_file(candidate.checkpoint),
        )
    )
    marker = read_marker(folder, digest)
    if marker is not None:
        return marker
    check_unchanged(candidate.config, candidate.options, candidate.cfg)
    workshop.display.note(f'testing {candidate.name}')
    folder.mkdir(parents=True, exist_ok=True)
    out = folder / 'metrics.json'
    command = [sys.executable, str(workshop.tools_dir / 'test.py')]
    command += [str(candidate.config), str(candidate.checkpoint)]
    command += ['--work-dir', str(folder), '--out', str(out)]
    if candidate.options:
        arguments = option_arguments(candidate.options)
        command += ['--cfg-options', *arguments]
    run_logged(command, folder / LOG, workshop.lock_fd)
    content = dict(
        metrics=plain_metrics(json.loads(out.read_text())),
        command=shell_command(command),
        evaluations=_evaluations(folder) + 1,
    )
    return write_marker(folder, digest, content)


def plain_metrics(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out what a table of networks cannot show: matrices, NaN."""
    return {
        name: value
        for name, value in metrics.items()
        if (number := as_number(value)) is not None and math.isfinite(number)
    }


def _evaluations(folder: Path) -> int:
    """Return how often networks of this name have been tested before."""
    try:
        return int(json.loads((folder / MARKER).read_text())['evaluations'])
    except (FileNotFoundError, KeyError, ValueError):
        return 0
