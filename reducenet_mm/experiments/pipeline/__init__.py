# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""Pipelines: stages and controls at one budget, a student, and their report.

An ``Entry`` of the config is planned as a ``Run``; done, it is ``Finished``;
a network to be tested and timed is a ``Candidate``. A ``Course`` is what has
become of the stages, an ``Outcome`` all that a pipeline has left behind.
"""
