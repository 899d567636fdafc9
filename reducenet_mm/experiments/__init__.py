# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""Experiments: what is trained, measured and killed to find something out.

A folder for each kind, none of which imports another's but for a pipeline's
latency: ``pipeline`` (``tools/reduce.py``), ``campaign``
(``tools/experiment.py``), ``benchmarks`` and ``kills``
(``tools/analysis_tools``). Here lies what they share, and two files that one
tool alone needs: ``metafile`` (write_metafile.py) and ``published_parity``
(compare_published.py).
"""
