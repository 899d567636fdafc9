# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
# Only the first convolution of each block trains, the one which lost its
# branch: a small network's cost, and little memory. It starts with the
# teacher's values; `inherit` set to the list below starts it afresh.
reuse = dict(
    inherit='all',
    freeze=['stem', 'second_conv', 'norms', 'shortcut', 'classifier'],
)
norm_stats = 'live'
