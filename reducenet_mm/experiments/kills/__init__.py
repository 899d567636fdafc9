# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""Kill tests: trainings killed and resumed, compared with one left alone.

For ``kill_test.py`` and ``record_kills.py`` in ``tools/analysis_tools``.
"""
