# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
# ohmydroid/reducenet from 2023-06-14 to 07-16 (98ab011): everything is
# inherited, only the classifier's weight is frozen, not its bias. No soft
# labels: distill/none.py.
reuse = dict(inherit='all', freeze=[r're:head\.fc\.weight'])
norm_stats = 'live'
