# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""A few images with boxes and masks, in the toolboxes' file formats."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

CLASSES = ('dark', 'bright')
SIDE = 64


def write_images(
    root: Path, count: int = 4, names: Sequence[str] = CLASSES
) -> None:
    """Write images with a rectangle of each of the first two classes.

    ``images/<i>.jpg``; ``boxes.json`` in COCO's format; ``masks/<i>.png``
    with the values 0 (around), 1 and 2.
    """
    rng = np.random.RandomState(0)
    for folder in ('images', 'masks'):
        (root / folder).mkdir(parents=True)
    annotations = []
    for index in range(count):
        image = rng.randint(96, 160, (SIDE, SIDE, 3), np.uint8)
        mask = np.zeros((SIDE, SIDE), np.uint8)
        for label, grey in enumerate((30, 220)):
            width, height = (int(size) for size in rng.randint(12, 28, 2))
            x = label * SIDE // 2 + int(rng.randint(SIDE // 2 - width))
            y = int(rng.randint(SIDE - height))
            image[y : y + height, x : x + width] = grey
            mask[y : y + height, x : x + width] = label + 1
            annotations.append(
                dict(
                    id=len(annotations) + 1,
                    image_id=index,
                    category_id=label + 1,
                    bbox=[x, y, width, height],
                    area=width * height,
                    iscrowd=0,
                )
            )
        assert cv2.imwrite(str(root / 'images' / f'{index}.jpg'), image)
        assert cv2.imwrite(str(root / 'masks' / f'{index}.png'), mask)
    content = dict(
        images=[
            dict(id=i, file_name=f'{i}.jpg', width=SIDE, height=SIDE)
            for i in range(count)
        ],
        annotations=annotations,
        categories=[dict(id=i + 1, name=name) for i, name in enumerate(names)],
    )
    (root / 'boxes.json').write_text(json.dumps(content))
