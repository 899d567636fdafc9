# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""Distillation of the scaler-0 student from the scaler-1 teacher.

One instance is both. It freezes in its constructor (the Runner wraps it for
DDP there) and loads in ``init_weights``.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, ClassVar

from mmengine.logging import print_log
from mmengine.model import BaseModel
from mmengine.structures import BaseDataElement
from mmrazor.models.utils import add_prefix
from mmrazor.registry import MODELS
from torch import Tensor, nn

from ..checkpoint_checks import check_state_dict
from ..merged_student import check_has_place
from ..supernet import (
    STUDENT,
    adapt_state_dict,
    apply_view,
    hosts,
    is_lora_key,
    student_norms,
)
from .branch_training import (
    apply_reuse_,
    changing_branch_names,
    needs_schedule,
)
from .distiller import build_distiller, compute_losses
from .idle_losses import idle_branch_losses, idle_distiller_losses
from .norm_stats import find_moving_norms
from .settings import (
    NEEDS_RECALIBRATION,
    NEEDS_SCHEDULE,
    check_has_branch,
    check_settings,
)
from .shared_supernet import SharedSupernet
from .student_start import load_student_init, read_teacher
from .teacher_overlay import TeacherOverlay, changing_names
from .weight_reuse import WeightReuse, describe_reuse


@MODELS.register_module()
class SupernetDistill(SharedSupernet):
    """Train the student inside its own teacher.

    The teacher is the same instance with its branches on and its own values
    of exactly those tensors that the student changes (``teacher_overlay``).
    Its function never changes. Without a distiller there is no teacher
    forward and no overlay.

    Public names follow MMRazor's ``SingleTeacherDistill``; unlike there, no
    loss of the teacher's own is computed, and loading is strict.

    Args:
        architecture: Config or instance of the supernet: any MMEngine model
            with ReduceNet branches.
        teacher_ckpt: The teacher's checkpoint, or a distillation checkpoint
            that holds one (of ``InplaceDistill`` every one): a file, or a
            work directory (its last checkpoint). Not needed for resuming or
            testing, since those hold both networks.
        student_init: Checkpoint of the student to start from when it is not
            the teacher without branches: an exported student or a
            distillation checkpoint. For resuming it need not be there, see
            ``preflight.forget_missing_inputs``, but it must be set.
        reuse: ``dict(inherit=..., freeze=[...])``, by role or regular
            expression; see :class:`WeightReuse`. Inherits all by default.
        norm_stats: Statistics of the student's batch norms:
            ``'inherited'`` keeps those it starts from; ``'recalibrated'``
            estimates them anew at the switch (by ``SupernetSwitchHook``)
            and keeps those; ``'live'`` lets them follow the batches. Where
            statistics stay, activations grow with the weights: with all of
            the student training, the teacher's learning rate is too high.
        distiller: Config of MMRazor's ``ConfigurableDistiller``. Recorder
            sources are names inside ``architecture``.
        train_branches: Let the branches train while ``ScalerScheduleHook``
            anneals them; by default they keep the teacher's values. They
            stay in the optimizer to the stage's end.
        predict_view: Which network validation, test and prediction answer
            with, ``'student'`` or ``'teacher'``.
        data_preprocessor: Defaults to the architecture's. A config is given
            to the architecture unless that has one of its own.
        init_cfg: As in MMEngine.
        module_inplace: Leave in-place activations; only safe if no recorder
            reads a tensor that one overwrites.

    Raises:
        ValueError: If an argument is not one of those above, or they make
            no sense together.
    """

    replaced: ClassVar[dict[str, str]] = dict(
        teacher='leave it out: `architecture` at scaler 1 is the teacher',
        teacher_trainable='leave it out: the teacher is fixed, and both '
        'networks train in InplaceDistill',
        teacher_norm_eval='leave it out: the teacher is in eval mode',
        student_trainable='say in model.reuse.freeze what does not train',
        calculate_student_loss="set loss_weight=0 in the head's loss",
    )
    """What has become of MMRazor's arguments, for whoever comes from there."""

    def __init__(
        self,
        architecture: BaseModel | dict,
        teacher_ckpt: str | None = None,
        student_init: str | None = None,
        reuse: Mapping[str, Any] | None = None,
        norm_stats: str = 'live',
        distiller: dict | None = None,
        train_branches: bool = False,
        predict_view: str = 'student',
        data_preprocessor: dict | nn.Module | None = None,
        init_cfg: dict | None = None,
        module_inplace: bool = False,
    ) -> None:
        policy = WeightReuse.from_config(reuse or {})
        check_settings(
            policy, student_init, norm_stats, distiller, predict_view
        )
        super().__init__(
            architecture,
            predict_view,
            data_preprocessor,
            init_cfg,
            module_inplace,
        )
        check_has_branch(self.architecture)
        check_has_place(self.architecture)
        self.architecture.train()  # where some backbones freeze their stages
        self.teacher_ckpt = teacher_ckpt
        self.student_init = student_init
        self.norm_stats = norm_stats
        self.recalibrated = False  # SupernetSwitchHook sets it
        self.annealed = False  # ScalerScheduleHook sets it
        self._loaded = False
        self._continued = False  # from a checkpoint of a stage like this
        self.fresh, self.trained_branches = apply_reuse_(
            policy, self.architecture, train_branches, student_init is not None
        )
        self._scheduled = needs_schedule(
            self.architecture, self.trained_branches
        )
        apply_view(self.architecture, STUDENT)
        self.moving_norms = find_moving_norms(
            self.architecture, norm_stats, self.fresh
        )
        if distiller is not None:
            self.distiller = build_distiller(
                distiller, self.architecture, self.data_preprocessor
            )
            fresh = self.fresh if student_init is None else None
            self.train()  # so that it can be seen which statistics move
            names = changing_names(self.architecture, self.moving_norms, fresh)
            names += changing_branch_names(self.architecture)
            self.teacher_overlay = TeacherOverlay(self.architecture, names)

    @property
    def starts_as_teacher(self) -> bool:
        """Whether every value of the student's start is the teacher's."""
        inherits = self.student_init is None and not self.fresh
        return inherits and not self._continued

    def init_weights(self) -> None:
        """Initialise, then load teacher and student where configured.

        Raises:
            FileNotFoundError: If a checkpoint is missing.
            ValueError: If one does not fit; the cause is named.
        """
        super().init_weights()
        if self.teacher_ckpt is not None:
            teacher, source = read_teacher(
                self.teacher_ckpt, self.student_init
            )
            self.load_teacher(teacher, source)
        if self.student_init is not None:
            load_student_init(self.architecture, self.student_init)

    def load_teacher(
        self, state_dict: Mapping[str, Tensor], source: str = 'the teacher'
    ) -> None:
        """Load the teacher; the student takes what it inherits.

        Args:
            state_dict: The supernet's, all of its keys.
            source: Where it comes from, for errors.

        Raises:
            ValueError: If it does not fit; nothing is changed then.
        """
        state_dict = adapt_state_dict(self.architecture, state_dict)
        check_state_dict(self.architecture, state_dict, source)
        own = self.architecture.state_dict()
        fresh = {key: own[key] for key in self.fresh}
        self.architecture.load_state_dict({**state_dict, **fresh})
        if self.teacher_overlay is not None:
            self.teacher_overlay.copy_(state_dict)
        self._loaded = True
        start = describe_reuse(
            self.architecture, self.fresh, self.student_init
        )
        print_log(
            f'{source}: loaded. {start}; norm statistics are '
            f'{self.norm_stats}.',
            logger='current',
        )

    def _load_from_state_dict(
        self, state_dict: Mapping[str, Tensor], prefix: str, *args: Any
    ) -> None:
        super()._load_from_state_dict(state_dict, prefix, *args)
        self._loaded = self._continued = self.recalibrated = True

    def check_ready(self) -> None:
        """Raise unless the teacher has been loaded.

        Raises:
            RuntimeError: If neither ``teacher_ckpt`` nor a distillation
                checkpoint has been loaded.
        """
        if not self._loaded:
            raise RuntimeError(
                'no teacher has been loaded (model.teacher_ckpt='
                f'{self.teacher_ckpt!r}). Set model.teacher_ckpt, or resume '
                'from a distillation checkpoint.'
            )

    def teacher(
        self, inputs: Tensor, data_samples: Any = None, mode: str = 'tensor'
    ) -> Any:
        """Call the teacher, see ``SharedSupernet``.

        Raises:
            RuntimeError: If there is no distiller, or no teacher loaded.
        """
        self.check_ready()
        return super().teacher(inputs, data_samples, mode)

    def missing_hooks(self) -> dict[str, str]:
        """Return the hooks that have not done what settings rely on.

        Returns:
            Name of the hook -> what is wrong without it.
        """
        missing = {}
        if self.norm_stats == 'recalibrated' and not self.recalibrated:
            missing['SupernetSwitchHook'] = NEEDS_RECALIBRATION
        if self._scheduled and not self.annealed:
            missing['ScalerScheduleHook'] = NEEDS_SCHEDULE
        return missing

    def loss(
        self,
        inputs: Tensor,
        data_samples: list[BaseDataElement] | None = None,
    ) -> dict[str, Tensor]:
        """Compute the student's own losses and the distillation losses.

        Args:
            inputs: Preprocessed batch, ``(N, C, H, W)``.
            data_samples: Its labels.

        Returns:
            ``student.<name>`` and ``distill.<name>``; of what trains, but
            may not be computed, ``student.loss_idle_branches`` and
            ``distill.loss_idle``, which are 0.
        """
        self.check_ready()
        for reason in self.missing_hooks().values():
            raise RuntimeError(reason)
        student = partial(self.architecture, inputs, data_samples, mode='loss')
        distiller = self.active_distiller()
        if distiller is None:
            losses = student()
            distilled = idle_distiller_losses(self.distiller)
        else:
            teacher = partial(self.teacher, inputs, data_samples)
            losses, distilled = compute_losses(distiller, teacher, student)
        losses.update(
            idle_branch_losses(self.architecture, self.trained_branches)
        )
        return {
            **add_prefix(losses, 'student'),
            **add_prefix(distilled, 'distill'),
        }

    def train(self, mode: bool = True) -> SupernetDistill:
        """Set the mode; kept statistics and branches stay in eval mode."""
        super().train(mode)
        if not self.trained_branches or self.norm_stats != 'live':
            for _, host in hosts(self.architecture):
                host.expand.eval()
        if self.norm_stats != 'live':
            for name, norm in student_norms(self.architecture):
                if not is_lora_key(name):  # a branch's own are no teacher's
                    norm.eval()
        return self
