# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""Run what has been planned: once, and on from where it was stopped."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reducenet_mm.engine.checkpointing import newest_checkpoint
from reducenet_mm.files import sha256_file

from ..checks import check_end
from ..code_version import code_version
from ..processes import (
    LOG,
    RunFailed,
    option_arguments,
    run_logged,
    shell_command,
)
from ..records import (
    STARTED,
    content_hash,
    read_marker,
    session_marker,
    set_aside,
    write_marker,
)
from ..scalars import validation_curve
from .planned import Run, check_unchanged
from .progress import Display


@dataclass(frozen=True)
class Workshop:
    """What all processes of a pipeline share.

    Attributes:
        tools_dir: Folder of ``train.py`` and ``test.py``.
        display: Progress display.
        lock_fd: File descriptor of the work dir's lock.
    """

    tools_dir: Path
    display: Display
    lock_fd: int | None = None


@dataclass(frozen=True)
class Finished:
    """A finished training run.

    Attributes:
        run: Its plan.
        checkpoint: That of its last epoch.
        sha256: Of the checkpoint.
        command: How its last session was started.
        sessions: How many sessions its weights went through: more than one
            if it was interrupted and resumed.
        epochs: How many it was trained: fewer than planned if it ended
            early; None for as many.
        codes: Versions of the code of its first and its last session; None
            if a session of an earlier version did not say.
    """

    run: Run
    checkpoint: Path
    sha256: str
    command: str
    sessions: int
    epochs: int | None = None
    codes: tuple[Mapping[str, Any] | None, ...] = ()

    @property
    def trained_epochs(self) -> int:
        """Epochs that it was trained."""
        return self.run.epochs if self.epochs is None else self.epochs

    @property
    def multiply_adds(self) -> float:
        """Training multiply-adds of the epochs that it was trained."""
        return self.trained_epochs * self.run.cost.per_epoch

    def accuracy(self, metric: str) -> float:
        """Return the validation metric of its last epoch, in percent.

        Raises:
            RunFailed: If that epoch was not validated.
        """
        epoch = self.trained_epochs
        curve = dict(validation_curve(self.run.work_dir, metric))
        if epoch not in curve:
            raise RunFailed(
                f'{self.run.name} has logged no {metric!r} (`metric`) of its '
                f'last epoch, {epoch}, in {self.run.work_dir}: got '
                f'{sorted(curve)}. Its config needs val_dataloader, '
                'val_evaluator and val_cfg.'
            )
        return curve[epoch]


def finish_run(
    run: Run, inputs: Mapping[str, Finished], workshop: Workshop
) -> Finished:
    """Make sure that a run is finished, and return it.

    A run with a marker of the same config and inputs is skipped; one that
    was interrupted is resumed; results of another config or other inputs
    are set aside and the run starts anew.

    Args:
        run: The run.
        inputs: Earlier runs whose checkpoints it needs, by config key.
        workshop: What the pipeline's processes share.

    Raises:
        RunFailed: If training ends with an error, or its config has changed
            since it was planned.
    """
    digest = content_hash(
        dict(
            config=run.cfg.to_dict(),
            inputs={key: value.sha256 for key, value in inputs.items()},
        )
    )
    marker = read_marker(run.work_dir, digest)
    if marker is not None and (run.work_dir / marker['checkpoint']).is_file():
        workshop.display.skip(run)
    else:
        marker = _train(run, digest, inputs, workshop)
    return Finished(
        run=run,
        checkpoint=run.work_dir / marker['checkpoint'],
        sha256=marker['sha256'],
        command=marker['command'],
        sessions=marker['sessions'],
        epochs=marker['epochs'],
        codes=_codes(marker),
    )


def _codes(marker: Mapping[str, Any]) -> tuple[Mapping[str, Any] | None, ...]:
    begun = [marker['begun_by']] if 'begun_by' in marker else []
    return *begun, marker.get('code')


def _train(
    run: Run,
    digest: str,
    inputs: Mapping[str, Finished],
    workshop: Workshop,
) -> dict[str, Any]:
    """Start or resume a run, wait for its end and mark it finished."""
    check_unchanged(run.config, run.options, run.cfg)
    started = _started_before(run, digest, workshop)
    resume_from = _newest_checkpoint(run, workshop)
    if resume_from is None:
        started = None
    session = session_marker(started, code_version())
    write_marker(run.work_dir, digest, session, STARTED)
    command = _command(run, inputs, workshop.tools_dir, resume_from)
    workshop.display.start(run, resumed=resume_from is not None)
    run_logged(
        command,
        run.work_dir / LOG,
        workshop.lock_fd,
        watch=lambda: workshop.display.update(run),
    )
    epochs = _last_epoch(run, workshop)
    checkpoint = run.work_dir / f'epoch_{epochs}.pth'
    check_end(checkpoint, _newest_checkpoint(run, workshop), run.config)
    content: dict[str, Any] = dict(
        name=run.name,
        role=run.role,
        epochs=epochs,
        checkpoint=checkpoint.name,
        sha256=sha256_file(checkpoint),
        command=shell_command(command),
        **session,
    )
    marker = write_marker(run.work_dir, digest, content)
    workshop.display.finish(run, epochs)
    return marker


def _started_before(
    run: Run, digest: str, workshop: Workshop
) -> dict[str, Any] | None:
    """Return what an earlier session left; other work is set aside."""
    started = read_marker(run.work_dir, digest, STARTED)
    if started is not None:
        return started
    outdated = set_aside(run.work_dir)
    if outdated is not None:
        workshop.display.note(
            f'{run.name}: the config or its inputs have changed; earlier '
            f'results are kept in {outdated}'
        )
    return None


def _command(
    run: Run,
    inputs: Mapping[str, Finished],
    tools_dir: Path,
    resume_from: Path | None,
) -> list[str]:
    options = dict(run.options)
    options.update({key: str(inputs[key].checkpoint) for key in inputs})
    command = [sys.executable, str(tools_dir / 'train.py'), str(run.config)]
    command += ['--work-dir', str(run.work_dir)]
    if resume_from is not None:
        command += ['--resume', str(resume_from)]
    return [*command, '--cfg-options', *option_arguments(options)]


def _newest_checkpoint(run: Run, workshop: Workshop) -> Path | None:
    try:
        return newest_checkpoint(run.work_dir, workshop.display.note)
    except ValueError as error:
        raise RunFailed(f'{run.name}: {error}') from error


def _last_epoch(run: Run, workshop: Workshop) -> int:
    """Return the last epoch that was trained; it may have come early."""
    if not run.may_end_early:
        return run.epochs
    curve = validation_curve(run.work_dir, workshop.display.metric)
    return curve[-1][0] if curve else 0
