# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
# Run it by tools/experiment.py. The main questions where a narrow network has
# learnt all it can and a teacher knows clearly more: does the student gain
# from soft labels, from the teacher's weights, from the supernet?
_base_ = '../_base_/means.py'

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
)

comparisons = [
    ('soft_e8', 'soft_only'),
    ('soft_e8', 'fresh_e8'),
    ('soft_only', 'fresh_e8'),
]
