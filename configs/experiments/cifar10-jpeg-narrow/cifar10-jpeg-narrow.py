# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
# Run it by tools/experiment.py. Pilots on validation data say that here the
# plain network has saturated and the teacher is clearly better. What does a
# student gain from it, at the cost of a short stage and at twice the cost?
_base_ = '../_base_/means.py'


def at_twice_the_cost(name: str) -> dict:
    """An arm of means.py, its stage so long that all costs twice as much."""
    return dict(
        _base_.arms[name], match='soft_e8', times=2, control='plain_double'
    )


arms = dict(
    _delete_=True,
    teacher_e8=_base_.arms['teacher_e8'],
    soft_e8=_base_.arms['soft_e8'],
    soft_long=at_twice_the_cost('soft_e8'),
    plain_matched=_base_.arms['plain_matched'],
    plain_double=_base_.arms['plain_double'],
    fresh_e8=_base_.arms['fresh_e8'],
    fresh_long=at_twice_the_cost('fresh_e8'),
)

comparisons = [
    ('soft_e8', 'fresh_e8'),
    ('soft_long', 'fresh_long'),
    ('soft_long', 'plain_matched'),
    ('teacher_e8', 'plain_double'),
]
later_comparisons = []
