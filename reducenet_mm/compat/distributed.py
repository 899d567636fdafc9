# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""Let several processes train on a machine without an accelerator.

Reason: MMEngine's ``init_dist`` calls ``torch.cuda.set_device``
unconditionally (``mmengine/dist/utils.py``) and its Runner passes a CUDA
``device_ids`` to the model wrapper (``mmengine/runner/runner.py``). Versions:
mmengine up to 0.10.7 at least. MMEngine leaves a process group alone that
already stands, and a wrapper that the config spells out.
"""

import gc
from datetime import timedelta

import torch.distributed as dist
from mmengine.config import Config
from mmengine.device import get_device


def setup_cpu_distributed(cfg: Config, launcher: str) -> None:
    """Prepare multi-process training on CPUs; call it before the Runner.

    Without a launcher, or where MMEngine finds an accelerator, nothing
    happens. Otherwise this process joins a gloo group, and
    ``cfg.model_wrapper_cfg`` is set, keeping what the config says there.

    Args:
        cfg: The Runner's config, changed in place. Read besides:
            ``find_unused_parameters`` and ``env_cfg.dist_cfg.timeout`` (s).
        launcher: The Runner's launcher, ``'none'`` or ``'pytorch'``.

    Raises:
        ValueError: If another launcher is asked for on CPUs.
    """
    if launcher == 'none' or get_device() != 'cpu':
        return
    if launcher != 'pytorch':
        raise ValueError(
            "Without an accelerator only launcher='pytorch' (torchrun) can "
            f'start several processes, got launcher={launcher!r}. Start '
            'with tools/dist_train.sh or tools/dist_test.sh.'
        )
    if not dist.is_initialized():
        dist.init_process_group('gloo', timeout=_timeout(cfg))
    wrapper = dict(
        type='MMDistributedDataParallel',
        broadcast_buffers=False,
        find_unused_parameters=cfg.get('find_unused_parameters', False),
    )
    wrapper.update(cfg.get('model_wrapper_cfg') or {})
    wrapper['device_ids'] = None
    cfg.model_wrapper_cfg = wrapper


def leave_cpu_distributed() -> None:
    """Leave the gloo group, once every process has come to its end.

    Call it where work has ended well and nothing refers to the wrapped model
    any more, which holds the group's threads. Where they outlive the
    interpreter the process may be aborted at exit ("terminate called without
    an active exception", seen on torch 2.14), which makes a finished
    training look failed. Without a gloo group nothing happens.
    """
    if dist.is_initialized() and dist.get_backend() == 'gloo':
        dist.barrier()
        gc.collect()  # a Runner refers to itself
        dist.destroy_process_group()


def _timeout(cfg: Config) -> timedelta | None:
    """Read ``env_cfg.dist_cfg.timeout``, in seconds, as MMEngine does."""
    env_cfg = cfg.get('env_cfg') or {}
    seconds = (env_cfg.get('dist_cfg') or {}).get('timeout')
    return None if seconds is None else timedelta(seconds=seconds)
