# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""Which versions a pipeline's report was made and its networks trained by."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..code_version import commit_text, packages_text


def versions_text(content: Mapping[str, Any]) -> str:
    """Return the versions in words.

    Args:
        content: That of ``report.json``; those of earlier versions of this
            package do not say by what the networks were trained.
    """
    text = packages_text(content['versions'])
    for code in content.get('trained_by', ()):
        text += f'; trained by {commit_text(code)}'
        if code is not None and code['packages'] != content['versions']:
            text += f' ({packages_text(code["packages"])})'
    return text
