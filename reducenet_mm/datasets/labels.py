# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""The classes of a data set's images, without reading an image."""

from __future__ import annotations

from typing import Any

import numpy as np


def class_labels(dataset: Any) -> np.ndarray | None:
    """Return the classes of the images, int, shape (N, ).

    Args:
        dataset: With ``get_data_info``, which is called once for each image.

    Returns:
        ``None`` if there are no images, or one has not exactly one class
        number.
    """
    labels = []
    for index in range(len(dataset)):
        label = np.asarray(dataset.get_data_info(index).get('gt_label'))
        if label.ndim or label.dtype.kind not in 'iu':
            return None
        labels.append(int(label))
    return np.array(labels) if labels else None
