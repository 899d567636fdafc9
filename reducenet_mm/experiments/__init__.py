# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""Experiments: stages and controls at one budget, and their report."""
