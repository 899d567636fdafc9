# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""Branches that start at zero, whatever initialises the network around."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn


class ZeroStart(nn.Module, ABC):
    """A module whose last layer is zero at first, so that it adds nothing.

    The ``init_cfg`` of a network reaches into all modules inside it and
    writes ones into the scales of norms. So what is zero here when MMEngine
    starts to initialise a network is set to zero again when it has ended,
    unless a checkpoint loaded meanwhile has values for it. A module that has
    been trained is not zero, and is left to the initialisers.
    """

    @abstractmethod
    def last_parameters(self) -> tuple[Tensor, ...]:
        """Return what is zero at the start; empty if nothing is."""

    def reset_output(self) -> None:
        """Set the last layer to zero."""
        for parameter in self.last_parameters():
            nn.init.zeros_(parameter)

    # MMEngine calls `init_weights` of direct children only, so it may never
    # reach a module this deep. But it sets this attribute on every module
    # when an initialisation starts, and deletes it when that is done.
    @property
    def _params_init_info(self) -> Mapping[Any, Any]:
        if '_init_info' not in self.__dict__:
            raise AttributeError('_params_init_info')
        return self.__dict__['_init_info']

    @_params_init_info.setter
    def _params_init_info(self, info: Mapping[Any, Any]) -> None:
        self.__dict__['_init_info'] = info
        self.__dict__['_zeros'] = [
            parameter
            for parameter in self.last_parameters()
            if not parameter.any()
        ]

    @_params_init_info.deleter
    def _params_init_info(self) -> None:
        for parameter in self.__dict__.pop('_zeros'):
            nn.init.zeros_(parameter)
        del self.__dict__['_init_info']

    def _load_from_state_dict(
        self, state_dict: Mapping[str, Tensor], prefix: str, *args: Any
    ) -> None:
        """Keep what is loaded while the network is being initialised."""
        if any(key.startswith(prefix) for key in state_dict):
            self.__dict__.get('_zeros', []).clear()
        super()._load_from_state_dict(state_dict, prefix, *args)
