# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""The documentation says what is so: code runs, paths exist, figures match."""

import json
import re
from itertools import groupby
from pathlib import Path

import pytest
from mmengine.config import Config
from mmpretrain.registry import MODELS

from reducenet_mm.models import ReduceNet
from reducenet_mm.models.supernet import hosts

ROOT = Path(__file__).parent.parent
MEANS = 'configs/reducenet/README.md'
PAGES = ['README.md', 'README_zh-CN.md', 'CONTRIBUTING.md', MEANS]
PAGES += [f'docs/{page.name}' for page in (ROOT / 'docs').glob('*.md')]


def code_blocks(page: str, language: str) -> list[str]:
    text = (ROOT / page).read_text(encoding='utf-8')
    return re.findall(rf'```{language}\n(.*?)```', text, re.DOTALL)


def test_the_five_lines_plug_into_an_mmpretrain_config(tmp_path):
    lines = code_blocks('README.md', 'python')[0]
    code = [line for line in lines.splitlines() if line.strip()]
    assert len(code) <= 5
    config = tmp_path / 'mine.py'
    config.write_text(
        "_base_ = 'mmpretrain::resnet/resnet18_8xb32_in1k.py'\n" + lines
    )
    cfg = Config.fromfile(config)
    cfg.model._scope_ = 'mmpretrain'
    model = MODELS.build(cfg.model)
    assert isinstance(model.backbone, ReduceNet)
    assert len(list(hosts(model))) == 8


def test_the_students_config_of_the_readme_is_like_ours():
    block = code_blocks('README.md', 'python')[1]
    for file in (ROOT / 'configs/reducenet').glob('*/*_student.py'):
        text = file.read_text()
        for setting in (
            'SupernetDistill',
            "freeze=['classifier']",
            'optim_wrapper = _base_.student_optim_wrapper',
        ):
            assert setting in block
            assert setting in text


@pytest.mark.parametrize('language', ['python', 'shell'])
def test_the_chinese_readme_has_the_same_code(language):
    def without_comments(page):
        blocks = code_blocks(page, language)
        return [re.sub(r' *#.*', '', block) for block in blocks]

    english = without_comments('README.md')
    assert len(english) >= 2
    assert without_comments('README_zh-CN.md') == english


def test_the_chinese_readme_has_the_same_sections():
    english, chinese = (
        re.findall(r'^## ', (ROOT / page).read_text(encoding='utf-8'), re.M)
        for page in ('README.md', 'README_zh-CN.md')
    )
    assert len(english) == len(chinese)


@pytest.mark.parametrize('page', PAGES)
def test_every_path_named_exists(page):
    text = (ROOT / page).read_text(encoding='utf-8')
    named = set(
        re.findall(r'(?<![\w/.:-])(?:configs|tools|docs|tests)/[\w./-]+', text)
    )
    named |= {
        str(Path(page).parent / link)
        for link in re.findall(r'\]\((?!http)([^)#]+)\)', text)
    }
    missing = [p for p in named if not (ROOT / p.rstrip('.')).exists()]
    assert not missing


RESULTS = sorted(
    str(path.relative_to(ROOT / 'docs'))
    for path in (ROOT / 'docs/results').glob('*/report.md')
)


@pytest.mark.parametrize('report', RESULTS)
def test_results_quote_the_committed_report(report):
    """Figures in the page are the tool's own, to the letter."""
    page = (ROOT / 'docs/results.md').read_text(encoding='utf-8')
    lines = (ROOT / 'docs' / report).read_text().splitlines()
    tables = [
        '\n'.join(block)
        for is_table, block in groupby(lines, lambda x: x.startswith('|'))
        if is_table
    ]
    assert tables
    assert lines[2] in page  # what the tool says of it in words
    assert all(table in page for table in tables)
    assert report in page


def test_the_readme_quotes_the_demo():
    page = (ROOT / 'README.md').read_text(encoding='utf-8')
    report = (ROOT / 'docs/results/digits/report.md').read_text()
    table = [line for line in report.splitlines() if line.startswith('|')]
    assert '\n'.join(table) in page


def quoted_means(name: str, arm: str) -> str:
    """What the page says of an arm of a campaign."""
    path = ROOT / 'docs/results' / name / 'report.json'
    report = json.loads(path.read_text())
    seeds = report['seeds']
    if all(
        'diverged' in report['failed'].get(f'{arm} seed {seed}', '')
        for seed in seeds
    ):
        return 'diverged'
    if arm not in [one['name'] for one in report['arms']]:
        return '-'
    measured = {
        one['control']: one
        for one in report['comparisons']
        if one['arm'] == arm
        and one['difference']
        and one['difference']['n'] >= 5
    }
    # A third stage has another control, and the same without its `lora`.
    own = ['plain_matched']
    if 'plain_matched' not in measured:
        own = ['plain_double', 'soft_again']
    said = []
    for control in own:
        if control in measured:
            one = measured[control]
            value = one['difference']
            text = (
                f'{value["mean"]:+.2f} [{value["low"]:.2f}, '
                f'{value["high"]:.2f}], {one["verdict"]}'
            )
            to = '' if control == 'plain_matched' else f' (to {control})'
            said.append(text + to)
    return '; '.join(said) or 'too few seeds'


def test_the_means_are_quoted_from_the_campaigns():
    """To the letter, every arm of the page with five seeds."""
    rows = [
        [cell.strip() for cell in line.split('|')[1:-1]]
        for line in (ROOT / MEANS).read_text(encoding='utf-8').splitlines()
        if line.count('|') == 7
    ][2:]
    assert len(rows) > 20
    arms = (ROOT / 'configs/experiments/_base_/means.py').read_text()
    campaigns = ('fashion-mnist-few', 'cifar10-jpeg-narrow')
    for _, _, where, arm, *quoted in rows:
        assert f'    {arm}=' in arms
        assert quoted == [quoted_means(name, arm) for name in campaigns]
        for path in re.findall(r'`((?:_base_|pipelines)/[^`]+)`', where):
            assert list((ROOT / 'configs').glob(path)), path


def test_published_checkpoints_are_quoted_as_they_were_compared():
    page = (ROOT / 'docs/results.md').read_text(encoding='utf-8')
    path = ROOT / 'docs/results/published/cifar10.json'
    compared = json.loads(path.read_text())['compared']
    assert len(compared) == 2
    for one in compared:
        largest = max(one['max_difference'].values())
        assert largest < 1e-9
        right = {100 * n / one['images'] for n in one['right'].values()}
        (percent,) = right
        assert (
            f'| `{one["checkpoint"]}` | {one["network"]["scaler"]:g} | '
            f'{largest:.1e} | {percent:.2f} | {percent:.2f} |'
        ) in page


@pytest.mark.parametrize('layout', ['contiguous', 'channels_last'])
def test_results_quote_the_committed_step_costs(layout):
    page = (ROOT / 'docs/results.md').read_text(encoding='utf-8')
    path = ROOT / f'docs/results/step-cost/{layout}.json'
    measured = json.loads(path.read_text())
    times = [
        f'{measured["milliseconds"][name]["median"]:.1f}'
        for name in ('plain', 'mmrazor', 'supernet')
    ]
    assert f'| {layout} | {" | ".join(times)} |' in page
    ratio = measured['ratios']['supernet/mmrazor']['median']
    assert f'| {ratio:.3f} [' in page
    assert ratio <= 1.03


@pytest.mark.parametrize(
    'name', ['resnet18', 'resnet18-batch32', 'mobilenet-v2']
)
def test_grafted_networks_give_back_the_stock_networks_step(name):
    page = (ROOT / 'docs/results.md').read_text(encoding='utf-8')
    path = ROOT / f'docs/results/step-cost/grafted-{name}.json'
    ratios = json.loads(path.read_text())['ratios']
    for ratio in ('scaler_1', 'scaler_0', 'ungrafted'):
        measured = ratios[f'{ratio}/plain']
        assert f'{measured["median"]:.3f} [' in page
        if ratio != 'scaler_1':
            assert measured['quartile1'] < 1 < measured['quartile3']


def test_the_kills_of_the_page_are_those_of_the_files():
    page = (ROOT / 'docs/results.md').read_text(encoding='utf-8')
    start = page.index('## Killed and resumed\n')
    section = page[start : page.index('\n## ', start)]
    files = sorted((ROOT / 'docs/results/kills').glob('*.json'))
    results = {file.stem: json.loads(file.read_text()) for file in files}
    modes = (ROOT / 'tests/test_tools/kill_modes').glob('*.py')
    assert results.keys() == {mode.stem for mode in modes}
    linked = re.findall(r'\(results/kills/(\w+)\.json\)', section)
    assert linked == sorted(results)
    (commit,) = {result['code']['commit'] for result in results.values()}
    assert f'`{commit[:7]}`' in section
    counts = results['teacher']['kills_by_kind']
    for mode, result in results.items():
        assert result['config'].endswith(f'/{mode}.py')
        assert result['code']['commit'] and not result['code']['dirty']
        assert result['kills_by_kind'] == result['kills_wanted'] == counts
        assert min(counts.values()) > 0
        assert result['identical']
        assert not any(run['wrong'] for run in result['runs'])
        kills = [kill for run in result['runs'] for kill in run['kills']]
        cut_off = [kill for kill in kills if kill['kind'] == 'in_write']
        assert sum(k['hit_write'] for k in cut_off) == counts['in_write']
    words = ' '.join(section.split())
    each = sum(counts.values())
    assert f'{len(results)} ways, {each} kills each' in words
    fresh, resumed = counts['at_fresh_start'], counts['at_resumed_start']
    assert fresh == resumed  # 'half of them'
    assert (
        f'Kills of each: {counts["over_iterations"]} at moments uniform over '
        f'the iterations, {counts["in_write"]} inside the write of a '
        f'checkpoint, and {fresh + resumed} at moments uniform over the '
        'start-up, half of them'
    ) in words
    assert f'teacher.py --seed {results["teacher"]["seed"]}\n' in section


def test_shell_scripts_are_called_with_enough_arguments():
    calls = re.findall(
        r'bash (tools/\w+\.sh) ([^#\n]+)',
        '\n'.join(code_blocks('README.md', 'shell')),
    )
    assert len(calls) == 3
    for script, arguments in calls:
        required = re.search(
            r'^require (\d+)', (ROOT / script).read_text(), re.MULTILINE
        )
        assert len(arguments.split()) >= int(required[1]), script


@pytest.mark.parametrize(
    'file',
    sorted((ROOT / 'docs/results/overhead').glob('*.json')),
    ids=lambda file: file.stem,
)
def test_overheads_are_small_and_quoted(file):
    page = (ROOT / 'docs/results.md').read_text(encoding='utf-8')
    percent = json.loads(file.read_text())['percent_of_epoch']
    both = 'both, as configured'
    loading = 'seeding, cpu of loading'
    for name in (loading, 'atomic writing', both, 'seeding, cpu'):
        numbers = percent[name]
        quartiles = f'{numbers["quartile1"]:.2f}, {numbers["quartile3"]:.2f}'
        assert f'{numbers["median"]:.2f} [{quartiles}]' in page
    assert percent[both]['median'] <= 2


def test_every_step_of_the_page_is_that_of_the_file():
    page = (ROOT / 'docs/results.md').read_text(encoding='utf-8')
    path = ROOT / 'docs/results/step-cost/contiguous.json'
    measured = json.loads(path.read_text())
    assert len(measured['memory']) == len(measured['milliseconds']) == 9
    assert measured['targets']
    for ratio, target in measured['targets'].items():
        median = measured['ratios'][ratio]['median']
        assert median <= target
        assert f'{median:.3f} [' in page
    for name, memory in measured['memory'].items():
        keys = ('resident', 'peak')
        sizes = [f'{memory[key] / 2**20:.1f} MiB' for key in keys]
        time = f'{measured["milliseconds"][name]["median"]:.1f}'
        row = next(
            line
            for line in page.splitlines()
            if line.startswith(f'| {name} | {time} |')
        )
        assert row.endswith(f'| {" | ".join(sizes)} |'), name


@pytest.mark.parametrize(
    'file',
    sorted((ROOT / 'docs/results/step-cost').glob('*.json')),
    ids=lambda file: file.stem,
)
def test_a_step_above_its_target_is_said(file):
    page = (ROOT / 'docs/results.md').read_text(encoding='utf-8')
    content = json.loads(file.read_text())
    targets = content['targets']
    measured = {k: v for k, v in content['ratios'].items() if k in targets}
    assert measured
    for ratio, found in measured.items():
        low, high = found['quartile1'], found['quartile3']
        quoted = f'{found["median"]:.3f} [{low:.3f}, {high:.3f}]'
        assert found['median'] <= targets[ratio] or quoted in page, ratio
