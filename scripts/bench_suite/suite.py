# SPDX-License-Identifier: BSD-3-Clause
"""What the command line says of a run of the suite, and words that all groups use."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from bench_suite.measure import EARLIER, OURS, Measurement, Spec
from bench_suite.programs import Run, Unavailable

Variants = dict[str, Run]

FORMATS = ('split', 'packed')
PAIRS = tuple((guest, shadow) for guest in FORMATS for shadow in FORMATS)
SAME = tuple((form, form) for form in FORMATS)
BURST = 32
RANGES = 8


@dataclass(frozen=True)
class Suite:
    """What the command line says."""
    build: Path
    baseline: Path | None       # an earlier build
    cpus: list[int]             # best first
    rounds: int
    quick: bool

    def programs(self) -> dict[str, Path]:
        """svq-bench of each engine."""
        programs = {OURS: self.build / 'svq-bench',
                    'naive': self.build / 'tests/bench/svq-bench-naive'}
        if self.baseline:
            programs[EARLIER] = self.baseline / 'svq-bench'
        return programs

    def scaled(self, amount: int) -> int:
        """Buffers or milliseconds; few of them in a quick run."""
        return max(1, amount // 10) if self.quick else amount

    def two_cpus(self) -> str:
        """Of a thread and its peer."""
        if len(self.cpus) < 2:
            raise Unavailable('there is one CPU')
        return f'{self.cpus[0]}:{self.cpus[1]}'

    def machine_run(self) -> Run:
        """What the two CPUs can do."""
        return Run(self.programs()[OURS], ('machine', '--json', '--cpus', self.two_cpus()))


def title(guest: str, shadow: str, *more: str) -> str:
    """The name of a figure."""
    return ', '.join([f'{guest} → {shadow}', *more])


def descriptors_text(descriptors: int) -> str:
    """1 descriptor, 3 descriptors."""
    return f'{descriptors} descriptor{"s" if descriptors > 1 else ""}'


def compared(variants: Variants, name: str, plain: Variants, others: tuple[str, ...],
             spec: Spec) -> Measurement:
    """Ours beside our own plain run, called `name`, and beside some other engines."""
    chosen = {OURS: variants[OURS], name: plain[OURS]}
    chosen.update({other: variants[other] for other in others if other in variants})
    return Measurement(chosen, (spec,))
