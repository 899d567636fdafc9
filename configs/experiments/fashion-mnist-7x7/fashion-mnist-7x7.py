# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
# Run it by tools/experiment.py. Does a student gain from a teacher that is
# clearly better than a plain network that is saturated, as single pilots on
# validation data suggested of these two?
_base_ = '../_base_/means.py'

arms = dict(
    _delete_=True,
    **{
        name: _base_.arms[name]
        for name in (
            'teacher_e8',
            'soft_e8',
            'fresh_e8',
            'inherit',
            'head',
            'plain_matched',
        )
    },
    plain_half=dict(_base_.arms['plain_double'], times=0.5),
)

comparisons = [
    ('soft_e8', 'fresh_e8'),
    ('head', 'soft_e8'),
    ('head', 'inherit'),
    ('inherit', 'soft_e8'),
]
later_comparisons = []

# Saturated is what gains nothing from half of the students' cost to all of it.
regime = dict(control='plain_half', doubled='plain_matched')
