# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
# Run it by tools/experiment.py.
_base_ = '../_base_/means.py'
