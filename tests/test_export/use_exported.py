# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""Use exported folders where this project is not installed.

Run by ``test_without_project.py`` in a process of its own, as
``python -I -S use_exported.py ROOT SITE...``: only the standard library and
the packages in SITE can be imported, without what editable installs add.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import runpy
import sys
from pathlib import Path

root, *site = sys.argv[1:]
sys.path.extend(site)


class Blocker:
    """Hides the project and MMRazor, should they be installed as copies."""

    @staticmethod
    def find_spec(name, path=None, target=None):
        if name.partition('.')[0] in ('reducenet_mm', 'mmrazor'):
            raise ModuleNotFoundError(f'No module named {name!r}', name=name)


sys.meta_path.insert(0, Blocker)
try:
    import reducenet_mm  # noqa: F401
except ModuleNotFoundError:
    pass
else:
    sys.exit('the project can be imported: nothing would be tested')

import torch  # noqa: E402
from mmpretrain import (  # noqa: E402
    ImageClassificationInferencer,
    get_model,
)
from mmpretrain.apis import init_model  # noqa: E402

torch.set_num_threads(1)


def tool(name: str, *args: object) -> str:
    """Run one of MMPretrain's own tools, return what it prints."""
    import mmpretrain

    path = Path(mmpretrain.__file__).parent / '.mim' / 'tools' / name
    argv, sys.argv = sys.argv, [str(path), *map(str, args)]
    try:
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            runpy.run_path(str(path), run_name='__main__')
    finally:
        sys.argv = argv
    return printed.getvalue()


def use(folder: Path, image: object, batch: torch.Tensor) -> dict:
    """Load a folder in each of MMPretrain's ways, return what it answers."""
    config, weights = str(folder / 'student.py'), str(folder / 'student.pth')
    model = get_model(config, pretrained=weights)
    saved = torch.load(weights)  # weights_only by default
    model.load_state_dict(saved['state_dict'], strict=True)
    answer = {}
    with torch.no_grad():
        logits = model(batch)
        old_way = init_model(config, weights).eval()(batch)
        folded = folder / 'student_folded.py'
        if folded.is_file():
            weights_folded = str(folded.with_suffix('.pth'))
            answer['folded'] = get_model(str(folded), weights_folded)(batch)
    inferencer = ImageClassificationInferencer(config, pretrained=weights)
    return dict(
        answer,
        logits=logits,
        init_model=old_way,
        inferred=inferencer(image)[0],
        classes=list(model._dataset_meta['classes']),
        backbone=type(model.backbone).__name__,
        file=importlib.import_module(type(model.backbone).__module__).__file__,
    )


def main() -> None:
    """Use all folders, and the tools on one of them."""
    given = torch.load(f'{root}/given.pt', weights_only=False)
    answers = {
        name: use(Path(root, name), *inputs) for name, inputs in given.items()
    }
    student = Path(root, 'parallel')
    results = Path(root, 'results')
    results.mkdir()
    paths = student / 'student.py', student / 'student.pth'
    tool('test.py', *paths, '--work-dir', results, '--show-dir',
         results / 'drawn', '--out', results / 'predictions.pkl')  # fmt: skip
    printed = tool(
        'model_converters/publish_model.py',
        paths[1],
        results / 'published.pth',
    )
    answers['published'] = printed.split()[-1].rstrip('.')
    answers['errors'] = {}
    for name in ('digits', 'holdout', 'both'):
        folder = Path(root, name)
        try:
            tool('test.py', folder / 'student.py', folder / 'student.pth',
                 '--work-dir', results / name)  # fmt: skip
        except (KeyError, ValueError) as error:
            answers['errors'][name] = str(error)
    answers['found'] = [
        name for name in sys.modules if name.startswith('reducenet_mm')
    ]
    torch.save(answers, f'{root}/answers.pt')


main()
