# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""All that knows versions: of OpenMMLab's packages and of ReduceNet.

Shims let the last OpenMMLab releases work on today's torch; each is one small
module that states its reason, the versions it is for and its source.
Importing this package changes nothing and imports no mmcv; :func:`install`
does the work and may be called any number of times. ``published_*`` read
checkpoints of the published network.
"""

from .checkpoint import install_safe_load
from .checksums import find_damage, install_checksums
from .distributed import leave_cpu_distributed, setup_cpu_distributed
from .mmrazor_import import install_import_hook
from .quiet_imports import install_quiet_imports
from .versions import check_mmcv

__all__ = [
    'check_mmcv',
    'find_damage',
    'install',
    'install_checksums',
    'install_import_hook',
    'install_quiet_imports',
    'install_safe_load',
    'leave_cpu_distributed',
    'setup_cpu_distributed',
]


def install() -> None:
    """Install the shims that must stand before anything else is imported.

    MMRazor is not imported: its shims wait in an import hook. A second call
    changes nothing.
    """
    install_quiet_imports()
    install_safe_load()
    install_checksums()
    install_import_hook()
