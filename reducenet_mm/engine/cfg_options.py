# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""``--cfg-options`` of every tool."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from mmengine.config import DictAction


class CfgOptions(DictAction):
    """MMEngine's ``DictAction``, but paths keep their blanks.

    And what is no ``KEY=VALUE`` is an error in one line.
    """

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[Any] | None,
        option_string: str | None = None,
    ) -> None:
        for option in values or ():
            key, equals, _ = option.partition('=')
            if not key.strip() or not equals:
                parser.error(
                    f'{option_string}: {option!r} is not KEY=VALUE. Write '
                    'other arguments before it.'
                )
        try:
            super().__call__(parser, namespace, values, option_string)
        except AssertionError as error:
            parser.error(f'{option_string}: {error}. Close what is open.')

    @staticmethod
    def _parse_iterable(val: str) -> Any:
        text = val.strip().strip('\'"')
        if ',' in text or text[:1] in ('(', '['):
            return DictAction._parse_iterable(text)
        return DictAction._parse_int_float_bool(text)
