# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""Exports: what is shipped once training is over."""

from .parity import ParityError
from .student import ExportOptions, ExportResult, export_student

__all__ = [
    'ExportOptions',
    'ExportResult',
    'ParityError',
    'export_student',
]
