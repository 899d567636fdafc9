# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""Find the figures of a page that no committed result file holds.

A figure is a number in digits, or a duration in words, outside of code. It
is supported if a result file that its section (from one ``##`` heading to the
next) links holds it: a JSON value that rounds to it, or the same number in a
sentence that a tool wrote. Signs count: ``+0.21`` and ``-0.21`` are found as
such, and a number without a sign is not negative, unless its sentence says so
in words ('0.40 points below'). An interval is found if one object of a file
holds both of its ends, and the mean before it. Names, versions, sizes and
settings of a network are no figures.
"""

from __future__ import annotations

import json
import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / 'docs' / 'results'

NUMBER = r'\d+(?:,\d{3})*(?:\.\d+)?'
UNIT = (
    r'(?:[kMGTsx]|ms|KiB|MiB|GiB|minutes?|hours?)(?![A-Za-z])|[%％]|分钟|小时'
)
SIGNS = {
    '+': '+',
    '＋': '+',
    '-': '-',
    '\N{MINUS SIGN}': '-',
    '\N{EN DASH}': '-',
    '－': '-',
}
FIGURE = re.compile(
    # After a letter, or a letter and a hyphen, it is part of a name.
    r'(?<![A-Za-z0-9_.])(?<![A-Za-z]-)'
    # Between two numbers, or after a closing bracket, it is no sign.
    rf'(?:(?<![\w.)\]%％])(?P<sign>{"|".join(map(re.escape, SIGNS))}))?'
    rf'(?P<number>{NUMBER})(?!\d|\.\d|,\d{{3}})(?:\s?(?P<unit>{UNIT}))?',
    re.ASCII,
)
SIGNED = rf'(?:{"|".join(map(re.escape, SIGNS))})?{NUMBER}'
INTERVAL = re.compile(
    # The mean or median before it, if there is one, belongs to it.
    rf'(?:(?<![^\s|(])(?P<mean>{SIGNED})\s)?'
    rf'\[(?P<low>{SIGNED}), (?P<high>{SIGNED})\]',
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

DOWN = re.compile(
    r'\b(?:below|behind|under|less|fewer|lower|worse|loses?|lost|falls?|fell)\b'
    r'|低|少|下降|差',
    re.IGNORECASE,
)
"""What a sentence says of a figure whose minus it leaves out."""
SENTENCE_END = re.compile(r'[.:;!?]\s|[。；！？|]|\n\s*\n|\n\s*[-*]\s')

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


class Figure(NamedTuple):
    """A figure as a page has it.

    Attributes:
        position: Where its number starts.
        sign: '+', '-' or '' if there is none.
        number: Its digits, or a duration in words.
        unit: What follows.
        down: Whether its sentence says that something is less.
    """

    position: int
    sign: str
    number: str
    unit: str | None
    down: bool

    def __str__(self) -> str:
        return f'{self.sign}{self.number} {self.unit or ""}'.strip()


@dataclass
class Source:
    """What result files hold.

    Attributes:
        values: All numbers of JSON files, in order.
        written: Signs and numbers in sentences, as they are written.
        together: Numbers of each object, such as an estimate's, in order.
    """

    values: list[float] = field(default_factory=list)
    written: set[tuple[str, str]] = field(default_factory=set)
    together: list[list[float]] = field(default_factory=list)

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
        self.values.sort()

    def supports(self, figure: Figure) -> bool:
        """Whether a figure is here, given that it is a rounded one."""
        signs = [figure.sign]
        if not figure.sign:
            signs = ['', '+', '-'] if figure.down else ['', '+']
        if any((sign, figure.number) in self.written for sign in signs):
            return True
        plain = figure.number.replace(',', '')
        if not plain[0].isdigit():
            return False
        return any(self._holds(plain, figure.unit, sign) for sign in signs)

    def supports_interval(self, match: re.Match) -> bool:
        """Whether one object holds both ends, and the mean before them."""
        parts = [part for part in match.groups() if part is not None]
        return any(
            _has_all(values, parts, scale)
            for scale in (1.0, 1e-3)  # ms
            for values in self.together
        )

    def _holds(self, plain: str, unit: str | None, sign: str) -> bool:
        """Whether a value of that sign rounds to a number."""
        # Nearly any file has something that rounds to 7.
        exact = '.' not in plain and len(plain.lstrip('0')) < 3
        scales = SCALES.get(unit or '', (1.0,))
        return any(
            _fitting(self.values, sign + plain, scale, exact) is not None
            for scale in scales
        )

    def _add(self, value: Any) -> None:
        if isinstance(value, dict):
            value = list(value.values())
            self.together.append(sorted(_numbers(value)))
        if isinstance(value, list):
            for one in value:
                self._add(one)
        elif isinstance(value, str):
            if ' ' in value and not value.startswith('python '):
                self._add_sentence(value)
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            self.values.append(float(value))

    def _add_sentence(self, text: str) -> None:
        for figure in figures(text):
            self.written.add((figure.sign, figure.number))


def _numbers(items: Sequence[Any]) -> Iterator[float]:
    """Yield the numbers among items, and those of lists among them."""
    for one in items:
        if isinstance(one, list):
            yield from _numbers(one)
        elif isinstance(one, (int, float)) and not isinstance(one, bool):
            yield float(one)


def _fitting(
    values: Sequence[float], text: str, scale: float = 1.0, exact: bool = False
) -> float | None:
    """Return one of the sorted values that rounds to a number with a sign."""
    sign = SIGNS.get(text[0], '')
    number = text.removeprefix(text[0]) if sign else text
    factor = -1 if sign == '-' else 1
    half = 0.0 if exact else 0.5 * 10 ** -len(number.partition('.')[2])
    middle = factor * float(number.replace(',', '')) * scale
    reach = half * scale * (1 + 1e-9)
    start = bisect_left(values, middle - reach)
    for value in values[start : bisect_right(values, middle + reach)]:
        if factor * value >= 0:
            return value
    return None


def _has_all(
    values: Sequence[float], texts: Sequence[str], scale: float
) -> bool:
    """Whether each number is another one of the values, rounded."""
    left = list(values)
    for text in texts:
        value = _fitting(left, text, scale)
        if value is None:
            return False
        left.remove(value)
    return True


def _blank(match: re.Match) -> str:
    return ' ' * len(match[0])


def figures(text: str) -> Iterator[Figure]:
    """Yield the figures of a Markdown text."""
    prose = NO_FIGURES.sub(_blank, NO_PROSE.sub(_blank, text))
    ends = [match.end() for match in SENTENCE_END.finditer(prose)]

    def down(position: int) -> bool:
        index = bisect_right(ends, position)
        start = ends[index - 1] if index else 0
        return bool(DOWN.search(prose, start, [*ends, len(prose)][index]))

    for match in FIGURE.finditer(prose):
        start = match.start('number')
        sign = SIGNS[match['sign']] if match['sign'] else ''
        yield Figure(start, sign, match['number'], match['unit'], down(start))
    for match in DURATION.finditer(prose):
        yield Figure(match.start(), '', match[0], None, False)


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
        for figure in figures(section):
            if not source.supports(figure):
                start = section.rfind('\n', 0, figure.position) + 1
                line = section[start:].split('\n', 1)[0]
                missing.append(f'{figure}: {line}')
        for match in INTERVAL.finditer(NO_PROSE.sub(_blank, section)):
            if not source.supports_interval(match):
                missing.append(f'{match[0]}: not of one estimate')
    return missing
