# SPDX-License-Identifier: BSD-3-Clause
"""Figures: what was measured round by round, beside its baselines and its limit."""

from __future__ import annotations

import statistics
from dataclasses import dataclass, field

FORMAT = 1  # of the JSON


@dataclass(frozen=True)
class Limit:
    """What the median may be: `value`, and of each baseline in `of` so many times its median."""
    value: float
    of: dict[str, float] = field(default_factory=dict)
    at_least: bool = False  # not at most

    def bound(self, baselines: dict[str, Series]) -> float | None:
        """The number that the median is compared with, if what it is made of was measured."""
        if any(name not in baselines for name in self.of):
            return None
        return self.value + sum(times * baselines[name].median for name, times in self.of.items())

    def holds(self, median: float, baselines: dict[str, Series]) -> bool | None:
        """Whether it does; None: nobody knows."""
        bound = self.bound(baselines)
        if bound is None:
            return None
        return median >= bound if self.at_least else median <= bound

    def text(self) -> str:
        """For a person."""
        terms = [name if times == 1 else f'{times:g} × {name}' for name, times in self.of.items()]
        if self.value or not terms:
            terms.append(f'{self.value:g}')
        return f'{"≥" if self.at_least else "≤"} {" + ".join(terms)}'


@dataclass(frozen=True)
class Series:
    """One number, measured several times."""
    rounds: tuple[float, ...]

    @property
    def median(self) -> float:
        """The middle of the rounds."""
        return statistics.median(self.rounds)

    @classmethod
    def of_spread(cls, spread: dict) -> Series:
        """Of a program that keeps its rounds for itself."""
        return cls((spread['min'], spread['median'], spread['max']))

    def to_json(self) -> dict:
        """With the spread."""
        return {'median': self.median, 'min': min(self.rounds), 'max': max(self.rounds),
                'rounds': list(self.rounds)}


@dataclass
class Figure:
    """One row of the table."""
    group: str
    name: str
    unit: str
    point: dict[str, object]  # what was set: a plot finds its points by it
    limit: Limit | None = None
    ours: Series | None = None
    baselines: dict[str, Series] = field(default_factory=dict)
    others: frozenset[str] = frozenset()    # baselines that only a limit is made of
    note: str = ''
    unavailable: str = ''  # why there is no figure: something is missing on this machine
    failed: str = ''       # why there is none: something went wrong

    @property
    def holds(self) -> bool | None:
        """Whether the limit does; None: there is none, or nobody knows."""
        if self.limit is None or self.ours is None:
            return None
        return self.limit.holds(self.ours.median, self.baselines)

    def ratio(self, baseline: str) -> float | None:
        """Ours by the baseline's, medians."""
        other = self.baselines[baseline].median
        if self.ours is None or not other or baseline in self.others:
            return None
        return self.ours.median / other

    def to_json(self) -> dict:
        """Null where there is nothing."""
        limit = None
        if self.limit is not None:
            limit = {'value': self.limit.value, 'of': self.limit.of,
                     'at_least': self.limit.at_least,
                     'bound': self.limit.bound(self.baselines), 'text': self.limit.text()}
        return {
            'group': self.group, 'name': self.name, 'unit': self.unit, 'point': self.point,
            'ours': self.ours.to_json() if self.ours else None,
            'baselines': {name: series.to_json() | {'ratio': self.ratio(name)}
                          for name, series in self.baselines.items()},
            'limit': limit, 'holds': self.holds, 'note': self.note or None,
            'unavailable': self.unavailable or None, 'failed': self.failed or None,
        }
