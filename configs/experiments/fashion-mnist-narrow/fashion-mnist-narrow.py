# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
# Run it by tools/experiment.py. The main questions on a network that is meant
# to lack capacity: does the student gain from soft labels, from the teacher's
# weights, from the supernet? docs/results.md says how far that was reached.
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
later_comparisons = []
