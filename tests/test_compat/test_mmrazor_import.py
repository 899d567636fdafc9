# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
import json
import sys

import pytest
import torch
from mmengine.model import BaseModel
from torch import nn

import reducenet_mm  # noqa: F401
from reducenet_mm.compat import install, mmrazor_import

REPORT = """
import json, sys
import mmengine, torch
from mmrazor.models.algorithms import base
from mmrazor.models.quantizers import native_quantizer
from mmrazor.registry import MODELS
from mmrazor.structures.quantization import BackendConfigs
print(json.dumps(dict(
    torch=torch.__version__,
    mmengine=mmengine.utils.dl_utils.TORCH_VERSION,
    searches=base.OrderedDict.__name__,
    algorithm=getattr(MODELS.get('SupernetDistill'), '__module__', None),
    qat=len(native_quantizer.SUPPORT_QAT_MODULES),
    backends=sorted(set(map(str, BackendConfigs.values()))),
)))
"""

EXPECTED = dict(
    torch=str(torch.__version__),
    mmengine=str(torch.__version__),
    searches='dict',
    algorithm='reducenet_mm.models.algorithms.supernet_distill',
    qat=0,
    backends=['None'],
)

# Fails at the first attempt to set torch.__version__, even for a moment.
FROZEN_TORCH = """
import torch
class FrozenTorch(type(torch)):
    def __setattr__(self, name, value):
        assert name != '__version__', value
        super().__setattr__(name, value)
torch.__class__ = FrozenTorch
"""

PACKAGE_FIRST = """
import sys
import reducenet_mm
assert not [name for name in sys.modules if name.startswith('mmrazor')]
import {first}
"""

# What happens without the hook, and that the package mends it afterwards.
MMRAZOR_FIRST = """
try:
    import mmrazor.models
except ImportError as error:
    assert 'torch>=1.13' in str(error), error
else:
    raise AssertionError('mmrazor needs no hook')
import reducenet_mm
import mmrazor.models
"""

# Someone else got mmrazor imported before us.
MMRAZOR_DONE = """
import mmengine.utils.dl_utils, mmcv.cnn, torch
version, torch.__version__ = torch.__version__, '1.12.0'
import mmrazor.models
torch.__version__ = version
from mmrazor.models.algorithms import base
assert base.OrderedDict is not dict
assert mmrazor.registry.MODELS.get('SupernetDistill') is None
import reducenet_mm
"""


class Nested(BaseModel):
    """A model with an in-place ReLU three modules down."""

    def __init__(self) -> None:
        super().__init__()
        relu = nn.ReLU(inplace=True)
        self.body = nn.Sequential(nn.Sequential(nn.Conv2d(1, 1, 1), relu))

    def forward(self, inputs, data_samples=None, mode='tensor'):
        return self.body(inputs)


@pytest.mark.parametrize(
    'before',
    [
        FROZEN_TORCH + PACKAGE_FIRST.format(first='mmrazor.models'),
        PACKAGE_FIRST.format(first='reducenet_mm.models.algorithms'),
        MMRAZOR_FIRST,
        MMRAZOR_DONE,
    ],
    ids=['models', 'ours', 'mmrazor-failed', 'mmrazor-done'],
)
def test_import_order(run_python, before):
    run = run_python(before + REPORT)
    assert run.returncode == 0, run.stderr
    assert json.loads(run.stdout.splitlines()[-1]) == EXPECTED


def test_mmengine_finds_the_algorithm_by_its_scope(run_python):
    run = run_python(
        'import reducenet_mm, sys\n'
        'from mmengine.registry import MODELS\n'
        "assert 'mmrazor' not in sys.modules\n"
        "print(MODELS.get('mmrazor.SupernetDistill').__name__)"
    )
    assert run.stdout.splitlines()[-1:] == ['SupernetDistill'], run.stderr


@pytest.mark.parametrize('allowed', [False, True])
def test_module_inplace_is_obeyed(allowed):
    from mmrazor.models.algorithms import BaseAlgorithm

    algorithm = BaseAlgorithm(Nested(), module_inplace=allowed)
    assert algorithm.architecture.body[0][1].inplace is allowed


def test_only_the_named_modules_are_touched():
    finder = mmrazor_import.MMRazorFinder()
    import mmrazor

    for name in ('mmrazor.models.losses', 'mmrazor.utils', 'mmrazor', 'json'):
        assert finder.find_spec(name, mmrazor.__path__) is None


def test_install_is_idempotent():
    before = list(sys.meta_path)
    install()
    assert sys.meta_path == before
    finders = [
        finder
        for finder in sys.meta_path
        if isinstance(finder, mmrazor_import.MMRazorFinder)
    ]
    assert len(finders) == 1
