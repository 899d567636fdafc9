# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""Ignore two warnings that OpenMMLab's imports give ahead of any output.

Reason: nothing can be done about them here. ``mmcv-lite`` says at import that
it has no operators; MMEngine uses ``pkg_resources`` for each
``_base_ = 'mmpretrain::...'``, which says that it is deprecated: once when
imported and again at each ``importlib.reload``. Versions: mmcv-lite 2.1.0;
mmengine 0.10.7 with setuptools 81 (82 has no pkg_resources).

A filter names the text, the category and the module that is to blame, so the
same warning about anybody else's import is still shown. The filters come
last: whatever the user asks for (``-W``, ``PYTHONWARNINGS``,
``warnings.simplefilter``) has priority.
"""

import importlib
import inspect
import warnings

_OPERATORS = (
    'Fail to import ``MultiScaleDeformableAttention`` from '
    '``mmcv\\.ops\\.multi_scale_deform_attn``'
)
_PKG_RESOURCES = 'pkg_resources is deprecated as an API'


def install_quiet_imports() -> None:
    """Append the filters; a second call changes nothing.

    Python drops a filter that is there already.
    """
    _ignore(_OPERATORS, r'mmcv\.cnn\.bricks\.transformer$')
    _ignore(_PKG_RESOURCES, r'mmengine\.utils\.package_utils$')
    line = _line_of_reload()
    if line:
        _ignore(_PKG_RESOURCES, 'importlib$', line)


def _ignore(message: str, module: str, line: int = 0) -> None:
    warnings.filterwarnings(
        'ignore', message, UserWarning, module, line, append=True
    )


def _line_of_reload() -> int:
    """Return the line of importlib at which ``reload`` runs a module.

    A reload is attributed to it, and not to MMEngine. In the same file is
    ``import_module``, by which anybody may import.

    Returns:
        The line, or 0 if the source is not at hand.
    """
    try:
        lines, first = inspect.getsourcelines(importlib.reload)
    except OSError:
        return 0
    found = (i for i, text in enumerate(lines, first) if '_exec(' in text)
    return next(found, 0)
