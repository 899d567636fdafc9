# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
# Run it by tools/experiment.py. Whether soft labels help a network that is
# saturated was left open by the five seeds of fashion-mnist-few, among more
# than a hundred comparisons. So here are a few questions, fixed before the
# first run, for other seeds; the images are the same.
_base_ = '../_base_/means.py'

seeds = list(range(5, 20))

arms = dict(
    _delete_=True,
    **{
        name: _base_.arms[name]
        for name in (
            'teacher_e8',
            'soft_e8',
            'soft_only',
            'fresh_e8',
            'plain_matched',
            'plain_double',
        )
    },
    # Added when all students had turned out better than plain_matched: is it
    # the restart of the learning rate, or soft labels of any teacher?
    plain=_base_.arms['plain'],
    plain_restart=dict(_base_.arms['plain_restart'], control=None),
    from_itself=dict(_base_.arms['from_itself'], control=None),
)

# Each student's control is plain_matched. Beside those, what the supernet is
# for: is a student in it better than one of its own that has the same teacher?
comparisons = [('soft_e8', 'fresh_e8'), ('soft_only', 'fresh_e8')]
later_comparisons = [
    ('plain_restart', 'plain_matched'),
    ('from_itself', 'plain_matched'),
    *[
        (student, control)
        for control in ('plain_restart', 'from_itself')
        for student in ('soft_e8', 'soft_only', 'fresh_e8')
    ],
    # Asked when all of them had run.
    ('from_itself', 'plain_restart'),
    ('soft_e8', 'plain_double'),
    ('soft_only', 'plain_double'),
    ('fresh_e8', 'plain_double'),
]
