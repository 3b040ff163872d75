# SPDX-License-Identifier: BSD-3-Clause
"""The plots that scripts/bench-plots makes of results.json, by the names of their files."""

from __future__ import annotations

from collections.abc import Callable

from bench_suite.suite import FORMATS, PAIRS
from bench_suite.svg import BLUE, GREEN, ORANGE, Chart, Row, Value

PLACES = [f'{guest} → {shadow}' for guest, shadow in PAIRS]
BURSTS = (1, 8, 32, 64)
RANGES = (1, 8, 64, 1024)
COLOURS = {'ours': BLUE, 'naive': ORANGE, 'direct': GREEN, 'split': BLUE, 'packed': ORANGE}
DASHES = {'split': '', 'packed': '7 3'}


class Results:
    """results.json, to be asked for points."""

    def __init__(self, results: dict):
        self.results = results

    def foot(self) -> tuple[str, str]:
        """Where the figures come from."""
        where = self.results['machine']
        return (f'{where["cpu"]}, {where["cpus"]} CPUs; {where["compiler"]}; {where["commit"]}',
                f'Medians of {self.results["rounds"]} rounds; thin lines go from the least round '
                'to the greatest.')

    def figure(self, group: str, **point: object) -> dict | None:
        """The figure that was measured there."""
        for figure in self.results['figures']:
            if (figure['group'] == group and figure['ours'] and
                    all(figure['point'].get(name) == value for name, value in point.items())):
                return figure
        return None

    def value(self, row: str, group: str, **point: object) -> Value | None:
        """Ours, or a baseline's."""
        figure = self.figure(group, **point)
        series = figure and (figure['ours'] if row == 'ours' else figure['baselines'].get(row))
        return Value(series['median'], series['min'], series['max']) if series else None

    def limit(self, group: str, **point: object) -> float | None:
        """What the figure may be."""
        figure = self.figure(group, **point)
        return figure['limit']['bound'] if figure and figure['limit'] else None


def by_pair(results: Results, title: str, unit: str, rows: tuple[str, ...], group: str,
            **point: object) -> Chart:
    """Bars for each pair of formats."""
    pairs = [{'guest': guest, 'shadow': shadow, **point} for guest, shadow in PAIRS]
    return Chart(title, unit, PLACES,
                 [Row(row, [results.value(row, group, **pair) for pair in pairs], COLOURS[row])
                  for row in rows],
                 True, [results.limit(group, **pair) for pair in pairs],
                 what='guest’s ring → shadow ring', foot=results.foot())


def over(results: Results, title: str, what: str, name: str, numbers: tuple[int, ...],
         **point: object) -> Chart:
    """Time on one CPU over something that was varied, of either format and both engines."""
    rows = [Row(f'{form}, {row}',
                [results.value(row, 'time', guest=form, shadow=form, descriptors=1,
                               **{name: number}, **point) for number in numbers],
                COLOURS[row], DASHES[form])
            for row in ('ours', 'naive') for form in FORMATS]
    return Chart(title, 'ns a buffer', [str(number) for number in numbers], rows, what=what,
                 foot=results.foot())


def linear(one: Value | None, times: int) -> Value | None:
    """What so many would do if none were in the way of another."""
    return Value(one.median * times, one.median * times, one.median * times) if one else None


def queues(results: Results) -> Chart:
    """Rate over queues."""
    numbers = [n for n in (1, 2, 4, 8, 16)
               if results.figure('queues', guest='split', queues=n)]
    rows = [Row(form, [results.value('ours', 'queues', guest=form, queues=n) for n in numbers],
                COLOURS[form])
            for form in FORMATS]
    rows += [Row(f'{row.name}, linear', [linear(row.values[0], n) for n in numbers], row.colour,
                 '2 4', False) for row in rows if numbers]
    return Chart('Several queues, each with a CPU of its own', 'million buffers a second',
                 [str(n) for n in numbers], rows, what='queues', foot=results.foot())


PLOTS: dict[str, Callable[[Results], Chart]] = {
    'instructions-1': lambda results: by_pair(
        results, 'Instructions of a buffer of 1 descriptor, burst 32', 'instructions',
        ('ours', 'naive'), 'instructions', descriptors=1, burst=32),
    'instructions-3': lambda results: by_pair(
        results, 'Instructions of a buffer of 3 descriptors, burst 32', 'instructions',
        ('ours', 'naive'), 'instructions', descriptors=3, burst=32),
    'burst': lambda results: over(results, 'Time of a buffer over the length of a burst',
                                  'buffers in a burst', 'burst', BURSTS, ranges=8),
    'ranges': lambda results: over(results, 'Time of a buffer over the ranges of guest memory',
                                   'memory ranges', 'ranges', RANGES, burst=32),
    'two-cores': lambda results: by_pair(
        results, 'Driver and device on one CPU, SVQ on another', 'ns a buffer',
        ('ours', 'direct', 'naive'), 'two-cores', descriptors=1),
    'latency': lambda results: by_pair(
        results, 'Round trip of one buffer, polling: median', 'ns', ('ours', 'direct', 'naive'),
        'latency', percentile='p50'),
    'queues': lambda results: queues(results),
}
