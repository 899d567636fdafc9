# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""What all algorithms share: one instance that answers as either network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mmengine.model import BaseModel
from mmrazor.models.algorithms import BaseAlgorithm
from mmrazor.models.distillers import ConfigurableDistiller
from torch import Tensor, nn

from ..architecture import add_scope, hand_over_preprocessor
from ..checkpoint_checks import check_resumable
from ..checkpoint_views import strip_prefix
from ..replace import check_names_are_free
from .following import follow_modules
from .teacher_overlay import TeacherOverlay


class SharedSupernet(BaseAlgorithm):
    """Teacher and student in one architecture, told apart by an overlay.

    Subclasses set ``distiller`` and ``teacher_overlay``, where they have
    them, and compute ``loss``.

    Args:
        architecture: Config or instance of the supernet.
        predict_view: Which network validation, test and prediction answer
            with, ``'student'`` or ``'teacher'``.
        data_preprocessor: Defaults to the architecture's. A config is given
            to the architecture unless that has one of its own.
        init_cfg: As in MMEngine.
        module_inplace: Leave in-place activations.

    Raises:
        ValueError: If anything that is no branch is named like one.
    """

    def __init__(
        self,
        architecture: BaseModel | dict,
        predict_view: str,
        data_preprocessor: dict | nn.Module | None,
        init_cfg: dict | None,
        module_inplace: bool,
    ) -> None:
        architecture, data_preprocessor = hand_over_preprocessor(
            architecture, data_preprocessor
        )
        if isinstance(architecture, dict):
            architecture = add_scope(architecture)
        super().__init__(
            architecture, data_preprocessor, init_cfg, module_inplace
        )
        check_names_are_free(self.architecture)
        self.predict_view = predict_view
        self.distillation_stopped = False  # MMRazor's StopDistillHook sets it
        self.distiller: ConfigurableDistiller | None = None
        self.teacher_overlay: TeacherOverlay | None = None

    def _load_from_state_dict(
        self, state_dict: Mapping[str, Tensor], prefix: str, *args: Any
    ) -> None:
        self.check_resumable(strip_prefix(state_dict, prefix))
        super()._load_from_state_dict(state_dict, prefix, *args)

    def check_resumable(self, state_dict: Mapping[str, Tensor]) -> None:
        """Refuse, strictly, any state dict that is not this algorithm's.

        Raises:
            ValueError: If any key is missing, unexpected or of another shape.
        """
        check_resumable(self.state_dict(), state_dict)

    def check_switchable(self, value: float) -> None:
        """Refuse to be switched by ``set_scaler`` to anything but the student.

        Raises:
            ValueError: If ``value`` is not 0.
        """
        if value == 0:
            return
        advice = 'this one has no teacher, test that of the stage before'
        if self.teacher_overlay is not None:
            advice = (
                'call its teacher(...), or set its '
                "predict_view='teacher' to let it answer as that"
            )
        raise ValueError(
            f'set_scaler({type(self).__name__}, {value}) would put branches '
            "on what the student has learned, and that is no teacher's: an "
            f'algorithm keeps of the teacher what differs. Instead, {advice}.'
        )

    def teacher(
        self, inputs: Tensor, data_samples: Any = None, mode: str = 'tensor'
    ) -> Any:
        """Call the teacher: no graph, eval mode, nothing updated.

        Args:
            inputs: Preprocessed batch, ``(N, C, H, W)``.
            data_samples: As the architecture takes them.
            mode: ``'tensor'`` or ``'predict'``.

        Returns:
            What the architecture returns.

        Raises:
            RuntimeError: If there is no distiller.
        """
        if self.teacher_overlay is None:
            raise RuntimeError(
                'this stage has no teacher: model.distiller is None.'
            )
        return self.teacher_overlay.call(
            self.architecture, inputs, data_samples, mode=mode
        )

    def active_distiller(self) -> ConfigurableDistiller | None:
        """Return the distiller, ready for a step, unless it is stopped.

        Raises:
            RuntimeError: If a module that it records is gone.
        """
        if self.distiller is None or self.distillation_stopped:
            return None
        follow_modules(self.distiller, self.architecture)
        return self.distiller

    @property
    def head(self) -> nn.Module:
        """The architecture's head, for hooks that change what it does.

        Such as MMPretrain's ``SwitchRecipeHook``, which changes its loss.
        """
        return self.architecture.head

    def extract_feat(self, *args: Any, **options: Any) -> Any:
        """Return the architecture's features, as MMPretrain's tools ask.

        Arguments are those of its own; at scaler 0 it is the student's.
        """
        return self.architecture.extract_feat(*args, **options)

    def get_layer_depth(self, param_name: str) -> tuple[int, int]:
        """Return the layer of a parameter, for rates that fall by layer.

        Args:
            param_name: Of a parameter of this algorithm.

        Returns:
            Its layer and the number of layers, as the architecture says.
        """
        inner = param_name.removeprefix('architecture.')
        return self.architecture.get_layer_depth(inner)

    def _forward(self, inputs: Tensor, data_samples: Any = None) -> Any:
        return self._answer(inputs, data_samples, 'tensor')

    def _predict(self, inputs: Tensor, data_samples: Any = None) -> Any:
        return self._answer(inputs, data_samples, 'predict')

    def _answer(self, inputs: Tensor, data_samples: Any, mode: str) -> Any:
        if self.predict_view == 'teacher':
            return self.teacher(inputs, data_samples, mode=mode)
        return self.architecture(inputs, data_samples, mode=mode)
