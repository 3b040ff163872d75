# SPDX-License-Identifier: BSD-3-Clause
"""The figures as a table for a person."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from bench_suite.figures import Figure, Series

COLUMNS = ('figure', 'ours', 'spread', 'baseline', '', 'ratio', 'limit', '')
LEFT = {0, 3, 6, 7}  # the others are numbers


def number(value: float) -> str:
    """Three or more digits, without more than three behind the point."""
    if value == 0:
        return '0'
    digits = 0 if abs(value) >= 1000 else 1 if abs(value) >= 10 else 2 if abs(value) >= 1 else 3
    return f'{value:.{digits}f}'


def spread(series: Series) -> str:
    """From the least round to the greatest."""
    least, greatest = number(min(series.rounds)), number(max(series.rounds))
    return least if least == greatest else f'{least}–{greatest}'


def verdict(figure: Figure) -> str:
    """Whether the limit holds."""
    if figure.limit is None:
        return ''
    return {True: 'holds', False: 'DOES NOT HOLD', None: 'not known'}[figure.holds]


def rows(figure: Figure) -> Iterator[tuple[str, ...]]:
    """A row for each baseline."""
    reason = figure.failed and f'FAILED: {figure.failed}' or figure.unavailable
    if figure.ours is None:
        yield (figure.name, '-', reason)
        return
    ours = (figure.name, f'{number(figure.ours.median)} {figure.unit}', spread(figure.ours))
    limit = (figure.limit.text() if figure.limit else '', verdict(figure))
    # What only limits are made of says nothing where there is none.
    shown = [name for name in figure.baselines if figure.limit or name not in figure.others]
    if not shown:
        yield (*ours, '', '', '', *limit)
    for name in shown:
        series = figure.baselines[name]
        ratio = figure.ratio(name)
        yield (*ours, name, number(series.median), f'{ratio:.2f}' if ratio else '-', *limit)
        ours, limit = ('', '', ''), ('', '')
    if figure.note:
        yield (f'    {figure.note}',)


def render(figures: Iterable[Figure]) -> str:
    """The whole table, group by group."""
    lines: list[tuple[str, ...]] = []
    for figure in figures:
        if not lines or group != figure.group:
            group = figure.group
            lines += [(), (group.upper(),)]
        lines += rows(figure)
    full = [line for line in lines if len(line) == len(COLUMNS)] + [COLUMNS]
    widths = [max(len(line[i]) for line in full) for i in range(len(COLUMNS))]

    def aligned(line: tuple[str, ...]) -> str:
        cells = [cell.ljust(width) if i in LEFT or len(line) < len(COLUMNS) else cell.rjust(width)
                 for i, (cell, width) in enumerate(zip(line, widths))]
        if len(line) < len(COLUMNS):
            cells[len(line) - 1:] = [line[-1]] if line else []
        return '  '.join(cells).rstrip()

    return '\n'.join(aligned(line) for line in [COLUMNS, *lines])
