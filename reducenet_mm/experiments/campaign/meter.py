# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""What trainings cost, for a plan of many that are alike."""

from __future__ import annotations

from typing import Any

from mmengine.config import Config

from ..cost import (
    DATA_FIELDS,
    NetworkSize,
    TrainingCost,
    TrainingData,
    deployed_model,
    measure_training,
    network_size,
    read_training_data,
)
from ..records import content_hash

_OF_COST = (
    *DATA_FIELDS,
    'model',
    'data_preprocessor',
    'optim_wrapper',
    'custom_hooks',  # a scaler's schedule, and how long it takes
    'default_hooks',  # another place for it
    'train_cfg',
)


class Meter:
    """Measures each training once, and reads each data set once.

    Arms of a campaign mostly share their data, and listing the files of a
    large one takes longer than all that is counted.
    """

    def __init__(self) -> None:
        self._measured: dict[str, tuple[TrainingCost, NetworkSize]] = {}
        self._data: dict[str, TrainingData] = {}

    def measure(self, cfg: Config) -> tuple[TrainingCost, NetworkSize]:
        """Return what a training costs, and the size of its network.

        Args:
            cfg: As of :func:`measure_training`, likewise what is raised.
        """
        key = _hash_of(cfg, _OF_COST)
        if key not in self._measured:
            cost = measure_training(cfg, self._read)
            size = network_size(deployed_model(cfg), cost.input_shape)
            self._measured[key] = cost, size
        return self._measured[key]

    def _read(self, cfg: Config) -> TrainingData:
        key = _hash_of(cfg, DATA_FIELDS)
        if key not in self._data:
            self._data[key] = read_training_data(cfg)
        return self._data[key]


def _hash_of(cfg: Config, fields: tuple[str, ...]) -> str:
    content: dict[str, Any] = cfg.to_dict()
    return content_hash({name: content.get(name) for name in fields})
