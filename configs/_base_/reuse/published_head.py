# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
# The recipe of the table of results of ohmydroid/reducenet (main.py since
# July 2023): everything is inherited and trains, with
# distill/soft_labels_published.py.
reuse = dict(inherit='all', freeze=[])
norm_stats = 'live'
