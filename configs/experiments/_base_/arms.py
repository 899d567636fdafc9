# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
# Teachers, controls, and students with and without a supernet: what means.py
# builds on. Beside the campaign's own file lie teacher.py, plain.py and
# wide.py, which say all of a data set; students are put together from these
# and from the files here.
#
# Stages train as long as their config says; `match` gives the plain controls
# and distillation by two networks the total cost of soft_e8, that of its
# teacher included.
seeds = [0, 1, 2, 3, 4]


def two_networks(teacher: str, needs: dict, **cfg_options: object) -> dict:
    """An arm of MMRazor's distillation: a plain student, and a teacher.

    At the total cost of soft_e8.
    """
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
        match='soft_e8',
        control='plain_matched',
    )


arms = dict(
    # Teachers, by expansion.
    **{
        f'teacher_e{expansion}': dict(
            config='teacher.py',
            cfg_options={'model.backbone.expansion': expansion},
        )
        for expansion in (1, 2, 4, 8)
    },
    # An independent network of about the size of teacher_e8 when it runs.
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
    # The supernet's student: weights inherited, and soft labels.
    soft_e8=dict(
        config='teacher.py',
        take={
            'model': '../_base_/student.py:model',
            'model.architecture': 'teacher.py:model',
            'custom_hooks': '../_base_/student.py:custom_hooks',
            'optim_wrapper.constructor': (
                '../_base_/student.py:student_optim_wrapper.constructor'
            ),
        },
        cfg_options={'model.architecture.backbone.expansion': 8},
        needs={'model.teacher_ckpt': 'teacher_e8'},
        control='plain_matched',
    ),
    # MMRazor's stock distillation of two networks: the same teacher and a
    # fresh student, the independent teacher, and the plain network itself,
    # which goes on from its own weights and learns from them too.
    fresh_e8=two_networks('teacher.py', {'model.teacher_ckpt': 'teacher_e8'}),
    from_wide=two_networks('wide.py', {'model.teacher_ckpt': 'wide'}),
    from_itself=two_networks(
        'plain.py',
        {
            'model.teacher_ckpt': 'plain',
            'model.architecture.init_cfg.checkpoint': 'plain',
        },
        **{'model.architecture.init_cfg.type': 'Pretrained'},
    ),
)

regime = dict(
    control='plain_matched', doubled='plain_double', teacher='teacher_e8'
)
