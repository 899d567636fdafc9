# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
# Run it by tools/experiment.py; with --keep-images it takes less time. Single
# pilots on validation data suggested that here the teacher is clearly better,
# and, which was not confirmed, that the plain network gains little more. Does
# a student gain from it, in the supernet and as a network of its own? And,
# which was asked when these had been run: does one that trains for several
# times as long, or that gets what the teacher knows in other ways, first one
# of each kind, later most of means.py; and would an ordinary network be
# a better teacher?
_base_ = '../_base_/means.py'

arms = dict(
    _delete_=True,
    **{
        name: arm
        for name, arm in _base_.arms.items()
        # Planned, but left out when time ran out: settings of means that are
        # here, a control, and statistics of norms that stay, which diverged
        # on Fashion-MNIST.
        if name
        not in (
            '_delete_',
            'teacher_e1',
            'soft_e1',
            'plain_restart',
            'lora_weight',
            'lora_1x1',
            'lora_act',
            'recalibrated',
            'inherited_norms',
        )
    },
    soft_double=dict(
        _base_.arms['soft_e8'], match='soft_e8', times=2, control=None
    ),
    plain_half=dict(_base_.arms['plain_double'], times=0.5),
)

comparisons = [('soft_e8', 'fresh_e8'), ('teacher_e8', 'plain_matched')]
later_comparisons = [
    ('soft_double', 'plain_double'),
    ('soft_double', 'soft_e8'),
    ('soft_double', 'plain_matched'),
    ('soft_only', 'fresh_e8'),
    *[
        (name, 'soft_e8')
        for name, arm in arms.items()
        if name not in ('_delete_', 'soft_e8', 'fresh_e8')
        and arm.get('control') == 'plain_matched'
    ],
    ('linear', 'learned_mask'),
    ('lora_kxk', 'soft_double'),
    ('lora_kxk', 'soft_again'),
    ('soft_again', 'soft_double'),
    ('teacher_sequential', 'plain_matched'),
    ('plain_double', 'plain_matched'),
    ('teacher_e8', 'plain_double'),
    # Without what the teacher has cost: as many epochs.
    ('soft_e8', 'plain'),
    ('fresh_e8', 'plain'),
    ('soft_only', 'plain'),
    ('june', 'inherit'),
    ('classifier_only', 'inherit'),
    ('teacher_parallel', 'plain_matched'),
    ('teacher_e2', 'plain_matched'),
    ('teacher_e4', 'plain_matched'),
    ('teacher_e4', 'teacher_e2'),
    ('teacher_e8', 'teacher_e4'),
    ('head_of_teacher', 'head_of_plain'),
    ('head_of_teacher', 'head_of_random'),
    ('head_of_random', 'head_of_plain'),
    # Asked last.
    ('wide', 'plain_matched'),
    ('wide', 'teacher_e8'),
    # Asked when they had run.
    ('from_wide', 'fresh_e8'),
    ('dist', 'plain'),
    ('parallel', 'plain'),
    ('head', 'plain'),
    ('grow_shrink', 'plain'),
    # What had been left out, asked before any of it had run.
    ('soft_only', 'soft_elsewhere'),
    ('soft_elsewhere', 'fresh_e8'),
    ('sequential_linear', 'new_conv'),
    ('sequential_linear', 'sequential_merged'),
    ('sequential_merged', 'new_conv'),
    ('new_conv_fresh', 'new_conv'),
    *[
        (name, 'plain_matched')
        for name in (
            'sequential_merged',
            'cosine',
            'step',
            'branches_train',
            'new_conv_fresh',
        )
    ],
    ('cosine', 'linear'),
    ('step', 'linear'),
    ('branches_train', 'linear'),
]

# Saturated is what gains nothing from half of the students' cost to all of it;
# plain_double, at twice all of it, came later. So the teacher is compared with
# the plain network at half the cost here, and with the one at the whole cost
# in `comparisons`.
regime = dict(
    _delete_=True,
    control='plain_half',
    doubled='plain_matched',
    teacher='teacher_e8',
)
