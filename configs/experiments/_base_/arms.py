# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
# The questions every campaign asks, as arms. The training configs lie
# beside the campaign's own file: plain.py, teacher.py, student.py (the
# supernet's) and two_networks*.py (MMRazor's stock distillation).
#
# Stages train as long as their config says. Every arm has a plain control at
# its own total cost, that of its teacher included.
seeds = [0, 1, 2, 3, 4]

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
    inherit_e8=dict(
        config='student.py',
        cfg_options={
            'model.architecture.backbone.expansion': 8,
            'model.distiller': None,
        },
        needs={'model.teacher_ckpt': 'teacher_e8'},
        control='plain_as_inherit_e8',
    ),
    soft_only_e8=dict(
        config='student.py',
        cfg_options={
            'model.architecture.backbone.expansion': 8,
            'model.reuse.inherit': [],
        },
        needs={'model.teacher_ckpt': 'teacher_e8'},
        control='plain_matched',
    ),
    soft_e8=dict(
        config='student.py',
        cfg_options={'model.architecture.backbone.expansion': 8},
        needs={'model.teacher_ckpt': 'teacher_e8'},
        control='plain_matched',
    ),
    soft_e4=dict(
        config='student.py',
        cfg_options={'model.architecture.backbone.expansion': 4},
        needs={'model.teacher_ckpt': 'teacher_e4'},
        control='plain_as_soft_e4',
    ),
    soft_e2=dict(
        config='student.py',
        cfg_options={'model.architecture.backbone.expansion': 2},
        needs={'model.teacher_ckpt': 'teacher_e2'},
        control='plain_as_soft_e2',
    ),
    soft_e1=dict(
        config='student.py',
        cfg_options={'model.architecture.backbone.expansion': 1},
        needs={'model.teacher_ckpt': 'teacher_e1'},
        control='plain_as_soft_e1',
    ),
    # MMRazor's stock distillation of two networks: the same teacher and a
    # fresh student, the independent teacher, and the plain network itself.
    fresh_e8=dict(
        config='two_networks_supernet.py',
        needs={'model.teacher_ckpt': 'teacher_e8'},
        control='plain_matched',
    ),
    from_wide=dict(
        config='two_networks_wide.py',
        needs={'model.teacher_ckpt': 'wide'},
        control='plain_as_from_wide',
    ),
    from_itself=dict(
        config='two_networks_self.py',
        needs={
            'model.teacher_ckpt': 'plain',
            'model.architecture.init_cfg.checkpoint': 'plain',
        },
        control='plain_as_from_itself',
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
