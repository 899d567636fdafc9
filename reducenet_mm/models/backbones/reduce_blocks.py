# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""The blocks by name: which convolutions of a residual block get a branch.

A block is a set of targets for :func:`~reducenet_mm.models.supernet.graft`
on the plain network. ``postsum`` sums before the norm, so nothing but the
first convolution changes. A block with another data flow (``parallel``,
``sequential``) adds its own class here and its name to the table.
"""

BLOCKS: dict[str, str] = {'postsum': r'layer\d+\.\d+\.conv1'}
"""Block name -> regular expression of the grafted convolutions."""


def check_block(block: str) -> None:
    """Raise ``ValueError`` unless ``block`` is a key of ``BLOCKS``."""
    if block not in BLOCKS:
        raise ValueError(
            f'unknown block {block!r}. Set `backbone.block` to one of '
            f'{sorted(BLOCKS)}.'
        )
