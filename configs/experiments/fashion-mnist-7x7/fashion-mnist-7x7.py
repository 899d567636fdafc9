# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
# Run it by tools/experiment.py; with --keep-images it takes less time. Does a
# student gain from a teacher that is clearly better than a plain network that
# is saturated, as single pilots on validation data suggested of these two?
# The teacher's expansion is 16.
_base_ = '../_base_/means.py'


def at_16(setting: object) -> object:
    """An arm, or a part of it, with expansion 16 where it was 8."""
    if isinstance(setting, dict):
        return {
            key: 16 if key.endswith('expansion') else at_16(value)
            for key, value in setting.items()
        }
    if isinstance(setting, str):
        return setting.replace('_e8', '_e16')
    return setting


arms = dict(
    _delete_=True,
    **{
        at_16(name): at_16(_base_.arms[name])
        for name in (
            'teacher_e8',
            'plain',
            'plain_matched',
            'plain_double',
            'soft_e8',
            'soft_only',
            'fresh_e8',
        )
    },
)

comparisons = [
    ('soft_e16', 'soft_only'),
    ('soft_e16', 'fresh_e16'),
    ('soft_only', 'fresh_e16'),
]
later_comparisons = []

regime = dict(teacher='teacher_e16')
