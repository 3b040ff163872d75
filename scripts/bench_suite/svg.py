# SPDX-License-Identifier: BSD-3-Clause
"""Charts as SVG: bars in groups, and lines, with spreads and limits.

The background is transparent, and all colours are of middle brightness, so that a chart can be read
on a light page and on a dark one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from xml.etree import ElementTree

WIDTH, HEIGHT = 760, 420
LEFT, RIGHT, TOP, BOTTOM = 70, 20, 62, 84
INK, GRID, LIMIT = '#7d7d7d', '#7d7d7d', '#d6404f'
BLUE, ORANGE, GREEN = '#2383e2', '#e07b2a', '#2aa36f'
LABEL = 12  # room that a label takes


@dataclass(frozen=True)
class Value:
    """A median with its spread."""
    median: float
    least: float
    greatest: float


@dataclass(frozen=True)
class Row:
    """What has one colour: a value for each place on the x axis, None where there is none."""
    name: str
    values: Sequence[Value | None]
    colour: str
    dashes: str = ''    # of a line
    marks: bool = True  # points with their numbers


@dataclass
class Chart:
    """One picture."""
    title: str
    unit: str
    places: Sequence[str]       # along the x axis
    rows: Sequence[Row]
    bars: bool = False          # else lines
    limits: Sequence[float | None] = ()     # for each place; none: no limits at all
    limit_name: str = 'limit'
    what: str = ''              # the x axis
    foot: Sequence[str] = ()    # where the figures come from
    root: ElementTree.Element = field(init=False)

    def __post_init__(self) -> None:
        self.root = ElementTree.Element('svg', {
            'xmlns': 'http://www.w3.org/2000/svg', 'viewBox': f'0 0 {WIDTH} {HEIGHT}',
            'width': str(WIDTH), 'height': str(HEIGHT), 'role': 'img',
            'font-family': 'system-ui, sans-serif', 'font-size': '13'})
        ElementTree.SubElement(self.root, 'title').text = self.title
        values = [value.greatest for row in self.rows for value in row.values if value]
        values += [limit for limit in self.limits if limit is not None]
        self.step = nice_step(max(values, default=1) or 1)
        self.top = self.step * math.ceil(max(values, default=1) / self.step + 1e-9)

    @property
    def empty(self) -> bool:
        """Whether nothing of it was measured."""
        return not any(row.values and any(row.values) for row in self.rows)

    def draw(self) -> str:
        """The file."""
        self.axes()
        self.legend()
        if self.bars:
            self.draw_bars()
        else:
            self.draw_lines()
        ElementTree.indent(self.root, ' ')
        comment = '<!-- SPDX-License-Identifier: BSD-3-Clause -->\n'
        return comment + ElementTree.tostring(self.root, encoding='unicode') + '\n'

    # --- places ---

    def x(self, place: float) -> float:
        """The middle of a place, which is a number from 0 on."""
        return LEFT + (place + .5) * (WIDTH - LEFT - RIGHT) / len(self.places)

    def y(self, value: float) -> float:
        """The height of a value."""
        return HEIGHT - BOTTOM - value / self.top * (HEIGHT - TOP - BOTTOM)

    # --- elements ---

    def line(self, x1: float, y1: float, x2: float, y2: float, colour: str, **more: str) -> None:
        """A straight line."""
        ElementTree.SubElement(self.root, 'line', {
            'x1': f'{x1:.1f}', 'y1': f'{y1:.1f}', 'x2': f'{x2:.1f}', 'y2': f'{y2:.1f}',
            'stroke': colour} | {name.replace('_', '-'): value for name, value in more.items()})

    def text(self, x: float, y: float, words: str, anchor: str = 'middle', **more: str) -> None:
        """Words."""
        ElementTree.SubElement(self.root, 'text', {
            'x': f'{x:.1f}', 'y': f'{y:.1f}', 'text-anchor': anchor, 'fill': INK}
            | {name.replace('_', '-'): value for name, value in more.items()}).text = words

    def axes(self) -> None:
        """Title, grid and scales."""
        self.text(LEFT, 22, self.title, 'start', font_size='16', font_weight='600')
        for i in range(round(self.top / self.step) + 1):
            y = self.y(i * self.step)
            self.line(LEFT, y, WIDTH - RIGHT, y, GRID, stroke_opacity='0.9' if i == 0 else '0.25')
            self.text(LEFT - 8, y + 4, f'{i * self.step:g}', 'end')
        self.text(16, (TOP + HEIGHT - BOTTOM) / 2, self.unit,
                  transform=f'rotate(-90 16 {(TOP + HEIGHT - BOTTOM) / 2:.1f})')
        for i, place in enumerate(self.places):
            self.text(self.x(i), HEIGHT - BOTTOM + 18, place)
        self.text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - BOTTOM + 36, self.what)
        for i, line in enumerate(self.foot):
            self.text(LEFT, HEIGHT - 10 - 14 * (len(self.foot) - 1 - i), line, 'start',
                      font_size='11')

    def legend(self) -> None:
        """What the colours mean."""
        x = float(LEFT)
        for row in self.rows:
            self.line(x, 40, x + 22, 40, row.colour, stroke_dasharray=row.dashes or 'none',
                      stroke_width='6' if self.bars else '2')
            self.text(x + 28, 44, row.name, 'start')
            x += 48 + 7 * len(row.name)
        if any(limit is not None for limit in self.limits):
            self.line(x, 40, x + 18, 40, LIMIT, stroke_width='2')
            self.text(x + 24, 44, self.limit_name, 'start')

    def spread(self, x: float, value: Value, colour: str) -> None:
        """From the least round to the greatest."""
        if value.least != value.greatest:
            self.line(x, self.y(value.least), x, self.y(value.greatest), colour,
                      stroke_opacity='0.6', stroke_width='1.5')

    # --- kinds ---

    def draw_bars(self) -> None:
        """Each place a group of bars, with its limit across them."""
        width = .8 / len(self.rows)
        for i in range(len(self.places)):
            for j, row in enumerate(self.rows):
                value = row.values[i]
                if value is None:
                    continue
                left = self.x(i - .4 + j * width)
                bar = self.x(i - .4 + (j + 1) * width) - left - 2
                ElementTree.SubElement(self.root, 'rect', {
                    'x': f'{left:.1f}', 'y': f'{self.y(value.median):.1f}', 'width': f'{bar:.1f}',
                    'height': f'{self.y(0) - self.y(value.median):.1f}', 'fill': row.colour})
                self.spread(left + bar / 2, value, INK)
                self.text(left + bar / 2, self.y(value.greatest) - 5, label(value.median),
                          font_size='11')
        for i, limit in enumerate(self.limits):
            if limit is not None:
                self.line(self.x(i - .43), self.y(limit), self.x(i + .43), self.y(limit), LIMIT,
                          stroke_width='2')

    def draw_lines(self) -> None:
        """Each row a line from place to place."""
        labels: list[tuple[float, float]] = []
        for row in self.rows:
            points = [(self.x(i), value) for i, value in enumerate(row.values) if value]
            ElementTree.SubElement(self.root, 'polyline', {
                'points': ' '.join(f'{x:.1f},{self.y(value.median):.1f}' for x, value in points),
                'fill': 'none', 'stroke': row.colour, 'stroke-width': '2',
                'stroke-dasharray': row.dashes or 'none'})
            for x, value in points if row.marks else ():
                y = self.y(value.median)
                self.spread(x, value, row.colour)
                ElementTree.SubElement(self.root, 'circle', {
                    'cx': f'{x:.1f}', 'cy': f'{y:.1f}', 'r': '3.5', 'fill': row.colour})
                # Beside the point; one that would cover another is left out.
                if all(place != x or abs(height - y) > LABEL for place, height in labels):
                    labels.append((x, y))
                    self.text(x + 7, y - 5, label(value.median), 'start', font_size='11')


def nice_step(greatest: float) -> float:
    """Between the lines of a grid of about five: 1, 2 or 5 times a power of ten."""
    power = 10 ** math.floor(math.log10(greatest / 5))
    return next(step * power for step in (1, 2, 5, 10) if step * power * 5.5 >= greatest)


def label(value: float) -> str:
    """Three digits."""
    return f'{value:.0f}' if value >= 100 else f'{value:.3g}'
