# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
# The questions every campaign asks, as arms. Beside the campaign's own file
# lie teacher.py, plain.py and wide.py, which say all of a data set; students
# are put together from these and from the files here.
#
# Stages train as long as their config says. Every arm has a plain control at
# its own total cost, that of its teacher included.
seeds = [0, 1, 2, 3, 4]


def student(expansion: int, control: str, **cfg_options: object) -> dict:
    """An arm of the supernet's student: all inherited, soft labels."""
    return dict(
        config='teacher.py',
        take={
            'model': '../_base_/student.py:model',
            'model.architecture': 'teacher.py:model',
            'custom_hooks': '../_base_/student.py:custom_hooks',
            'optim_wrapper.constructor': (
                '../_base_/student.py:student_optim_wrapper.constructor'
            ),
        },
        cfg_options={
            'model.architecture.backbone.expansion': expansion,
            **cfg_options,
        },
        needs={'model.teacher_ckpt': f'teacher_e{expansion}'},
        control=control,
    )


def two_networks(
    teacher: str, control: str, needs: dict, **cfg_options: object
) -> dict:
    """An arm of MMRazor's distillation: a plain student, and a teacher."""
    return dict(
        config='plain.py',
        take={
            'model': '../_base_/two_networks.py:model',
            'model.architecture': 'plain.py:model',
            'model.teacher': f'{teacher}:model',
            'custom_hooks': '../_base_/two_networks.py:custom_hooks',
            'optim_wrapper.constructor': (
                '../_base_/student.py:student_optim_wrapper.constructor'
            ),
        },
        # MMRazor's algorithm does not know which preprocessor it wants.
        cfg_options={
            'data_preprocessor.type': 'mmpretrain.ClsDataPreprocessor',
            **cfg_options,
        },
        needs=needs,
        control=control,
    )


arms = dict(
    # Teachers, by expansion.
    teacher_e1=dict(
        config='teacher.py', cfg_options={'model.backbone.expansion': 1}
    ),
    teacher_e2=dict(
        config='teacher.py', cfg_options={'model.backbone.expansion': 2}
    ),
    teacher_e4=dict(
        config='teacher.py', cfg_options={'model.backbone.expansion': 4}
    ),
    teacher_e8=dict(
        config='teacher.py', cfg_options={'model.backbone.expansion': 8}
    ),
    # An independent larger network of about the teacher_e8's multiply-adds.
    wide=dict(config='wide.py'),
    # The plain network: for as long as a stage, at the budget of soft_e8 in
    # one go, with a restart where its student stage begins, and at twice it.
    plain=dict(config='plain.py'),
    plain_matched=dict(config='plain.py', match='soft_e8'),
    plain_restart=dict(
        config='plain.py',
        match='soft_e8',
        restart_after='teacher_e8',
        control='plain_matched',
    ),
    plain_double=dict(config='plain.py', match='soft_e8', times=2),
    # The supernet's student: weights inherited, soft labels, or both.
    inherit_e8=student(8, 'plain_as_inherit_e8', **{'model.distiller': None}),
    soft_only_e8=student(8, 'plain_matched', **{'model.reuse.inherit': []}),
    soft_e8=student(8, 'plain_matched'),
    soft_e4=student(4, 'plain_as_soft_e4'),
    soft_e2=student(2, 'plain_as_soft_e2'),
    soft_e1=student(1, 'plain_as_soft_e1'),
    # MMRazor's stock distillation of two networks: the same teacher and a
    # fresh student, the independent teacher, and the plain network itself,
    # which goes on from its own weights and learns from them too.
    fresh_e8=two_networks(
        'teacher.py', 'plain_matched', {'model.teacher_ckpt': 'teacher_e8'}
    ),
    from_wide=two_networks(
        'wide.py', 'plain_as_from_wide', {'model.teacher_ckpt': 'wide'}
    ),
    from_itself=two_networks(
        'plain.py',
        'plain_as_from_itself',
        {
            'model.teacher_ckpt': 'plain',
            'model.architecture.init_cfg.checkpoint': 'plain',
        },
        **{'model.architecture.init_cfg.type': 'Pretrained'},
    ),
    # Their controls.
    plain_as_inherit_e8=dict(config='plain.py', match='inherit_e8'),
    plain_as_soft_e4=dict(config='plain.py', match='soft_e4'),
    plain_as_soft_e2=dict(config='plain.py', match='soft_e2'),
    plain_as_soft_e1=dict(config='plain.py', match='soft_e1'),
    plain_as_from_wide=dict(config='plain.py', match='from_wide'),
    plain_as_from_itself=dict(config='plain.py', match='from_itself'),
)

# What weight reuse adds to soft labels, soft labels to weight reuse, and the
# supernet to a teacher of its own.
comparisons = [
    ('soft_e8', 'soft_only_e8'),
    ('soft_e8', 'inherit_e8'),
    ('soft_only_e8', 'fresh_e8'),
    ('soft_e8', 'from_wide'),
]

regime = dict(
    control='plain_matched', doubled='plain_double', teacher='teacher_e8'
)
