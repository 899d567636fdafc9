# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""Let MMRazor 1.0.0 be imported on torch >= 2.1, and only when it is needed.

Reason: three of MMRazor's quantisation modules ask at import whether torch is
1.13 or newer and then build tables from names that torch has removed since
(open-mmlab/mmrazor issues 615 and 632); and its ``BaseAlgorithm`` looks for
``typing.OrderedDict`` where torch >= 2.5 keeps a plain ``dict``, so that
``module_inplace=False`` silently does nothing; and its ``L2Loss`` takes no
feature in another layout, such as ``channels_last``, and normalises one that
is zero, such as a dead layer's, to NaN. Versions: mmrazor 1.0.0,
its last release. Quantisation is not available either way and not used here.

An import hook touches the modules named in the two tables below and no
other. The version checks are answered where they are written: their
``torch.__version__`` is compiled as the constant '1.12.0'. So torch's own
attribute never changes, not even for a moment, and nothing else imported
meanwhile can see a false version.
"""

import ast
import importlib
import sys
from collections.abc import Callable, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from types import CodeType, ModuleType
from typing import Any

_REPORTED_TORCH = '1.12.0'

_WITH_TORCH_CHECK = frozenset(
    {
        'mmrazor.models.quantizers.native_quantizer',
        'mmrazor.structures.quantization.backend_config'
        '.common_operator_config_utils',
        'mmrazor.structures.quantization.backend_config.mapping',
    }
)


def _search_plain_dicts(base: ModuleType) -> None:
    """Make ``set_module_inplace_false`` descend into ``_modules``."""
    vars(base)['OrderedDict'] = dict


def _normalise_any_feature(l2_loss: ModuleType) -> None:
    """Let ``L2Loss`` take features that are zero or not contiguous."""
    torch = l2_loss.torch

    def normalize_feature(self: Any, feature: Any) -> Any:
        return self.mult * torch.nn.functional.normalize(
            feature.reshape(len(feature), -1),
            dim=1,
            eps=torch.finfo(feature.dtype).tiny,
        )

    l2_loss.L2Loss.normalize_feature = normalize_feature


def _register_algorithms(models: ModuleType) -> None:
    """Put our algorithms into MMRazor's registry beside its own."""
    importlib.import_module('reducenet_mm.models.algorithms')


_AFTER_IMPORT: dict[str, Callable[[ModuleType], None]] = {
    'mmrazor.models.algorithms.base': _search_plain_dicts,
    'mmrazor.models.losses.l2_loss': _normalise_any_feature,
    'mmrazor.models': _register_algorithms,
}


class _ConstantTorchVersion(ast.NodeTransformer):
    """Replace each ``torch.__version__`` of a module by a constant."""

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        if ast.unparse(node) != 'torch.__version__':
            return self.generic_visit(node)
        return ast.copy_location(ast.Constant(_REPORTED_TORCH), node)


class _MMRazorLoader(SourceFileLoader):
    """Load one module of the tables, repaired."""

    def get_code(self, fullname: str) -> CodeType | None:
        if fullname not in _WITH_TORCH_CHECK:
            return super().get_code(fullname)
        tree = ast.parse(self.get_data(self.path), self.path)
        tree = _ConstantTorchVersion().visit(tree)
        return compile(tree, self.path, 'exec', dont_inherit=True)

    def exec_module(self, module: ModuleType) -> None:
        super().exec_module(module)
        if module.__name__ in _AFTER_IMPORT:
            _AFTER_IMPORT[module.__name__](module)


class MMRazorFinder(MetaPathFinder):
    """Find the modules of the tables as usual, with our loader."""

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None,
        target: ModuleType | None = None,
    ) -> ModuleSpec | None:
        """Return None, leaving it to others, for every other module."""
        if fullname not in _WITH_TORCH_CHECK | _AFTER_IMPORT.keys():
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and isinstance(spec.loader, SourceFileLoader):
            spec.loader = _MMRazorLoader(fullname, spec.loader.path)
        return spec


def install_import_hook() -> None:
    """Install the hook; repair at once what is already imported."""
    if any(isinstance(finder, MMRazorFinder) for finder in sys.meta_path):
        return
    sys.meta_path.insert(0, MMRazorFinder())
    for name, repair in _AFTER_IMPORT.items():
        if name in sys.modules:
            repair(sys.modules[name])
