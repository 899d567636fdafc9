# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
# Every means of bringing the teacher into the student, as arms, the three
# claims of the idea, and what needs no supernet. Beside the campaign's own
# file lie teacher.py, plain.py and wide.py; everything else is taken from
# configs/_base_ and from the files here.
#
# A means gets the total cost of soft_e8, its teachers' included: its own stage
# is longer the cheaper its steps or its teacher are. So plain_matched is the
# control of all of them, and any two can be compared. What needs more stages
# gets twice that cost, which plain_double has too.
_base_ = './arms.py'


def student(
    take: dict | None = None,
    options: dict | None = None,
    needs: dict | None = None,
    control: str | None = 'plain_matched',
    times: int = 1,
) -> dict:
    """soft_e8 with other presets or settings, at the same total cost."""
    arm = _base_.arms['soft_e8']
    return dict(
        arm,
        take={**arm['take'], **(take or {})},
        cfg_options={**arm['cfg_options'], **(options or {})},
        needs=needs or arm['needs'],
        match='soft_e8',
        times=times,
        control=control,
    )


def reuse(name: str) -> dict:
    """What to take of a preset of weight reuse."""
    keys = ('reuse', 'norm_stats')
    return {
        f'model.{key}': f'../../_base_/reuse/{name}.py:{key}' for key in keys
    }


def distill(name: str) -> dict:
    """What to take of a preset of distillation."""
    return {'model.distiller': f'../../_base_/distill/{name}.py:distiller'}


def schedule(name: str) -> dict:
    """What to take of a preset of the scaler's schedule."""
    preset = f'../../_base_/schedules/{name}.py:scaler_schedule'
    return {'custom_hooks': ['../_base_/student.py:custom_hooks', preset]}


def lora(**settings: object) -> dict:
    """Settings of `lora` branches."""
    return {'model.architecture.backbone.lora': settings}


def third_stage(take: dict | None = None, options: dict | None = None) -> dict:
    """A stage that goes on from the student of soft_e8."""
    return student(
        take,
        options,
        needs={
            'model.teacher_ckpt': 'teacher_e8',
            'model.student_init': 'soft_e8',
        },
        control='plain_double',
        times=2,
    )


def inplace(name: str) -> dict:
    """Both networks in one stage, from scratch."""
    preset = f'../../_base_/inplace/{name}.py'
    return dict(
        config='teacher.py',
        take={
            'model': f'{preset}:inplace',
            'model.architecture': 'teacher.py:model',
            'custom_hooks': f'{preset}:inplace_hooks',
        },
        cfg_options={
            'model.type': 'InplaceDistill',
            'model._scope_': 'mmrazor',
            'model.architecture.backbone.expansion': 8,
        },
        match='soft_e8',
        control='plain_matched',
    )


def block_teacher(name: str) -> dict:
    """A teacher of another block; its student's size is the plain one's."""
    return dict(
        config='teacher.py',
        cfg_options={
            'model.backbone.expansion': 8,
            'model.backbone.block': name,
        },
    )


def elsewhere() -> list[dict]:
    """MMPretrain's initialisation, drawn twice: alike, but other values."""
    conv = dict(type='Kaiming', layer=['Conv2d'])
    norm = dict(type='Constant', val=1, layer=['_BatchNorm', 'GroupNorm'])
    return [conv, conv, norm]


def frozen_head(needs: dict | None = None, **init_cfg: object) -> dict:
    """A plain network, trained on the labels, but for its classifier."""
    return dict(
        config='plain.py',
        cfg_options={
            'model.head.init_cfg': init_cfg,
            'optim_wrapper.paramwise_cfg.custom_keys.head.lr_mult': 0.0,
        },
        needs=needs or {},
    )


arms = dict(
    _delete_=True,
    # Claim 1: bigger teachers, by expansion, teach better.
    teacher_e1=_base_.arms['teacher_e1'],
    teacher_e2=_base_.arms['teacher_e2'],
    teacher_e4=_base_.arms['teacher_e4'],
    teacher_e8=_base_.arms['teacher_e8'],
    soft_e1=student(
        options={'model.architecture.backbone.expansion': 1},
        needs={'model.teacher_ckpt': 'teacher_e1'},
    ),
    soft_e2=student(
        options={'model.architecture.backbone.expansion': 2},
        needs={'model.teacher_ckpt': 'teacher_e2'},
    ),
    soft_e4=student(
        options={'model.architecture.backbone.expansion': 4},
        needs={'model.teacher_ckpt': 'teacher_e4'},
    ),
    soft_e8=_base_.arms['soft_e8'],
    # The plain network: for as long as a stage, and the controls.
    plain=_base_.arms['plain'],
    plain_matched=_base_.arms['plain_matched'],
    plain_restart=_base_.arms['plain_restart'],
    plain_double=_base_.arms['plain_double'],
    # Without a supernet: the same teacher and a fresh student, a teacher of
    # its own, and the plain network as its own teacher.
    wide=_base_.arms['wide'],
    fresh_e8=_base_.arms['fresh_e8'],
    from_wide=_base_.arms['from_wide'],
    from_itself=_base_.arms['from_itself'],
    # Weight reuse: none, on the labels alone, as published, and with soft
    # labels. What is not inherited begins as the teacher of that seed began,
    # except in soft_elsewhere.
    soft_only=student(options={'model.reuse.inherit': []}),
    soft_elsewhere=student(
        options={
            'model.reuse.inherit': [],
            'model.architecture.backbone.init_cfg': elsewhere(),
        }
    ),
    inherit=student(options={'model.distiller': None}),
    june=student(reuse('published_june'), {'model.distiller': None}),
    classifier_only=student(
        reuse('published_classifier_only'), {'model.distiller': None}
    ),
    head=student(
        distill('soft_labels_published'),
        {'model.architecture.head.loss.loss_weight': 0.3},
    ),
    keep_classifier=student(reuse('classifier')),
    keep_norms=student(reuse('classifier_norms')),
    main_conv=student(reuse('main_conv')),
    # Distillation, all inherited.
    dkd=student(distill('dkd')),
    dist=student(distill('dist')),
    features=student(distill('features')),
    attention=student(distill('attention')),
    soft_features=student(distill('soft_labels_features')),
    # Claim 3: all branches at once (soft_e8), little by little, or one by one
    # as a learned mask decides.
    linear=student(schedule('scaler/linear')),
    deepest_first=student(schedule('scaler/deepest_first')),
    shallowest_first=student(schedule('scaler/shallowest_first')),
    learned_mask=student(schedule('learned_mask')),
    # A third stage on the student of soft_e8: `lora`, or the same again.
    soft_again=third_stage(),
    lora_kxk=third_stage(
        reuse('lora'), lora(kind='kxk_1x1', expansion=2, inner_norm=True)
    ),
    lora_weight=third_stage(reuse('lora'), lora(kind='weight', expansion=0.5)),
    lora_1x1=third_stage(reuse('lora'), lora(kind='1x1')),
    # Other blocks. Their students have no activation behind the sum.
    teacher_parallel=block_teacher('parallel'),
    parallel=student(
        options={'model.architecture.backbone.block': 'parallel'},
        needs={'model.teacher_ckpt': 'teacher_parallel'},
    ),
    teacher_sequential=block_teacher('sequential'),
    new_conv=student(
        reuse('main_conv'),
        {
            'model.architecture.backbone.block': 'sequential',
            'model.architecture.backbone.student_conv': 'merged',
        },
        needs={'model.teacher_ckpt': 'teacher_sequential'},
    ),
    # The first generation of the idea: its pairs of convolutions turn linear
    # little by little, and merge.
    sequential_linear=student(
        schedule('scaler/linear'),
        {'model.architecture.backbone.block': 'sequential'},
        needs={'model.teacher_ckpt': 'teacher_sequential'},
    ),
    # The same convolutions merged at once, all of the student training, as it
    # does in sequential_linear but not in new_conv. Added after a look.
    sequential_merged=student(
        options={
            'model.architecture.backbone.block': 'sequential',
            'model.architecture.backbone.student_conv': 'merged',
        },
        needs={'model.teacher_ckpt': 'teacher_sequential'},
        control=None,
    ),
    # Settings that the arms above have not. Added after a look at those.
    cosine=student(schedule('scaler/cosine'), control=None),
    step=student(schedule('scaler/step'), control=None),
    branches_train=student(
        schedule('scaler/linear'),
        {'model.train_branches': True},
        control=None,
    ),
    recalibrated=student(
        options={'model.norm_stats': 'recalibrated'}, control=None
    ),
    inherited_norms=student(
        options={'model.norm_stats': 'inherited'}, control=None
    ),
    new_conv_fresh=student(
        reuse('main_conv'),
        {
            'model.architecture.backbone.block': 'sequential',
            'model.architecture.backbone.student_conv': 'fresh',
        },
        needs={'model.teacher_ckpt': 'teacher_sequential'},
        control=None,
    ),
    lora_act=dict(
        third_stage(
            {**reuse('lora'), **schedule('scaler/lora_activation')},
            lora(kind='kxk_1x1', expansion=2, inner_norm=True, act=True),
        ),
        control=None,
    ),
    # In place, from scratch.
    inplace=inplace('soft_labels'),
    inplace_sandwich=inplace('sandwich'),
    inplace_netaug=inplace('netaug'),
    # Grow, shrink, distil.
    grown=dict(
        _base_.arms['teacher_e8'],
        cfg_options={
            'model.backbone.expansion': 8,
            'model.backbone.zero_init_expand': True,
        },
        needs={'load_from': 'plain'},
    ),
    grow_shrink=student(
        reuse('lora'),
        lora(kind='kxk_1x1', expansion=2, inner_norm=True),
        needs={'model.teacher_ckpt': 'grown'},
    ),
    # Claim 2: bigger networks learn better classifiers. All else is fresh and
    # everything as long as `plain`; the frozen values alone differ. Both that
    # were learned come from elsewhere than where these networks begin.
    # The random one starts as large as a layer with so many inputs usually
    # does, not at MMPretrain's 0.01, which nothing could make up for.
    head_of_teacher=frozen_head(
        {'model.head.init_cfg.checkpoint': 'teacher_e8'},
        type='Pretrained',
        prefix='head.',
    ),
    plain_elsewhere=dict(
        config='plain.py',
        cfg_options={'model.backbone.init_cfg': elsewhere()},
    ),
    head_of_plain=frozen_head(
        {'model.head.init_cfg.checkpoint': 'plain_elsewhere'},
        type='Pretrained',
        prefix='head.',
    ),
    head_of_random=dict(
        frozen_head(type='Kaiming', layer='Linear', mode='fan_in'),
        control='plain',
    ),
)

comparisons = [
    # What a means adds to soft labels, or takes from them.
    *[
        (name, 'soft_e8')
        for name, arm in arms.items()
        if name not in ('_delete_', 'soft_e8')
        and arm.get('control') == 'plain_matched'
    ],
    ('soft_only', 'fresh_e8'),
    ('soft_only', 'soft_elsewhere'),
    ('soft_elsewhere', 'fresh_e8'),
    ('linear', 'learned_mask'),
    ('lora_kxk', 'soft_again'),
    ('lora_weight', 'soft_again'),
    ('lora_1x1', 'soft_again'),
    ('sequential_linear', 'new_conv'),
    ('head_of_teacher', 'head_of_plain'),
    ('head_of_teacher', 'head_of_random'),
]

# What was asked after a look at results: the plain network at twice the cost,
# whose seeds spread less on Fashion-MNIST, and the one that restarts, as every
# student does; teachers beside the control.
later_comparisons = [
    *[
        (name, control)
        for control in ('plain_double', 'plain_restart')
        for name in (
            'soft_e1',
            'soft_e8',
            'soft_only',
            'fresh_e8',
            'from_wide',
        )
    ],
    *[
        (name, 'plain_restart')
        for name in ('inherit', 'lora_kxk', 'lora_weight', 'lora_1x1')
    ],
    *[
        (name, 'plain_matched')
        for name in (
            'teacher_e1',
            'teacher_e2',
            'teacher_e4',
            'teacher_parallel',
            'teacher_sequential',
            'wide',
        )
    ],
    ('teacher_e2', 'teacher_e1'),
    ('sequential_merged', 'plain_matched'),
    ('sequential_merged', 'new_conv'),
    ('sequential_linear', 'sequential_merged'),
    *[
        (name, control)
        for control in ('plain_matched', 'soft_e8')
        for name in (
            'cosine',
            'step',
            'branches_train',
            'recalibrated',
            'inherited_norms',
        )
    ],
    ('cosine', 'linear'),
    ('step', 'linear'),
    ('branches_train', 'linear'),
    ('new_conv_fresh', 'plain_matched'),
    ('new_conv_fresh', 'new_conv'),
    ('lora_act', 'plain_double'),
    ('lora_act', 'lora_kxk'),
    ('head_of_random', 'head_of_plain'),
]
