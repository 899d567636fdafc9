# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""Test a checkpoint on a config's test set.

The flags are those of MMPretrain's tool, and ``--scaler``: which of the two
networks in the checkpoint to test. Wrong input is reported in one line before
anything is written.
"""

from __future__ import annotations

import argparse
import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import mmengine
from mmengine.config import Config, ConfigDict
from mmengine.dist import master_only
from mmengine.evaluator import DumpResults
from mmengine.runner.checkpoint import load_state_dict
from torch import Tensor

from reducenet_mm.datasets.wrapped import innermost
from reducenet_mm.engine import launch, network_choice, preflight
from reducenet_mm.engine.hooks.runner_facts import unwrapped_model
from reducenet_mm.engine.toolbox import CLASSIFIERS, scope_of
from reducenet_mm.engine.training import TEST_SECTIONS
from reducenet_mm.files import check_file, check_folder, write_atomically

LOADERS = ('test_dataloader',)
METRIC_SUFFIXES = ('.json', '.yaml', '.yml', '.pkl', '.pickle')
PREDICTION_SUFFIXES = ('.pkl', '.pickle')


def build_parser() -> argparse.ArgumentParser:
    """Build the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog='test.py', description='Test a model.'
    )
    launch.add_arguments(parser)
    parser.add_argument('checkpoint', help='checkpoint file')
    parser.add_argument(
        '--scaler',
        type=float,
        help='network to test: 1 is the teacher, 0 the student; default: '
        'what the config says',
    )
    parser.add_argument('--out', help='file to write results to')
    parser.add_argument(
        '--out-item',
        choices=['metrics', 'pred'],
        help='what to write there; default: predictions, or metrics if the '
        'file ends in .json',
    )
    parser.add_argument(
        '--amp', action='store_true', help='test in mixed precision'
    )
    parser.add_argument('--show-dir', help='folder to draw the images to')
    parser.add_argument(
        '--show', action='store_true', help='show the images in a window'
    )
    parser.add_argument(
        '--interval',
        type=launch.positive,
        default=1,
        help='draw every n-th image (segmentors: batch; detectors: every one)',
    )
    parser.add_argument(
        '--wait-time',
        type=float,
        default=2,
        help='seconds for which a window is shown',
    )
    parser.add_argument(
        '--tta',
        action='store_true',
        help='average over augmented images: those of tta_pipeline and '
        "tta_model in the config, or else the image and its mirror's",
    )
    return parser


def apply_args(cfg: Config, args: argparse.Namespace) -> None:
    """Apply the testing tool's own arguments but ``--tta``, in place.

    Raises:
        ValueError: If one does not go with another or with the config.
    """
    if args.out is None and args.out_item is not None:
        raise ValueError('--out-item needs --out: the file to write to.')
    if args.out is not None:
        check_out(args.out, out_item(args))
    cfg.load_from = args.checkpoint
    if args.amp:
        cfg.test_cfg.fp16 = True
    if args.scaler is not None:
        cfg.model = network_choice.choose_network(cfg.model, args.scaler)
    if args.show or args.show_dir is not None:
        show_predictions(cfg, args)
    launch.set_loader_defaults(cfg, LOADERS, pin_memory=not args.no_pin_memory)


def out_item(args: argparse.Namespace) -> str:
    """Return what ``--out`` is for: ``'metrics'`` or ``'pred'``."""
    default = 'metrics' if args.out.endswith('.json') else 'pred'
    return args.out_item or default


def check_out(path: str, item: str) -> None:
    """Raise unless ``item`` can be written to ``path``.

    Raises:
        ValueError: If its name does not end in a known format.
        OSError: If no file can be written there.
    """
    check_file(path)
    suffixes = METRIC_SUFFIXES if item == 'metrics' else PREDICTION_SUFFIXES
    if not path.endswith(suffixes):
        raise ValueError(
            f'--out {path!r} with --out-item {item} must end in one of '
            f'{", ".join(suffixes)}.'
        )


def show_predictions(cfg: Config, args: argparse.Namespace) -> None:
    """Switch the config's visualization hook on, in place.

    Raises:
        ValueError: If there is none, or nothing would be drawn.
        OSError: If the drawings cannot be written.
    """
    if args.show_dir is not None:
        check_folder(args.show_dir)
    hook = (cfg.get('default_hooks') or {}).get('visualization')
    scope = scope_of(cfg)
    if hook is None:
        kind = dict(mmdet='Det', mmseg='Seg').get(scope, '')
        raise ValueError(
            '--show and --show-dir need the hook default_hooks.visualization='
            f"dict(type='{kind}VisualizationHook'), which the config does "
            'not set.'
        )
    hook.show = args.show
    hook.wait_time = args.wait_time
    hook.interval = args.interval
    hook['enable' if scope == CLASSIFIERS else 'draw'] = True
    if scope == 'mmseg':
        draw_by_visualizer(cfg, args)
    elif scope == 'mmdet' and args.show_dir is not None:
        # Absolute, or the hook puts it below the work directory.
        hook.test_out_dir = str(Path(args.show_dir).absolute())
    elif scope == CLASSIFIERS:
        hook.out_dir = args.show_dir


def draw_by_visualizer(cfg: Config, args: argparse.Namespace) -> None:
    """Say in place where a segmentor's images go: its hook has no folder.

    Raises:
        ValueError: If nothing would write them.
    """
    if args.show_dir is None:
        return
    if args.show:
        raise ValueError(
            "--show and --show-dir: MMSegmentation's hook does either. Leave "
            'one out.'
        )
    if not (cfg.get('visualizer') or {}).get('vis_backends'):
        raise ValueError(
            '--show-dir needs a `visualizer` in the config, with vis_backends='
            "[dict(type='LocalVisBackend')]."
        )
    cfg.visualizer.save_dir = args.show_dir


def apply_tta(cfg: Config) -> None:
    """Wrap model and test pipeline for test-time augmentation, in place.

    Raises:
        ValueError: If it is no classifier and the config does not say how,
            or the test data have no pipeline or several.
    """
    wrapper = cfg.test_dataloader.dataset
    datasets = innermost(wrapper)
    pipelines = [dataset.get('pipeline') for dataset in datasets]
    if None in pipelines or any(one != pipelines[0] for one in pipelines):
        raise ValueError(
            '--tta changes test_dataloader.dataset.pipeline, which must be '
            'there and the same in all of its data sets.'
        )
    scope = scope_of(cfg)
    missing = [k for k in ('tta_model', 'tta_pipeline') if k not in cfg]
    if missing and scope != CLASSIFIERS:
        raise ValueError(
            f'--tta of a network of {scope!r} needs {" and ".join(missing)} '
            'in the config: only classifiers have a default.'
        )
    if 'tta_model' not in cfg:
        cfg.tta_model = dict(type='mmpretrain.AverageClsScoreTTA')
    if 'tta_pipeline' not in cfg:
        *transforms, pack = copy.deepcopy(pipelines[0])
        flips = [dict(type='RandomFlip', prob=p) for p in (1.0, 0.0)]
        both = dict(type='TestTimeAug', transforms=[flips, [pack]])
        cfg.tta_pipeline = [*transforms, both]
    if not isinstance(cfg.tta_model, Mapping):
        raise ValueError(
            f'tta_model must be a dict with `type`, got {cfg.tta_model!r}.'
        )
    cfg.model = ConfigDict(**cfg.tta_model, module=cfg.model)
    if 'pipeline' in wrapper:  # an exported split repeats it
        datasets.append(wrapper)
    for dataset in datasets:
        dataset.pipeline = cfg.tta_pipeline


def prepare(
    args: argparse.Namespace,
) -> tuple[Config, dict[str, Tensor] | None]:
    """Turn arguments into a config that has passed every check.

    Returns:
        The config, and the weights to load if they are not the checkpoint
        file's as it stands.
    """
    cfg = launch.load_config(args)
    preflight.check_sections(cfg, TEST_SECTIONS)
    apply_args(cfg, args)
    preflight.check_together(cfg)
    model = preflight.check_config(cfg, LOADERS, init_weights=False)
    in_file = preflight.read_weights(args.checkpoint)
    weights = network_choice.plain_weights(model, in_file)
    preflight.check_weights(
        model, in_file if weights is None else weights, args.checkpoint
    )
    if weights is not None:
        cfg.load_from = None
    if args.tta:
        apply_tta(cfg)
        try:
            preflight.check_config(cfg, LOADERS, init_weights=False)
        except (TypeError, ValueError) as error:
            raise ValueError(
                'with --tta, by which `model` is tta_model and the pipeline '
                f'of the test is tta_pipeline: {error}'
            ) from error
    return cfg, weights


@master_only
def dump_metrics(metrics: Mapping[str, Any], path: str) -> None:
    """Write ``metrics`` to ``path``, all or nothing, by its suffix."""
    out = Path(path)
    out.parent.mkdir(parents=True, exist_ok=True)
    kind = out.suffix.removeprefix('.')
    content = dict(metrics)
    if kind not in ('pkl', 'pickle'):
        for name, value in metrics.items():  # such as a confusion matrix
            if hasattr(value, 'tolist'):
                content[name] = value.tolist()
    write_atomically({out: mmengine.dump(content, file_format=kind)})


def test(
    cfg: Config, weights: dict[str, Tensor] | None, args: argparse.Namespace
) -> None:
    """Test, and write what ``--out`` asks for."""
    runner = launch.build_runner(cfg)
    if weights is not None:
        load_state_dict(unwrapped_model(runner), weights, strict=True)
    if args.out and out_item(args) == 'pred':
        dump = DumpResults(out_file_path=args.out)
        runner.test_evaluator.metrics.append(dump)
    metrics = runner.test()
    if args.out and out_item(args) == 'metrics':
        dump_metrics(metrics, args.out)


def main(argv: Sequence[str] | None = None) -> None:
    """Check everything, then test."""
    args = launch.parse_args(build_parser(), argv)
    with launch.usage_errors('test.py'):
        cfg, weights = prepare(args)
        launch.join_processes(cfg)
    test(cfg, weights, args)
    launch.leave_processes()


if __name__ == '__main__':
    main()
