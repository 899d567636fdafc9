# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""Load MMEngine's checkpoints without executing code from the file.

Reason: since 2.6 ``torch.load`` unpickles weights only and then refuses
what every MMEngine checkpoint holds, its log history
(open-mmlab/mmengine issue 1655); loading from a URL, on the other hand, still
unpickles everything, as ``torch.hub.load_state_dict_from_url`` has
``weights_only=False`` for a default. Versions: torch >= 2.6 with mmengine up
to 0.10.7 at least.

What a log history consists of is put on torch's list of safe globals, so it
loads wherever ``torch.load`` is called, be it in MMEngine or in a tool of
MMPretrain. ``torch.load`` itself gets a thin wrapper which only rewords
errors; a caller who passes ``weights_only=False`` still decides so.
"""

import errno
import functools
import os
import pickle
import re
import struct
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from mmengine.logging import HistoryBuffer
from mmengine.runner import checkpoint as mmengine_checkpoint

SWITCH = 'TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD'

_DTYPES = '?bhilqBHILQefdU'
_STATISTICS = ('current', 'max', 'mean', 'min')
_DAMAGED = (EOFError, LookupError, UnicodeDecodeError, struct.error)
_DAMAGED_TEXT = re.compile(
    'PytorchStreamReader|unexpected EOF|[Cc]orrupt|protocol version'
    '|wrong byte size|record size'
)


def install_safe_load() -> None:
    """Extend torch's safe globals and reword ``torch.load``'s errors.

    A second call changes nothing.
    """
    torch.serialization.add_safe_globals(_safe_globals())
    if not hasattr(torch.load, '_reducenet_mm'):
        torch.load = _with_clear_errors(torch.load)
    load_url = mmengine_checkpoint.load_url
    if not isinstance(load_url, functools.partial):
        # None: torch.load's own default, which the switch can change.
        mmengine_checkpoint.load_url = functools.partial(
            load_url, weights_only=None
        )


def _safe_globals() -> list[Any]:
    """List what HistoryBuffer and the numpy arrays in it are made of."""
    # Asked of the objects, as numpy has moved the functions once already.
    rebuild = {
        '_reconstruct': np.empty(0).__reduce__()[0],
        'scalar': np.float64(0).__reduce__()[0],
    }
    functions = [
        (function, f'{package}.multiarray.{name}')
        for name, function in rebuild.items()
        for package in ('numpy.core', 'numpy._core')
    ]
    getters = [
        (_get_statistics_method, f'{module}.getattr')
        for module in ('builtins', '__builtin__')
    ]
    dtypes = {type(np.dtype(code)) for code in _DTYPES}
    return [HistoryBuffer, np.ndarray, np.dtype, *dtypes, *functions, *getters]


def _get_statistics_method(owner: Any, name: Any) -> Callable[..., Any]:
    """Stand in for ``getattr``, by which HistoryBuffer pickles its methods.

    Raises:
        pickle.UnpicklingError: For anything but HistoryBuffer's own
            statistics methods.
    """
    if owner is HistoryBuffer and name in _STATISTICS:
        return getattr(HistoryBuffer, name)
    raise pickle.UnpicklingError(
        f'Unsupported GLOBAL builtins.getattr with attribute {name!r}'
    )


def _with_clear_errors(load: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap ``torch.load`` so that its refusals say what can be done."""

    @functools.wraps(load)
    def load_with_clear_errors(f: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            return load(f, *args, **kwargs)
        except pickle.UnpicklingError as error:
            raise pickle.UnpicklingError(
                _refusal(_name(f), str(error), kwargs.get('weights_only'))
            ) from None
        except Exception as error:
            if not _means_damage(error):
                raise
            raise RuntimeError(
                f'{_name(f)} is no readable checkpoint: it is truncated or '
                f'damaged ({type(error).__name__}: {_first_line(error)}). '
                'Copy, download or train it again.'
            ) from error

    load_with_clear_errors._reducenet_mm = True  # type: ignore[attr-defined]
    return load_with_clear_errors


def _refusal(name: str, reason: str, weights_only: bool | None) -> str:
    """Word the refusal of the file ``name``."""
    switch = (
        'pass weights_only=False to torch.load'
        if weights_only
        else f'set the environment variable {SWITCH}=1'
    )
    wanted = re.search(r'GLOBAL (\S+)', reason)
    if wanted is None:
        return (
            f'{name} cannot be loaded as plain weights: it is damaged, or no '
            'checkpoint at all, or it needs the full unpickler, which runs '
            'code from the file. Only if you trust the file and its source, '
            f'{switch}. The unpickler said: {reason}'
        )
    return (
        f'{name} was refused: it asks for {wanted[1]}, and loading it would '
        'run code from the file. Nothing of it was run. Only if you trust '
        f'the file and its source, {switch}.'
    )


def _means_damage(error: Exception) -> bool:
    """Tell a truncated or damaged file from every other failure."""
    if isinstance(error, OSError):
        # Torch's zip reader, when it looks for the archive's end.
        return error.errno == errno.EINVAL
    if isinstance(error, RuntimeError):
        return _DAMAGED_TEXT.search(str(error)) is not None
    return isinstance(error, _DAMAGED)


def _name(f: Any) -> str:
    """Name a path or an open file."""
    if isinstance(f, (str, os.PathLike)):
        return os.fspath(f)
    return str(getattr(f, 'name', repr(f)))


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or ['no details'])[0]
