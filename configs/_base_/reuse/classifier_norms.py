# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
# Scales and shifts of all norms are kept as well: a loose alignment of the
# features with the teacher's. Their statistics follow the student's batches,
# which the branch no longer shifts.
reuse = dict(inherit='all', freeze=['classifier', 'norms'])
norm_stats = 'live'
