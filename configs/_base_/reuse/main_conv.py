# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
# Only the first convolution of each block trains, the one which lost its
# branch: a small network's cost, and little memory. It starts with the
# teacher's values; `inherit` set to the list below starts it afresh.
#
# No other parameter trains, but statistics of the norms follow the student's
# batches, since the branch no longer shifts their inputs. norm_stats =
# 'inherited' keeps these at the teacher's values too, and 'recalibrated' at
# those of the student's start.
reuse = dict(
    inherit='all',
    freeze=['stem', 'second_conv', 'norms', 'shortcut', 'classifier'],
)
norm_stats = 'live'
