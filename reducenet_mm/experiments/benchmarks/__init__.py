# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""Benchmarks: networks that take turns, and what is counted of them.

For ``tools/analysis_tools``: ``inference`` (benchmark.py), ``step_cost`` and
``step_models`` (benchmark_step.py), ``overhead`` (benchmark_overhead.py) and
``complexity`` (get_flops.py). ``latency`` is a pipeline's, ``timing`` is what
all of them share.
"""
