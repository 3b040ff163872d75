# SPDX-License-Identifier: BSD-3-Clause
"""Makes figures of runs: ours and each baseline in turn, round by round.

How it works: what else the machine does disturbs both sides of a comparison alike if they
alternate, so a round is one run of each.  Counts of instructions are not disturbed: those runs are
made in parallel, and each but once however many figures are made of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from bench_suite.figures import Figure, Limit, Series
from bench_suite.programs import Failed, Run, Unavailable

OURS = 'ours'
EARLIER = 'earlier'


def value_of(report: dict, metric: str) -> float:
    """A number in a report, or the sum of some ('stop_ms+start_ms')."""
    if '+' in metric:
        return sum(value_of(report, part) for part in metric.split('+'))
    value: object = report
    for name in metric.split('.'):
        if not isinstance(value, dict) or value.get(name) is None:
            raise Failed(f'no {metric} in the report')
        value = value[name]
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise Failed(f'{metric} is no number')
    return float(value)


@dataclass(frozen=True)
class Spec:
    """A figure to be made of a measurement's reports."""
    name: str
    unit: str
    metric: str  # where it stands in a report, such as 'latency.p99_ns'
    limit: Limit | None = None
    point: dict[str, object] = field(default_factory=dict)
    scales: dict[str, float] = field(default_factory=dict)  # variant: factor, else 1
    metrics: dict[str, str] = field(default_factory=dict)   # variant: instead of `metric`

    def series(self, variant: str, reports: list[dict]) -> Series:
        """Of a variant, round by round."""
        metric = self.metrics.get(variant, self.metric)
        return Series(tuple(value_of(report, metric) * self.scales.get(variant, 1)
                            for report in reports))


@dataclass(frozen=True)
class Measurement:
    """Runs to be compared: OURS and its baselines, by name."""
    variants: dict[str, Run]
    specs: tuple[Spec, ...]

    def matches(self, text: str) -> bool:
        """Whether the name of one of its figures has `text`."""
        return any(text in spec.name for spec in self.specs)


@dataclass(frozen=True)
class Measured:
    """Figures of a program that makes its own rounds and has its own baselines."""
    figures: list[Figure]

    def matches(self, text: str) -> bool:
        """Whether the name of one of its figures has `text`."""
        return any(text in figure.name for figure in self.figures)


class Runner:
    """Runs what a suite measures."""

    def __init__(self, rounds: int, workers: int, progress: Callable[[str], None]):
        self.rounds = rounds
        self.workers = workers
        self.progress = progress
        self.counted: dict[tuple[Run, int], dict | Exception] = {}

    def count(self, measurements: Iterable[Measurement | Measured]) -> None:
        """Make all runs that count instructions."""
        runs = [run for measurement in measurements if isinstance(measurement, Measurement)
                for run in measurement.variants.values() if run.callgrind]
        wanted = dict.fromkeys((run, number) for run in runs for number in range(self.rounds))
        with ThreadPoolExecutor(self.workers) as pool:
            for done, (key, report) in enumerate(zip(wanted, pool.map(self.try_run, wanted)), 1):
                self.counted[key] = report
                self.progress(f'counting instructions: {done} of {len(wanted)} runs')

    @staticmethod
    def try_run(key: tuple[Run, int]) -> dict | Exception:
        """A report, or why there is none."""
        run, number = key
        try:
            return run.report(number)
        except (Unavailable, Failed) as error:
            return error

    def report(self, run: Run, number: int) -> dict:
        """Of one run in one round."""
        report = self.counted.get((run, number)) or self.try_run((run, number))
        if isinstance(report, Exception):
            raise report
        return report

    def reports(self, measurement: Measurement) -> dict[str, list[dict]]:
        """Of all variants; a baseline that cannot run here is left out."""
        reports: dict[str, list[dict]] = {name: [] for name in measurement.variants}
        for number in range(self.rounds):
            for name in list(reports):
                try:
                    reports[name].append(self.report(measurement.variants[name], number))
                except (Unavailable, Failed) as error:
                    # An earlier build may lack options, or have bugs that were found since.
                    if name == OURS or (isinstance(error, Failed) and name != EARLIER):
                        raise
                    del reports[name]
        return reports

    def figures(self, group: str, measurement: Measurement | Measured) -> list[Figure]:
        """Measure, if that is not done."""
        if isinstance(measurement, Measured):
            return measurement.figures
        figures = [Figure(group, spec.name, spec.unit, spec.point, spec.limit,
                          others=frozenset(spec.metrics))
                   for spec in measurement.specs]
        try:
            reports = self.reports(measurement)
            for figure, spec in zip(figures, measurement.specs):
                figure.baselines = {name: spec.series(name, rounds)
                                    for name, rounds in reports.items()}
                figure.ours = figure.baselines.pop(OURS)
        except Unavailable as error:
            for figure in figures:
                figure.unavailable = str(error)
        except Failed as error:
            for figure in figures:
                figure.failed = str(error)
        return figures
