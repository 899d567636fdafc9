# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
# Run it by tools/experiment.py. Where the statistics of a student's norms stay
# and all of it trains, every seed of digits-few and fashion-mnist-few diverged
# at the learning rate of all arms. So here are a tenth of that rate and a
# hundredth, each with a control whose statistics follow the batches. Rates,
# arms and comparisons were fixed before the first run.
_base_ = '../_base_/means.py'


def student(norm_stats: str, rate: float) -> dict:
    """soft_e8 with other statistics, at another learning rate."""
    arm = _base_.arms['soft_e8']
    return dict(
        arm,
        cfg_options={
            **arm['cfg_options'],
            'model.norm_stats': norm_stats,
            'optim_wrapper.optimizer.lr': rate,
        },
    )


arms = dict(
    _delete_=True,
    teacher_e8=_base_.arms['teacher_e8'],
    soft_e8=_base_.arms['soft_e8'],
    plain_matched=_base_.arms['plain_matched'],
    live_tenth=student('live', 0.005),
    recalibrated_tenth=student('recalibrated', 0.005),
    inherited_tenth=student('inherited', 0.005),
    live_hundredth=student('live', 0.0005),
    recalibrated_hundredth=student('recalibrated', 0.0005),
    inherited_hundredth=student('inherited', 0.0005),
)

comparisons = [
    (f'{statistics}_{rate}', f'live_{rate}')
    for rate in ('tenth', 'hundredth')
    for statistics in ('recalibrated', 'inherited')
] + [(f'live_{rate}', 'soft_e8') for rate in ('tenth', 'hundredth')]
# Asked while they ran, when some cells had been seen.
later_comparisons = [
    (f'{statistics}_{rate}', 'soft_e8')
    for rate in ('tenth', 'hundredth')
    for statistics in ('recalibrated', 'inherited')
]

# Whether the control is saturated is asked in digits-few.
regime = dict(_delete_=True, control='plain_matched', teacher='teacher_e8')
