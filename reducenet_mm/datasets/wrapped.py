# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""Configs of data sets that wrap others: HoldoutSplit, ConcatDataset, ..."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def innermost(dataset: Mapping[str, Any]) -> list[Any]:
    """Return the configs that wrap none, in order, not copied.

    Args:
        dataset: Config of a data set; itself what is returned if it wraps
            none by the keys ``dataset`` and ``datasets``.
    """
    children = [dataset.get('dataset'), *(dataset.get('datasets') or ())]
    inner = [child for child in children if isinstance(child, Mapping)]
    if not inner:
        return [dataset]
    return [leaf for child in inner for leaf in innermost(child)]
