# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""Find the figures of a page that no committed result file holds.

A figure is a number in digits, or a duration in words, outside of code. It
is supported if a result file that its section (from one ``##`` heading to the
next) links holds it: a JSON value that rounds to it, or the same number in a
sentence that a tool wrote. Names, versions, sizes and settings of a network
are no figures.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / 'docs' / 'results'

NUMBER = r'\d+(?:,\d{3})*(?:\.\d+)?'
UNIT = (
    r'(?:[kMGTsx]|ms|KiB|MiB|GiB|minutes?|hours?)(?![A-Za-z])|[%％]|分钟|小时'
)
FIGURE = re.compile(
    # After a letter, or a letter and a hyphen, it is part of a name.
    r'(?<![A-Za-z0-9_.])(?<![A-Za-z]-)'
    rf'(?P<number>{NUMBER})(?!\d|\.\d|,\d{{3}})(?:\s?(?P<unit>{UNIT}))?',
    re.ASCII,
)
DURATION = re.compile(
    r'\b(?:an?|few|several|some|half|two|three|four|five|six|ten|\w+ty)\s'
    r'(?:milliseconds?|seconds?|minutes?|hours?)\b',
    re.IGNORECASE,
)
SCALES = {
    'k': (1e3,),
    'M': (1e6,),
    'G': (1e9,),
    'T': (1e12,),
    '%': (1.0, 0.01),
    '％': (1.0, 0.01),
    'ms': (1.0, 1e-3),
    'KiB': (2**10,),
    'MiB': (2**20,),
    'GiB': (2**30,),
    'minute': (60.0,),
    'minutes': (60.0,),
    'hour': (3600.0,),
    'hours': (3600.0,),
    '分钟': (60.0,),
    '小时': (3600.0,),
}
"""By unit: what a figure may be multiplied by to be a value of a file."""

NO_PROSE = re.compile(
    r'^```.*?^```|^~~~.*?^~~~|<!--.*?-->|`[^`]*`|(?<=\])\([^)]*\)|https?://\S+',
    re.DOTALL | re.MULTILINE,
)
NO_FIGURES = re.compile(
    r'\b\d+x\d+(?:x\d+)?\b'  # sizes: 28x28
    r'|\b\d+\.\d+\.\d+\b'  # versions
    r'|\b(?:[Pp]ython|torch|NumPy|PyTorch)\s(?:>=\s)?\d+\.\d+\b'
    r'|\barXiv:\d+\.\d+'
    r'|\b(?:scaler|width|expansion|batch|depth|seed)\s\d+\b'
    r'|\b[Aa]t\s[01]\b'  # a gate's value
    r'|\b\d+n\+\d+'  # depths: 6n+2
    r'|\b\d+(?:st|[nr]d|th|D)\b'
    r'|\(\d{4}\)'  # years
    r'|^\s*\d+\.\s',  # items of a list
    re.ASCII | re.MULTILINE,
)


@dataclass
class Source:
    """What result files hold.

    Attributes:
        values: All numbers of JSON files, without their signs.
        written: Numbers in sentences, as they are written.
    """

    values: set[float] = field(default_factory=set)
    written: set[str] = field(default_factory=set)

    def read(self, path: Path) -> None:
        """Add the content of a JSON, JSON-lines or Markdown file."""
        text = path.read_text(encoding='utf-8')
        if path.suffix == '.json':
            self._add(json.loads(text))
        elif path.suffix == '.jsonl':
            for line in text.splitlines():
                self._add(json.loads(line))
        elif path.suffix == '.md':
            self._add_sentence(text)

    def supports(self, number: str, unit: str | None) -> bool:
        """Whether a figure is here, given that it is a rounded one."""
        if number in self.written:
            return True
        plain = number.replace(',', '')
        if not plain[0].isdigit():
            return False
        decimals = len(plain.partition('.')[2])
        half = 0.5 * 10**-decimals
        # Nearly any file has something that rounds to 7.
        if len(plain.replace('.', '').lstrip('0')) < 3 and not decimals:
            half = 0.0
        return any(
            abs(value - float(plain) * scale) <= half * scale * (1 + 1e-9)
            for scale in SCALES.get(unit or '', (1.0,))
            for value in self.values
        )

    def _add(self, value: Any) -> None:
        if isinstance(value, dict):
            value = list(value.values())
        if isinstance(value, list):
            for one in value:
                self._add(one)
        elif isinstance(value, str):
            if ' ' in value and not value.startswith('python '):
                self._add_sentence(value)
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            self.values.add(abs(float(value)))

    def _add_sentence(self, text: str) -> None:
        for _, number, _ in figures(text):
            self.written.add(number)


def figures(text: str) -> Iterator[tuple[int, str, str | None]]:
    """Yield position, number and unit of each figure of a Markdown text."""

    def blank(match: re.Match) -> str:
        return ' ' * len(match[0])

    prose = NO_FIGURES.sub(blank, NO_PROSE.sub(blank, text))
    for match in FIGURE.finditer(prose):
        yield match.start(), match['number'], match['unit']
    for match in DURATION.finditer(prose):
        yield match.start(), match[0], None


def linked_source(page: Path, section: str) -> Source:
    """Read the result files that a section links.

    A JSON file counts by itself, a report together with the JSON file of its
    name; a link to anything else, a picture say, means all of its folder.
    """
    source = Source()
    for link in re.findall(r'\]\(([^)#\s]+)', section):
        target = (page.parent / link).resolve()
        if RESULTS not in target.parents:
            continue
        if target.suffix in ('.json', '.jsonl'):
            found = [target]
        elif target.suffix == '.md':
            found = [target, target.with_suffix('.json')]
        else:
            folder = target if target.is_dir() else target.parent
            found = sorted(folder.iterdir())
        for path in found:
            if path.is_file():
                source.read(path)
    return source


def unsupported(page: Path, not_measured: Sequence[str] = ()) -> list[str]:
    """Return the figures of a page that have no source, with their lines.

    Args:
        page: A Markdown file.
        not_measured: Phrases of it whose numbers are no measurements. Line
            breaks in the page are as good as spaces.

    Raises:
        ValueError: If the page does not have one of the phrases (any more).
    """
    text = page.read_text(encoding='utf-8')
    for phrase in not_measured:
        pattern = r'\s+'.join(map(re.escape, phrase.split()))
        # Not inside a longer number: '5 images' says nothing about 95.
        pattern = rf'(?<![\d.,]){pattern}(?![\d%]|[.,]\d)'
        text, count = re.subn(
            pattern, lambda m: re.sub(r'\d', '_', m[0]), text
        )
        if not count:
            raise ValueError(
                f'{page.name} does not say {phrase!r}: take it off the list '
                'of what is not measured.'
            )
    missing = []
    for section in re.split(r'^(?=## )', text, flags=re.MULTILINE):
        source = linked_source(page, section)
        for position, number, unit in figures(section):
            if not source.supports(number, unit):
                start = section.rfind('\n', 0, position) + 1
                line = section[start:].split('\n', 1)[0]
                missing.append(f'{number} {unit or ""}'.strip() + f': {line}')
    return missing
