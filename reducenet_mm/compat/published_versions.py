# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""How ``ohmydroid/reducenet`` names its layers, generation by generation.

A generation is told by the layers of its blocks. Reason, versions and source
are those of :mod:`.published_keys`, which uses these tables.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

STAGES = ('layer1', 'layer2', 'layer3')
_NORM = ('weight', 'bias', 'running_mean', 'running_var')
_COUNTER = 'num_batches_tracked'

Layers = Mapping[str, tuple[str, str]]
"""Name inside a published block -> our name inside a block, and the shape.

A shape of three words is a convolution's (outputs, inputs, kernel size), one
word is a batch norm's.
"""

_EXPAND: Layers = {
    'branch1.0': ('conv1.expand.conv1', 'wide in 3'),
    'branch1.1': ('conv1.expand.norm1', 'wide'),
    'branch1.3': ('conv1.expand.conv2', 'out wide 1'),
    'branch1.4': ('conv1.expand.norm2', 'out'),
}
_SECOND: Layers = {
    'conv3': ('conv2', 'out out 3'),
    'bn3': ('bn2', 'out'),
}
SHORTCUT: Layers = {
    'shortcut.0': ('downsample.0', 'out in 1'),
    'shortcut.1': ('downsample.1', 'out'),
}
"""Where the shape of a block's output changes."""


@dataclass(frozen=True)
class Version:
    """How one generation names its layers.

    Attributes:
        block: Our name of its block.
        layers: Those of every block; the shortcut comes on top.
        wide: Layer whose outputs are ``expansion`` times the block's.
        stem: Names of the first convolution and its norm.
        linear: Names of the classifier's weight and bias.
    """

    block: str
    layers: Layers
    wide: str = 'branch1.0'
    stem: tuple[str, str] = ('conv1', 'bn1')
    linear: tuple[str, str] = ('linear.weight', 'linear.bias')


VERSIONS = (
    Version(
        'postsum',
        {
            **_EXPAND,
            'branch2.0': ('conv1', 'out in 3'),
            'fuse.0': ('bn1', 'out'),
            'fuse.2': ('conv2', 'out out 3'),
            'fuse.3': ('bn2', 'out'),
        },
        stem=('conv1.0', 'conv1.1'),
    ),
    Version(
        'parallel',
        {
            **_EXPAND,
            'branch2.0': ('conv1', 'out in 3'),
            'branch2.1': ('bn1', 'out'),
            **_SECOND,
        },
    ),
    Version(
        'sequential',
        {
            'conv1': ('conv1.pair.conv1', 'wide in 3'),
            'bn1': ('conv1.pair.norm1', 'wide'),
            'conv2': ('conv1.pair.conv2', 'out wide 1'),
            'bn2': ('bn1', 'out'),
            **_SECOND,
        },
        wide='conv1',
        linear=('linear.w', 'linear.b'),
    ),
)

_OPEN_BRANCH = {'branch1.0', 'branch1.1', 'branch1.3', 'branch2.0'}
REFUSED = {
    frozenset(_OPEN_BRANCH | {'fuse.0', 'fuse.2', 'fuse.3'}): (
        'its keys are those of 2023-06-07, when one and the same set of keys '
        'was used first without and then with an activation after the sum '
        'of a block: what it computes cannot be told from the file'
    ),
    frozenset(_OPEN_BRANCH | {'bn2', 'conv3', 'bn3'}): (
        'its keys are those of 2023-06-04 and 05: a branch without a norm at '
        'its end, summed before a norm, and no activation after the sum of '
        'a block. No block of ReduceNet is that function'
    ),
    frozenset(_OPEN_BRANCH | {'branch2.1', 'fuse.0', 'fuse.1'}): (
        'its keys are those of 2023-06-07 to 13: a branch without norm and '
        'activation at its end, summed behind an activation, with another '
        'one after the sum of a block. No block of ReduceNet is that function'
    ),
    frozenset({'conv1', 'bn1', 'conv2', 'bn2'}): (
        'its blocks have two convolutions, as those of an ordinary ResNet '
        'and of the first versions of 2023-05, which have no student '
        'without a branch'
    ),
}
"""Layers of a block -> why a file with these keys is not converted."""

LORAS: Mapping[str, Layers] = {
    '1x1': {
        'lora_branch.0': ('conv1.lora.conv', 'out in 1'),
        'lora_branch.1': ('conv1.lora.norm', 'out'),
    },
    'kxk_1x1': {
        'lora_branch.0': ('conv1.lora.pair.conv1', 'wide in 3'),
        'lora_branch.1': ('conv1.lora.pair.norm1', 'wide'),
        'lora_branch.2': ('conv1.lora.pair.conv2', 'out wide 1'),
        'lora_branch.3': ('conv1.lora.norm', 'out'),
    },
}
"""Our kind -> its layers: two from 2023-07-29 on, four before."""

Entries = dict[str, tuple[str, tuple[int, ...]]]
"""Published key -> our key ('' for none) and shape."""


@dataclass(frozen=True)
class Sizes:
    """Sizes of a published network.

    Attributes:
        blocks: Blocks of each of the three stages.
        width: Channels of stem and first stage.
        expansion: Channels inside a branch in multiples of its outputs.
        classes: Outputs of the classifier.
    """

    blocks: int
    width: int
    expansion: int
    classes: int


def all_entries(version: Version, lora: str | None, sizes: Sizes) -> Entries:
    """List all that a published network of these sizes has.

    Args:
        version: Its generation.
        lora: Kind of its lora branches, a key of ``LORAS``, or None.
        sizes: Its sizes.
    """
    width = sizes.width
    weight, bias = version.linear
    head = (sizes.classes, 4 * width)
    if weight == 'linear.w':  # multiplied from the right
        head = head[::-1]
    gates = ['scaler', *(['lora'] if lora else [])]
    entries: Entries = {
        weight: ('head.fc.weight', head),
        bias: ('head.fc.bias', (sizes.classes,)),
        **{gate: ('', ()) for gate in gates},
        **_layer(version.stem[0], 'backbone.conv1', (width, 3, 3, 3)),
        **_layer(version.stem[1], 'backbone.bn1', (width,)),
    }
    layers = {**version.layers, **LORAS.get(lora or '', {})}
    inputs = width
    for index, stage in enumerate(STAGES):
        outputs = width * 2**index
        for block in range(sizes.blocks):
            name = f'{stage}.{block}'
            entries.update({f'{name}.{gate}': ('', ()) for gate in gates})
            entries |= _block(name, layers, inputs, outputs, sizes.expansion)
            inputs = outputs
    return entries


def _block(
    name: str, layers: Layers, inputs: int, outputs: int, expansion: int
) -> Entries:
    channels = {'in': inputs, 'out': outputs, 'wide': expansion * outputs}
    shortcut = SHORTCUT if inputs != outputs else {}
    entries: Entries = {}
    for theirs, (ours, words) in {**layers, **shortcut}.items():
        shape = [channels.get(word) or int(word) for word in words.split()]
        if len(shape) == 3:
            shape.append(shape[-1])
        entries |= _layer(
            f'{name}.{theirs}', f'backbone.{name}.{ours}', (*shape,)
        )
    return entries


def _layer(theirs: str, ours: str, shape: tuple[int, ...]) -> Entries:
    """List the tensors of a convolution or, with one dimension, a norm."""
    names = ('weight',) if len(shape) == 4 else _NORM
    entries = {f'{theirs}.{name}': (f'{ours}.{name}', shape) for name in names}
    if len(shape) == 1:
        entries[f'{theirs}.{_COUNTER}'] = (f'{ours}.{_COUNTER}', ())
    return entries
