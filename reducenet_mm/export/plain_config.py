# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""The plain config of a student, out of a teacher's or distillation config.

Nothing of what is written here names a branch or an algorithm, and its model
is built without this package.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from importlib import resources
from typing import Any

from mmengine.config import Config

from reducenet_mm.engine.toolbox import CLASSIFIERS, TOOLBOXES, scope_of

from .plain_data import (
    OWN_PACKAGE,
    evaluation_part,
    left_out,
    packages,
    plain,
    unscoped,
)
from .plain_model import BACKBONES, plain_model_cfg
from .plain_pipeline import accept_colour, data_notes, for_inferencer

CONFIG_FILE = 'student.py'
FOLDED_CONFIG_FILE = 'student_folded.py'
BACKBONE_FILE = 'student_backbone.py'

_BACKBONE_MODULE = BACKBONE_FILE.removesuffix('.py')

_IMPORT_BACKBONE = f'''
# The backbone is in {BACKBONE_FILE} beside this file. It is imported anew,
# since another exported folder may have brought its own. A copy of this
# config elsewhere needs this folder on PYTHONPATH.
import sys

sys.path.insert(0, r"""{{{{ fileDirname }}}}""")
sys.modules.pop('{_BACKBONE_MODULE}', None)
try:
    __import__('{_BACKBONE_MODULE}')
finally:
    sys.path.remove(r"""{{{{ fileDirname }}}}""")

'''
"""MMEngine fills in the folder when it reads the config."""

_TOOL_KEYS = ('test_pipeline', 'tta_model', 'tta_pipeline', 'visualizer')
_HERE = (OWN_PACKAGE, _BACKBONE_MODULE)


def plain_config(cfg: Config, folded: bool = False) -> Config:
    """Return a complete config of the student, for any tool.

    Args:
        cfg: The config with which the checkpoint was trained.
        folded: As in :func:`plain_model_cfg`.

    Returns:
        Model, data preprocessor, evaluation data and metrics (none where
        the data are not those of the training), and what the toolbox's
        tools need to draw predictions. It imports only what it
        uses; this package only if installed, where only data are ours.
    """
    scope = scope_of(cfg)
    model = plain_model_cfg(cfg, folded)
    data = evaluation_part(cfg)
    if scope == CLASSIFIERS:
        data = for_inferencer(data)
    if model['backbone'].get('in_channels', 3) == 1:
        # MMPretrain's inferencer decodes every file to colour.
        accept_colour(data)
    content: dict[str, Any] = dict(default_scope=scope)
    imports = _imports(cfg, model, data)
    if imports['imports']:
        content['custom_imports'] = imports
    content['model'] = model
    if scope != CLASSIFIERS:
        return Config({**content, **data, **_for_tools(cfg)})
    preprocessor = model.pop('data_preprocessor', None)
    if preprocessor is not None:
        preprocessor.pop('_scope_', None)
        name = preprocessor.get('type', 'ClsDataPreprocessor')
        if packages(dict(type=name), scope) <= {*TOOLBOXES}:
            name = unscoped(name)
        preprocessor['type'] = name
        content['data_preprocessor'] = preprocessor
    content.update(data)
    if 'test_dataloader' in data:
        content['default_hooks'] = dict(
            visualization=dict(type='VisualizationHook', enable=False)
        )
        content['visualizer'] = dict(
            type='UniversalVisualizer',
            vis_backends=[dict(type='LocalVisBackend')],
        )
    return Config(content)


def _for_tools(cfg: Config) -> dict[str, Any]:
    """Return what the toolbox's own tools and inference read besides."""
    scope = scope_of(cfg)
    found: dict[str, Any] = {
        key: plain(cfg[key], scope)
        for key in _TOOL_KEYS
        if cfg.get(key) is not None
    }
    hook = (cfg.get('default_hooks') or {}).get('visualization')
    if hook is not None:
        found['default_hooks'] = dict(visualization=plain(hook, scope))
    return found


def plain_files(
    cfg: Config, header: str = '', folded: bool = False
) -> dict[str, str]:
    """Return what is written beside the student's weights.

    Args:
        cfg: The config with which the checkpoint was trained.
        header: Comment lines to begin the config with.
        folded: As in :func:`plain_model_cfg`; the config has another name.

    Returns:
        Text by file name: the config, and the backbone if MMPretrain has
        none that is the same function.

    Raises:
        ValueError: As :func:`plain_model_cfg`.
    """
    config = plain_config(cfg, folded)
    files = {}
    prefix = header + _notes(cfg, config)
    if config.model.backbone.type in BACKBONES:
        source = resources.files(__package__) / BACKBONE_FILE
        files[BACKBONE_FILE] = source.read_text(encoding='utf-8')
        prefix += _IMPORT_BACKBONE
    name = FOLDED_CONFIG_FILE if folded else CONFIG_FILE
    files[name] = prefix + config.pretty_text
    return files


def _imports(
    cfg: Config, model: Mapping[str, Any], data: Mapping[str, Any]
) -> dict[str, Any]:
    """Return ``custom_imports`` for a model and its data."""
    backbone = dict(model['backbone'])
    if backbone['type'] in BACKBONES:
        del backbone['type']  # the shipped file is imported by itself
    model_from = packages(dict(model, backbone=backbone), scope_of(cfg))
    data_from = packages(data, scope_of(cfg))
    imports = []
    if model['backbone']['type'] in BACKBONES:
        imports.append(_BACKBONE_MODULE)
    if OWN_PACKAGE in model_from | data_from:
        imports.append(OWN_PACKAGE)
    if (model_from | data_from) - {*TOOLBOXES, *_HERE}:
        theirs = (cfg.get('custom_imports') or {}).get('imports') or []
        theirs = [theirs] if isinstance(theirs, str) else theirs
        imports += [
            name for name in theirs if name.partition('.')[0] not in _HERE
        ]
    optional = OWN_PACKAGE in data_from - model_from
    return dict(imports=imports, allow_failed_imports=optional)


def _notes(cfg: Config, config: Config) -> str:
    """Return comments on what the config's reader must know."""
    notes = data_notes(cfg, config) if scope_of(cfg) == CLASSIFIERS else []
    missing = left_out(cfg, config)
    imports = config.get('custom_imports') or {}
    if missing:
        notes.append(
            f'Left out, since only {OWN_PACKAGE} can read it: '
            f'{", ".join(missing)}.'
        )
    elif imports.get('allow_failed_imports'):
        notes.append(
            f'The data below are read by {OWN_PACKAGE}, so evaluating on '
            'them needs it installed; the network and its inference do not.'
        )
    if config.model.backbone.type not in BACKBONES:
        notes.append(
            'It goes with the weights beside it. The backbone is a stock '
            'one: given the checkpoint of a training, it would load nothing '
            'of it and MMEngine would only warn.'
        )
    return ''.join(
        textwrap.indent(textwrap.fill(note, 77), '# ') + '\n' for note in notes
    )
