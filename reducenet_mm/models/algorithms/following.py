# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""Recorders follow when a hook replaces the module that they record.

As MMPretrain's ``SwitchRecipeHook`` does with the head's loss. MMRazor hooks
a recorder to a module once, and that one is no longer executed then.
"""

from __future__ import annotations

import torch
from mmrazor.models.distillers import ConfigurableDistiller
from mmrazor.models.task_modules.recorder import ModuleOutputsRecorder
from torch import nn


# Compiled, two bound methods are never equal: each step would add a hook.
@torch.compiler.disable
def follow_modules(
    distiller: ConfigurableDistiller, architecture: nn.Module
) -> None:
    """Let recorders of modules record what is at their sources by now.

    Args:
        distiller: As ``build_distiller`` returns it. A recorder that it has
            moved records nothing of the former module any more.
        architecture: The supernet.

    Raises:
        RuntimeError: If nothing is at a source any more.
    """
    for side in ('student_recorders', 'teacher_recorders'):
        for name, recorder in getattr(distiller, side).recorders.items():
            # That of a module's inputs is a subclass of it.
            if isinstance(recorder, ModuleOutputsRecorder):
                key = f'model.distiller.{side}.{name}'
                _follow(recorder, architecture, key)


def _follow(
    recorder: ModuleOutputsRecorder, architecture: nn.Module, key: str
) -> None:
    try:
        module = architecture.get_submodule(recorder.source)
    except AttributeError as error:
        raise RuntimeError(
            f'{key}.source={recorder.source!r} was there when the training '
            f'began, but a hook has replaced what is around it ({error}). '
            'Record what stays, leave the replacement out '
            "(SwitchRecipeHook's `loss`), or stop the distillation before "
            'it (StopDistillHook).'
        ) from error
    # Asked of the modules, not remembered: it stays right in a deep copy.
    if _hook_ids(recorder, module):
        return
    for former in architecture.modules():  # such as one that is wrapped now
        for hook_id in _hook_ids(recorder, former):
            del former._forward_hooks[hook_id]
    module.register_forward_hook(recorder.forward_hook)


def _hook_ids(recorder: ModuleOutputsRecorder, module: nn.Module) -> list[int]:
    hooks = module._forward_hooks.items()
    return [i for i, hook in hooks if hook == recorder.forward_hook]
