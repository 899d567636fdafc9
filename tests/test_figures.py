# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""Every figure of the documentation is in a committed result file.

A new one: commit the file that a tool wrote to ``docs/results/`` and link it
in the same section (from one ``##`` heading to the next). What is no
measurement is added to ``NOT_MEASURED``.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from .figures import INTERVAL, RESULTS, ROOT, figures, unsupported

PAGES = [
    *sorted(ROOT.glob('README*.md')),
    *sorted((ROOT / 'docs').glob('*.md')),
    *sorted((ROOT / 'configs').rglob('README.md')),
]

NOT_MEASURED = {
    'README.md': [
        # what it is made for
        'Python 3.10 to 3.13',
        '| 2 CPU cores |',
        '| 1 GPU |',
        '| 4 GPUs |',
        '| 8 GPUs |',
        '| 2 CPU cores; ImageNet 8 GPUs |',
        # networks, data and schedules as configured
        'Depths 18 and 34',
        'depths 18 and 34',
        '(8 to 110, but not 50)',
        'ResNet-50',
        '(5,000 training images)',
        '200 epochs',
        '100 epochs',
        '2,000 validation images',
        'pixels from 0 to 255',
    ],
    'README_zh-CN.md': [
        'Python 3.10 到 3.13',
        '深度 18 和 34',
        '18、34 层结构',
        '6n+2（8 到 110，除 50）',
        'ResNet-50',
        '（2023）',
        '| 2 个 CPU 核 |',
        '| 1 块 GPU |',
        '| 4 块 GPU |',
        '| 8 块 GPU |',
        '| 2 个 CPU 核；ImageNet 8 块 GPU |',
        '（5,000 张训练图像）',
        '200 个 epoch',
        '100 个 epoch',
        '2,000 张验证图像',
        '像素值 0 到 255',
    ],
    'docs/your_data.md': [
        '30 epochs',
        '300 are 100 of each',
        'more than\n100',
    ],
}
"""Phrases, by page, whose numbers are no measurements."""


@pytest.mark.parametrize('page', PAGES, ids=lambda page: page.name)
def test_every_figure_has_a_source(page: Path) -> None:
    name = str(page.relative_to(ROOT))
    missing = unsupported(page, NOT_MEASURED.get(name, ()))
    assert not missing, (
        f'{name} states figures that no result file linked in their section '
        'holds. Link the file, take them out, or, if they are no '
        'measurements, add them to NOT_MEASURED.'
    )


def test_the_pages_with_exceptions_exist() -> None:
    names = {str(page.relative_to(ROOT)) for page in PAGES}
    assert set(NOT_MEASURED) <= names


@pytest.fixture
def result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A result file, found by a page in the same folder."""
    monkeypatch.setattr('tests.figures.RESULTS', tmp_path / 'results')
    path = tmp_path / 'results' / 'x' / 'report.json'
    path.parent.mkdir(parents=True)
    content = dict(
        accuracy=81.8700027,
        difference=-1.4712,
        seconds=dict(median=0.15513),
        multiply_adds=2139776,
        parts=[0.0234, 7.25, 5],
        slight=-0.004,
        epochs=95,
        reading='The student is 7.64 points below.',
        command='tool.py --epochs 1234',
    )
    path.write_text(json.dumps(content))
    path.with_suffix('.md').write_text('```\n777\n```\nbelow by 0.31')
    return path


SUPPORTED = [
    '81.87 %',
    '81.9%',
    '-1.47 points',
    '7.64 points below',
    '155.1 ms',
    '0.155 s',
    '2.14 M',
    '2,139,776',
    '95 epochs',
    '7.3x',
    '2.34 %',
    'by 0.31',
    '\N{MINUS SIGN}1.47 points',
    '\N{EN DASH}1.47',
    '+7.25 points',
    '-0.00 points',
    '[-1.47',
    ', 7.25]',
    'It is 1.47 points below, as measured.',
    '低 1.47 个百分点',
]
NO_SOURCE = [
    '81.88 %',
    '82.87',
    '1.48 points',
    '155.2 ms',
    '0.156 s',
    '2.15 M',
    '2.14 G',
    '2,139,777',
    '94 epochs',
    '7 points',  # not 7.25
    '777 images',
    '3.21pp',
    '精度达到93.1％',
    'It takes a few minutes.',
    'It takes 12 minutes.',
    '| 12.34 | 81.87 |',
    '12,5 points',
    # other signs
    '+1.47 points',
    '-7.25 points',
    '\N{MINUS SIGN}7.25 points',
    '[1.47',
    ', -7.25]',
    '1.47 points',
    '1.47 points above',
    '+0.00 points',
    'It is below. It is 1.47 points away.',
    '| below | 1.47 |',
    '+0.31',
    '-0.31',
]


def write_page(folder: Path, text: str, link: str = 'report.json') -> Path:
    page = folder / 'page.md'
    page.write_text(
        f'# Title\n\n## One\n\n{text}\n\n[file](results/x/{link})\n'
        '\n## Two\n\nWords only.\n',
        encoding='utf-8',
    )
    return page


@pytest.mark.parametrize('text', SUPPORTED)
def test_a_figure_of_the_linked_file_is_supported(
    text: str, result: Path, tmp_path: Path
) -> None:
    link = 'report.md' if '0.31' in text else 'report.json'
    page = write_page(tmp_path, text, link)
    assert not unsupported(page)
    elsewhere = page.read_text().replace('[file]', '## Three\n\n[file]')
    page.write_text(elsewhere)
    assert len(unsupported(page)) == 1


@pytest.mark.parametrize('text', NO_SOURCE)
@pytest.mark.parametrize('link', ['report.json', 'report.md', 'picture.svg'])
def test_a_new_figure_without_a_source_is_found(
    text: str, link: str, result: Path, tmp_path: Path
) -> None:
    missing = unsupported(write_page(tmp_path, text, link))
    assert len(missing) == 1
    assert missing[0].endswith(f': {text}')


@pytest.mark.parametrize(
    'text',
    [
        'ReduceNet-20 of width 16, scaler 0, 28x28 pixels, 3x3',
        'CIFAR-10 (2023), arXiv:1234.56789, torch >= 2.6, version 1.2.0',
        '`lr=0.05` and ```\nmake 12\n``` in [a link](a/12.html)',
        '```shell\ntool --kills 7\n```',
        '1. an item\n2. another',
        'the 2nd of the 6n+2 layers <!-- 12 -->',
    ],
)
def test_names_versions_and_code_are_no_figures(text: str) -> None:
    assert not list(figures(text))


def test_an_exception_covers_its_phrase_only(tmp_path: Path) -> None:
    page = tmp_path / 'page.md'
    page.write_text('On 8\nGPUs. On 18 GPUs. On 4 GPUs.')
    missing = unsupported(page, ['8 GPUs'])
    assert [one.split(':')[0] for one in missing] == ['18', '4']
    with pytest.raises(ValueError, match="does not say '9 GPUs'"):
        unsupported(page, ['9 GPUs'])


@pytest.mark.parametrize(
    ('text', 'found'),
    [
        ('-1.00 [-2.50, 0.50]', True),
        ('| \N{MINUS SIGN}1.00 [\N{MINUS SIGN}2.50, 0.50] to |', True),
        ('within [-2.50, 0.50]', True),
        ('1.00 [0.20, 2.50]', True),
        ('25.0 ms [20.0, 30.0]', True),
        ('25.0 [20.0, 30.0]', True),
        ('1.00 [-2.50, 0.50]', False),  # the other's mean
        ('+1.00 [-0.20, 2.50]', False),
        ('-1.00 [2.50, 0.50]', False),
        ('-1.00 [-2.50, 2.50]', False),
        ('-1.00 [-2.50, -0.50]', False),
        ('-1.00 [-2.50, 0.51]', False),
    ],
)
def test_an_interval_is_that_of_one_estimate(
    text: str, found: bool, result: Path, tmp_path: Path
) -> None:
    content = [
        dict(n=5, mean=-1.0, low=-2.5, high=0.5),
        dict(n=5, mean=1.0, low=0.2, high=2.5),
        dict(median=0.025, quartiles=[0.02, 0.03]),
    ]
    result.write_text(json.dumps(content))
    missing = unsupported(write_page(tmp_path, text))
    of_interval = [one for one in missing if 'of one estimate' in one]
    assert bool(of_interval) is not found


@pytest.mark.parametrize(
    ('text', 'sign'),
    [
        ('+0.5', '+'),
        ('by -0.5 %', '-'),
        ('(\N{MINUS SIGN}0.5)', '-'),
        ('[-0.5', '-'),
        ('精度-0.5', '-'),
        ('3-0.5', ''),
        ('3\N{EN DASH}0.5', ''),
        ('30 + 0.5', ''),
        ('(a) - 0.5', ''),
        ('± 0.5', ''),
        ('0.5', ''),
    ],
)
def test_what_is_a_sign(text: str, sign: str) -> None:
    *_, last = figures(text)
    assert (last.sign, last.number) == (sign, '0.5')


def own_page(tmp_path: Path) -> Path:
    """Return a copy of our page of results, in another folder."""
    text = (ROOT / 'docs' / 'results.md').read_text(encoding='utf-8')
    page = tmp_path / 'page.md'
    page.write_text(
        text.replace('](results/', f']({RESULTS}/'), encoding='utf-8'
    )
    return page


SIGN_CHANGES = {
    'plus for minus': (r'(?<=[ (\[])-(?=\d+\.\d)', '+'),
    'minus for plus': (r'(?<=[ (\[])\+(?=\d+\.\d)', '-'),
    'lower end without minus': (r'(?<=\[)-(?=\d+\.\d)', ''),
    'upper end with minus': (r'(?<=\d, )(?=\d+\.\d+\])', '-'),
}


@pytest.mark.parametrize('change', SIGN_CHANGES)
def test_changed_signs_of_our_own_page_are_found(
    change: str, tmp_path: Path
) -> None:
    page = own_page(tmp_path)
    assert not unsupported(page)
    text = page.read_text(encoding='utf-8')
    changed, count = re.subn(*SIGN_CHANGES[change], text)
    page.write_text(changed, encoding='utf-8')
    assert count >= 20
    missing = unsupported(page)
    intervals = [
        (match[0], other[0])
        for match, other in zip(
            INTERVAL.finditer(text), INTERVAL.finditer(changed), strict=True
        )
    ]
    unnoticed = [
        other
        for one, other in intervals
        if one != other and f'{other}: not of one estimate' not in missing
    ]
    # A difference that is zero to the last digit has no sign, and now and then
    # a changed interval is that of another estimate.
    signed = [
        other for other in unnoticed if not re.match(r'[+-]0\.00 ', other)
    ]
    assert len(signed) <= len(intervals) / 100, signed
    # The more is measured, the more often a changed figure is another one.
    assert len(missing) > 0.85 * count


def test_changed_figures_of_our_own_page_are_found(tmp_path: Path) -> None:
    """As if somebody had written other accuracies, ratios and times."""

    def other(match: re.Match) -> str:
        decimals = len(match[0].partition('.')[2])
        return f'{float(match[0]) + 3.1:.{decimals}f}'

    page = own_page(tmp_path)
    text = page.read_text(encoding='utf-8')
    assert not unsupported(page)
    changed, count = re.subn(r'(?<![\w.])\d+\.\d+(?![\w.])', other, text)
    page.write_text(changed, encoding='utf-8')
    assert count > 50
    # A few become figures of another network by chance.
    assert len(unsupported(page)) > 0.9 * count
