# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
# The recipe of the table of results of ohmydroid/reducenet (main.py since
# July 2023), as far as weight reuse goes: everything is inherited and trains.
# The rest are distill/soft_labels_published.py and a weight of 0.3 for the
# labels; all three are in
# reducenet/cifar10/reducenet20-w16-e1_cifar10_student-published-head.py.
reuse = dict(inherit='all', freeze=[])
norm_stats = 'live'
