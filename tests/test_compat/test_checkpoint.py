# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
import copy
import io
import os
import pickle
import re
from pathlib import Path

import mmpretrain
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.logging import HistoryBuffer
from mmengine.model import BaseModel
from mmengine.runner import CheckpointLoader, Runner
from torch import nn

import reducenet_mm  # noqa: F401
from reducenet_mm.compat import install

SWITCH = 'TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD'
PUBLISH = (
    Path(mmpretrain.__file__).parent
    / '.mim/tools/model_converters/publish_model.py'
)


class Code:
    """Pickles as a call that makes a folder when it is loaded."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self):
        return os.mkdir, (str(self.trace),)


class Attribute:
    """Pickles as a call of ``getattr``."""

    def __init__(self, owner, name) -> None:
        self.wanted = owner, name

    def __reduce__(self):
        return getattr, self.wanted


class Line(BaseModel):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(2, 1)

    def forward(self, inputs, mode='tensor'):
        out = self.fc(inputs)
        return dict(loss=out.square().mean()) if mode == 'loss' else out


def make_runner(work_dir: Path, epochs: int, **settings) -> Runner:
    """Make a small Runner with momentum, a scheduler and logging."""
    dataset = [dict(inputs=torch.full((2,), float(i))) for i in range(4)]
    cfg = Config(
        dict(
            default_hooks=dict(checkpoint=dict(type='CheckpointHook')),
            log_level='WARNING',
        )
    )
    return Runner(
        model=Line(),
        work_dir=str(work_dir),
        train_dataloader=dict(
            dataset=dataset,
            sampler=dict(type='DefaultSampler', shuffle=False),
            collate_fn=dict(type='default_collate'),
            batch_size=2,
        ),
        train_cfg=dict(by_epoch=True, max_epochs=epochs),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1, momentum=0.9)),
        param_scheduler=dict(type='StepLR', step_size=1),
        cfg=cfg,
        default_scope='mmengine',
        experiment_name=f'{work_dir.name}-{epochs}-{len(settings)}',
        **settings,
    )


@pytest.fixture(scope='module')
def trained(tmp_path_factory) -> tuple[Runner, Path]:
    """Train for two epochs; give the Runner and its last checkpoint."""
    runner = make_runner(tmp_path_factory.mktemp('trained'), epochs=2)
    runner.train()
    return runner, Path(runner.work_dir) / 'epoch_2.pth'


@pytest.fixture
def hostile(tmp_path) -> tuple[Path, Path]:
    """Write a checkpoint that holds code; give it and the code's trace."""
    path, trace = tmp_path / 'hostile.pth', tmp_path / 'executed'
    torch.save(dict(state_dict={}, meta=Code(trace)), path)
    return path, trace


def assert_refused(message: str, path: Path) -> None:
    assert str(path) in message
    assert f'{os.mkdir.__module__}.mkdir' in message
    assert f'{SWITCH}=1' in message
    assert 'run code from the file' in message


def test_mmengine_checkpoint_resumes(trained, tmp_path):
    runner, path = trained
    history = runner.message_hub.get_scalar('train/loss').data
    assert len(history[0]) == 4 and np.all(history[0] > 0)
    momentum = copy.deepcopy(runner.optim_wrapper.state_dict()['state'])

    resumed = make_runner(tmp_path, epochs=2, load_from=str(path), resume=True)
    resumed.train()  # nothing is left to train

    assert (resumed.epoch, resumed.iter) == (2, 4)
    loaded = resumed.message_hub.get_scalar('train/loss')
    np.testing.assert_array_equal(loaded.data, history)
    assert loaded.statistics('mean') == history[0].sum() / history[1].sum()
    torch.testing.assert_close(
        resumed.optim_wrapper.state_dict()['state'], momentum, rtol=0, atol=0
    )
    torch.testing.assert_close(
        resumed.model.state_dict(), runner.model.state_dict(), rtol=0, atol=0
    )


def test_stock_torch_refuses_the_same_checkpoint(trained, run_python):
    run = run_python(f'import torch; torch.load({str(trained[1])!r})')
    assert run.returncode == 1
    assert 'HistoryBuffer' in run.stderr


def test_publish_model_of_mmpretrain_works(trained, tmp_path, run_python):
    argv = [str(PUBLISH), str(trained[1]), str(tmp_path / 'out.pth')]
    run = run_python(
        'import reducenet_mm, runpy, sys\n'
        f'sys.argv = {argv}\nrunpy.run_path(sys.argv[0], run_name="__main__")'
    )
    assert run.returncode == 0, run.stderr
    (published,) = tmp_path.glob('out_*.pth')
    torch.testing.assert_close(
        torch.load(published)['state_dict'],
        torch.load(trained[1])['state_dict'],
        rtol=0,
        atol=0,
    )


def test_code_is_refused_by_mmengine(hostile):
    path, trace = hostile
    with pytest.raises(pickle.UnpicklingError) as caught:
        CheckpointLoader.load_checkpoint(str(path))
    assert_refused(str(caught.value), path)
    assert not trace.exists()


def test_code_is_refused_by_publish_model(hostile, tmp_path, run_python):
    path, trace = hostile
    argv = [str(PUBLISH), str(path), str(tmp_path / 'out.pth')]
    run = run_python(
        'import reducenet_mm, runpy, sys\n'
        f'sys.argv = {argv}\nrunpy.run_path(sys.argv[0], run_name="__main__")'
    )
    assert run.returncode == 1
    assert_refused(run.stderr, path)
    assert not trace.exists()
    assert not list(tmp_path.glob('*out*'))


def test_code_is_refused_from_a_url(hostile, tmp_path, monkeypatch):
    """A file in torch's download cache stands for the server."""
    path, trace = hostile
    monkeypatch.setenv('TORCH_HOME', str(tmp_path / 'home'))
    cached = tmp_path / 'home' / 'hub' / 'checkpoints' / path.name
    cached.parent.mkdir(parents=True)
    path.rename(cached)
    with pytest.raises(pickle.UnpicklingError) as caught:
        CheckpointLoader.load_checkpoint(f'http://localhost/{path.name}')
    assert_refused(str(caught.value), cached)
    assert not trace.exists()


def test_switch_and_caller_can_trust_a_file(hostile, monkeypatch):
    path, trace = hostile
    torch.load(path, weights_only=False)
    assert trace.is_dir()
    trace.rmdir()
    monkeypatch.setenv(SWITCH, '1')
    CheckpointLoader.load_checkpoint(str(path))
    assert trace.is_dir()


def test_explicit_weights_only_is_told_apart(hostile):
    """The switch does not overrule it, so the error does not name it."""
    with pytest.raises(
        pickle.UnpicklingError, match='pass weights_only=False to torch.load'
    ):
        torch.load(hostile[0], weights_only=True)


@pytest.mark.parametrize(
    'owner, name',
    [
        (HistoryBuffer, '__init__'),
        (np.ndarray, 'tofile'),
        (np.ndarray, 'mean'),
    ],
)
def test_getattr_gives_statistics_methods_only(tmp_path, owner, name):
    path = tmp_path / 'attribute.pth'
    torch.save(Attribute(owner, name), path)
    with pytest.raises(pickle.UnpicklingError, match='asks for') as caught:
        torch.load(path)
    assert str(path) in str(caught.value)


def test_getattr_gives_statistics_methods(tmp_path):
    path = tmp_path / 'attribute.pth'
    torch.save(Attribute(HistoryBuffer, 'mean'), path)
    assert torch.load(path) is HistoryBuffer.mean


@pytest.mark.parametrize('package', [b'numpy.core', b'numpy._core'])
def test_arrays_of_either_numpy_load(package):
    values = [
        np.array([1.5, -2]),
        np.arange(3),
        np.array([True]),
        np.array(['a']),
        np.float64(0.25),
        np.int64(7),
    ]
    buffer = io.BytesIO()
    torch.save(values, buffer, _use_new_zipfile_serialization=False)
    renamed = re.sub(
        rb'numpy\._?core\.multiarray',
        package + b'.multiarray',
        buffer.getvalue(),
    )
    assert package + b'.multiarray' in renamed
    loaded = torch.load(io.BytesIO(renamed))
    for value, expected in zip(loaded, values):
        assert value.dtype == expected.dtype
        np.testing.assert_array_equal(value, expected)


@pytest.mark.parametrize('kept', [0, 8, 40, 4200, -1])
@pytest.mark.parametrize('zipped', [True, False])
def test_truncated_file_is_named(tmp_path, kept, zipped):
    path = tmp_path / 'truncated.pth'
    torch.save(
        dict(state_dict=dict(weight=torch.zeros(2000))),
        path,
        _use_new_zipfile_serialization=zipped,
    )
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises((RuntimeError, pickle.UnpicklingError)) as caught:
        CheckpointLoader.load_checkpoint(str(path))
    assert str(path) in str(caught.value)
    assert 'damaged' in str(caught.value)


def test_file_of_another_kind_is_named(tmp_path):
    path = tmp_path / 'page.pth'
    path.write_text('<html>404 not found</html>')
    with pytest.raises(pickle.UnpicklingError) as caught:
        CheckpointLoader.load_checkpoint(str(path))
    assert str(path) in str(caught.value)
    assert 'no checkpoint at all' in str(caught.value)


def test_other_errors_pass_unchanged(tmp_path):
    path = tmp_path / 'weights.pth'
    torch.save(Line().state_dict(), path)
    with pytest.raises(FileNotFoundError):
        torch.load(tmp_path / 'nowhere.pth')
    with pytest.raises(ValueError, match='map') as caught:
        torch.load(path, map_location=_raise_value_error)
    assert str(path) not in str(caught.value)


def _raise_value_error(storage, location):
    raise ValueError('no map for this location')


def test_install_is_idempotent():
    wrapped = torch.load
    count = len(torch.serialization.get_safe_globals())
    install()
    assert torch.load is wrapped
    assert not hasattr(wrapped.__wrapped__, '__wrapped__')
    assert len(torch.serialization.get_safe_globals()) == count
