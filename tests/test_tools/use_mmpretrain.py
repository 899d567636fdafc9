# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""Use configs and checkpoints through MMPretrain's Python interface alone.

Run by ``test_mmpretrain_tools.py`` in a process of its own, as
``python use_mmpretrain.py FOLDER NAME...``: for each name FOLDER holds a
config, a work dir with a checkpoint, and there is one image for all. This
project is imported by what the configs say, or not at all.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from mmpretrain import ImageClassificationInferencer, get_model, list_models
from mmpretrain.apis.model import ModelHub

OURS = 'reducenet_mm'


def use(folder: Path, name: str) -> dict:
    """Return what the model of a config answers to one image and a batch."""
    config = str(folder / f'{name}.py')
    checkpoint = str(folder / name / 'epoch_1.pth')
    model = get_model(config, pretrained=checkpoint)
    with torch.no_grad():
        logits = model(torch.load(folder / 'batch.pt'))
    inferencer = ImageClassificationInferencer(config, pretrained=checkpoint)
    inferred = inferencer(str(folder / 'val' / '1.jpg'))[0]
    return dict(logits=logits, inferred=inferred)


def by_index(root: Path) -> dict:
    """Return what MMPretrain's index says and builds of this project."""
    # MMPretrain's own five hundred take long to read.
    ModelHub._ModelHub__mmpretrain_registered = True
    ModelHub.register_model_index(root / 'model-index.yml', config_prefix=root)
    names = list_models('reducenet*digits_teacher')
    return {name: type(get_model(name).backbone).__name__ for name in names}


def main() -> None:
    """Use the index, then all names."""
    folder, *names = sys.argv[1:]
    before = OURS in sys.modules
    answers = dict(listed=by_index(Path(__file__).parents[2]))
    answers['imported'] = (before, OURS in sys.modules)
    answers.update((name, use(Path(folder), name)) for name in names)
    torch.save(answers, f'{folder}/answers.pt')


main()
