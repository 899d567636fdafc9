# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
# ohmydroid/reducenet of 2023-06-07 (96065e5), as its code means it: the stem,
# all that follows the branch's sum in a block (`fuse`) and the classifier are
# inherited and frozen, the main convolution is initialised anew (there that
# call fails on a typo), the shortcut is inherited and trains. No soft labels:
# distill/none.py, as in
# reducenet/cifar10/reducenet20-w16-e1_cifar10_student-published-june.py.
reuse = dict(
    inherit=[
        'stem',
        'main_norm',
        'second_conv',
        'second_norm',
        'shortcut',
        'classifier',
    ],
    freeze=['stem', 'main_norm', 'second_conv', 'second_norm', 'classifier'],
)
norm_stats = 'live'
