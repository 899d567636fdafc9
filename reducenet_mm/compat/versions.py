# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""Check the installed mmcv before anything imports it.

Reason: no requirement of this package brings mmcv, since two distributions,
``mmcv`` and ``mmcv-lite``, install the same folder and neither may
overwrite the other. Versions: MMRazor 1.0.0 asserts mmcv <= 2.1.0 and
MMPretrain 1.2.0 asserts mmcv >= 2.0.0, each in its ``__init__.py``, with an
``AssertionError`` that names no command.
"""

import importlib
import importlib.metadata
import importlib.util

from packaging.version import Version

MMCV_MINIMUM = '2.0.0'
MMCV_MAXIMUM = '2.1.0'
_RANGE = f'>={MMCV_MINIMUM},<={MMCV_MAXIMUM}'


def check_mmcv() -> None:
    """Check that an mmcv within [2.0.0, 2.1.0] is installed.

    The version is read from the metadata of ``mmcv`` or ``mmcv-lite``; mmcv
    is imported only where neither has any (a source checkout on the path).

    Raises:
        ImportError: If mmcv is missing or out of range; the message holds
            the command to type.
    """
    installed = _installed_versions()
    if importlib.util.find_spec('mmcv') is None:
        raise ImportError(_missing_message(installed))
    if not installed:
        installed = {'mmcv': importlib.import_module('mmcv').__version__}
    for name, version in installed.items():
        if not _in_range(version):
            raise ImportError(
                f'reducenet_mm needs {name}{_RANGE} (MMRazor 1.0.0 accepts '
                f'no newer one), got {name} {version}. Type: '
                f"pip install '{name}{_RANGE}'"
            )


def _installed_versions() -> dict[str, str]:
    """Map the installed ones of mmcv's two distributions to versions."""
    found = {}
    for name in ('mmcv', 'mmcv-lite'):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _in_range(version: str) -> bool:
    """Compare without the local part: ``2.1.0+cu118`` counts as 2.1.0."""
    public = Version(Version(version).public)
    return Version(MMCV_MINIMUM) <= public <= Version(MMCV_MAXIMUM)


def _missing_message(installed: dict[str, str]) -> str:
    """Tell what to type when there is no module ``mmcv``."""
    if installed:
        # Removing one distribution takes the folder of the other along.
        name = next(iter(installed))
        return (
            f'{name} {installed[name]} is recorded as installed, but its '
            'folder mmcv/ is gone. Type: '
            f"pip install --force-reinstall --no-deps '{name}{_RANGE}'"
        )
    return (
        'reducenet_mm needs mmcv and found none. Type: '
        f"pip install 'mmcv-lite{_RANGE}' (pure Python, enough for "
        f"classification), or: pip install 'mmcv{_RANGE}' (with compiled "
        'operators)'
    )
