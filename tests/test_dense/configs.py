# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""Configs of a tiny detector and a tiny segmentor on those images.

Each as one who knows only the toolbox would write it, with a
``GraftedBackbone`` in place of the backbone.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

from mmengine.config import Config

from .images import CLASSES, SIDE

FEATURES = 'backbone.layer3'
MEAN_STD = dict(mean=[128.0] * 3, std=[64.0] * 3)
BACKBONE = dict(
    type='ResNet',
    depth=18,
    base_channels=8,
    stem_channels=8,
    num_stages=3,
    strides=(1, 2, 2),
    dilations=(1, 1, 1),
    out_indices=(0, 1, 2),
)


def grafted(**backbone: Any) -> dict:
    return dict(
        type='GraftedBackbone',
        backbone={**BACKBONE, **backbone},
        targets='block_first_conv',
        expansion=2,
    )


def detector(root: Path, **backbone: Any) -> Config:
    """A RetinaNet of two classes."""
    model = dict(
        type='RetinaNet',
        data_preprocessor=dict(
            type='DetDataPreprocessor', pad_size_divisor=16, **MEAN_STD
        ),
        backbone=grafted(**backbone),
        neck=dict(
            type='FPN', in_channels=[8, 16, 32], out_channels=16, num_outs=3
        ),
        bbox_head=dict(
            type='RetinaHead',
            num_classes=2,
            in_channels=16,
            stacked_convs=1,
            feat_channels=16,
            anchor_generator=dict(
                type='AnchorGenerator',
                octave_base_scale=4,
                scales_per_octave=1,
                ratios=[0.5, 1.0, 2.0],
                strides=[4, 8, 16],
            ),
        ),
        train_cfg=dict(
            assigner=dict(
                type='MaxIoUAssigner',
                pos_iou_thr=0.5,
                neg_iou_thr=0.4,
                min_pos_iou=0,
            ),
            sampler=dict(type='PseudoSampler'),
            allowed_border=-1,
            pos_weight=-1,
        ),
        test_cfg=dict(
            nms_pre=50,
            min_bbox_size=0,
            score_thr=0.0,
            nms=dict(type='nms', iou_threshold=0.5),
            max_per_img=10,
        ),
    )
    dataset = dict(
        type='CocoDataset',
        metainfo=dict(classes=CLASSES),
        data_root=str(root),
        ann_file='boxes.json',
        data_prefix=dict(img='images/'),
    )
    load = [
        dict(type='LoadImageFromFile'),
        dict(type='LoadAnnotations', with_bbox=True),
        dict(type='Resize', scale=(SIDE, SIDE)),
    ]
    train = [*load, dict(type='RandomFlip', prob=0.5), pack('Det')]
    evaluator = dict(
        type='CocoMetric', ann_file=str(root / 'boxes.json'), metric='bbox'
    )
    return _config('mmdet', model, dataset, train, [*load, _PACK], evaluator)


_PACK = dict(
    type='PackDetInputs',
    meta_keys=(
        'img_id',
        'img_path',
        'ori_shape',
        'img_shape',
        'scale_factor',
    ),
)


def pack(kind: str) -> dict:
    return dict(type=f'Pack{kind}Inputs')


def segmentor(root: Path, **backbone: Any) -> Config:
    """An FCN of three classes, with an auxiliary head."""
    head = dict(
        type='FCNHead',
        num_convs=1,
        concat_input=False,
        dropout_ratio=0,  # so that losses can be computed by hand
        num_classes=3,
        norm_cfg=dict(type='BN'),
        align_corners=False,
    )
    model = dict(
        type='EncoderDecoder',
        data_preprocessor=dict(
            type='SegDataPreProcessor',
            size=(SIDE, SIDE),
            seg_pad_val=255,
            **MEAN_STD,
        ),
        backbone=grafted(**backbone),
        decode_head=dict(head, in_channels=32, in_index=2, channels=16),
        auxiliary_head=dict(
            head,
            in_channels=16,
            in_index=1,
            channels=8,
            loss_decode=dict(type='CrossEntropyLoss', loss_weight=0.4),
        ),
        train_cfg=dict(),
        test_cfg=dict(mode='whole'),
    )
    dataset = dict(
        type='BaseSegDataset',
        metainfo=dict(classes=('around', *CLASSES)),
        data_root=str(root),
        data_prefix=dict(img_path='images', seg_map_path='masks'),
        img_suffix='.jpg',
    )
    load = [dict(type='LoadImageFromFile'), dict(type='LoadAnnotations')]
    # The crops of a batch differ in size until the preprocessor pads them.
    resize = dict(
        type='RandomResize',
        scale=(SIDE, SIDE),
        ratio_range=(0.5, 1.0),
        keep_ratio=True,
    )
    train = [*load, resize, dict(type='RandomFlip', prob=0.5), pack('Seg')]
    evaluator = dict(type='IoUMetric', iou_metrics=['mIoU'])
    test = [*load, pack('Seg')]
    return _config('mmseg', model, dataset, train, test, evaluator)


def _config(
    scope: str,
    model: dict,
    dataset: dict,
    train: list[dict],
    test: list[dict],
    evaluator: dict,
) -> Config:
    def loader(shuffle: bool, pipeline: list[dict], **more: Any) -> dict:
        return dict(
            batch_size=2,
            num_workers=0,
            sampler=dict(type='DefaultSampler', shuffle=shuffle),
            dataset=dict(copy.deepcopy(dataset), pipeline=pipeline, **more),
        )

    return Config(
        dict(
            default_scope=scope,
            test_pipeline=copy.deepcopy(test),
            model=model,
            train_dataloader=loader(True, train),
            train_cfg=dict(by_epoch=True, max_epochs=2, val_interval=1),
            optim_wrapper=dict(
                optimizer=dict(type='SGD', lr=0.01, momentum=0.9)
            ),
            val_dataloader=loader(False, test, test_mode=True),
            val_cfg=dict(),
            val_evaluator=evaluator,
            test_dataloader=loader(False, test, test_mode=True),
            test_cfg=dict(),
            test_evaluator=evaluator,
            randomness=dict(seed=0),
            default_hooks=dict(logger=dict(type='LoggerHook', interval=1)),
        )
    )


def distilled(teacher: Config, distiller: dict | None, **settings: Any) -> Any:
    """The config of the student of a teacher's config."""
    cfg = copy.deepcopy(teacher)
    cfg.model = dict(
        _scope_='mmrazor',
        type='SupernetDistill',
        architecture=dict(teacher.model, _scope_=teacher.default_scope),
        distiller=distiller,
        **settings,
    )
    cfg.optim_wrapper.constructor = 'TrainableOptimWrapperConstructor'
    cfg.custom_hooks = [dict(type='SupernetSwitchHook', recalib_samples=4)]
    return cfg


def compare(**losses: tuple[str, dict]) -> dict:
    """A distiller: name -> the module whose outputs are compared, and how."""
    recorders = {
        name: dict(type='ModuleOutputs', source=source)
        for name, (source, _) in losses.items()
    }
    return dict(
        type='ConfigurableDistiller',
        student_recorders=recorders,
        teacher_recorders=copy.deepcopy(recorders),
        distill_losses={name: loss for name, (_, loss) in losses.items()},
        loss_forward_mappings={
            name: {
                key: dict(recorder=name, from_student=student)
                for key, student in ARGUMENTS[loss['type']].items()
            }
            for name, (_, loss) in losses.items()
        },
    )


ARGUMENTS = {
    'L2Loss': dict(s_feature=True, t_feature=False),
    'PKDLoss': dict(preds_S=True, preds_T=False),
    'ChannelWiseDivergence': dict(preds_S=True, preds_T=False),
}
"""Loss -> its arguments, and whether each is the student's."""
