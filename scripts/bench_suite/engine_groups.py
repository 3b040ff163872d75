# SPDX-License-Identifier: BSD-3-Clause
"""What SVQ's own code costs: svq-bench engine, in instructions and in time."""

from __future__ import annotations

from collections.abc import Iterator

from bench_suite.figures import Limit
from bench_suite.measure import EARLIER, Measurement, Spec
from bench_suite.programs import Run
from bench_suite.suite import (BURST, PAIRS, RANGES, SAME, Suite, Variants, compared,
                               descriptors_text, title)

# Instructions of a buffer: descriptors, then (guest, shadow).
LIMITS: dict[int, dict] = {
    1: {('split', 'split'): 190, ('packed', 'packed'): 250, 'mixed': 240},
    3: {('split', 'split'): 400, ('packed', 'packed'): 460, 'mixed': 440},
}
LIMIT_BURST_1 = 420
LIMIT_DIRTY_LOG = 45    # more, for 2 KiB written
LIMIT_IN_ORDER = 0.8    # times what it takes without
LIMIT_RANGES = 1.3      # times what 8 ranges take


def engine_arguments(suite: Suite, guest: str, shadow: str, *more: str, buffers: int, burst: int,
                     descriptors: int = 1, ranges: int = RANGES) -> tuple[str, ...]:
    """Of mode engine; a whole number of bursts."""
    buffers = suite.scaled(buffers) // burst * burst
    return ('engine', '--json', '--guest', guest, '--shadow', shadow, '--burst', str(burst),
            '--descriptors', str(descriptors), '--ranges', str(ranges),
            '--buffers', str(buffers), *more)


# --- instructions ---

def counting(suite: Suite, guest: str, shadow: str, *more: str, burst: int = BURST,
             **setting: int) -> Variants:
    """The same run of each engine, under callgrind."""
    arguments = engine_arguments(suite, guest, shadow, *more, buffers=8192, burst=burst, **setting)
    return {name: Run(program, arguments, callgrind=True, seeded=True)
            for name, program in suite.programs().items()}


def instructions(suite: Suite) -> Iterator[Measurement]:
    """Of a buffer, forwarded and returned."""
    for descriptors, limits in LIMITS.items():
        for guest, shadow in PAIRS:
            yield Measurement(
                counting(suite, guest, shadow, descriptors=descriptors),
                (Spec(title(guest, shadow, descriptors_text(descriptors)), 'instructions',
                      'instructions',
                      Limit(limits.get((guest, shadow), limits['mixed'])),
                      {'guest': guest, 'shadow': shadow, 'descriptors': descriptors,
                       'burst': BURST}),))
    for guest, shadow in PAIRS:
        yield Measurement(
            counting(suite, guest, shadow, burst=1),
            (Spec(title(guest, shadow, 'burst 1'), 'instructions', 'instructions',
                  Limit(LIMIT_BURST_1),
                  {'guest': guest, 'shadow': shadow, 'descriptors': 1, 'burst': 1}),))
    yield from instructions_compared(suite)


def instructions_compared(suite: Suite) -> Iterator[Measurement]:
    """Dirty log, IN_ORDER and many ranges, each beside the same engine without."""
    for guest, shadow in PAIRS:
        written = ('--written', 'all', '--buffer-size', '2048')
        yield compared(counting(suite, guest, shadow, '--dirty-log', *written), 'not logged',
                       counting(suite, guest, shadow, *written), ('naive', EARLIER),
                       Spec(title(guest, shadow, 'dirty log of 2 KiB'), 'instructions',
                            'instructions',
                            Limit(LIMIT_DIRTY_LOG, {'not logged': 1}),
                            {'guest': guest, 'shadow': shadow, 'dirty_log': True}))
    for guest, shadow in SAME:
        yield compared(counting(suite, guest, shadow, '--in-order'), 'any order',
                       counting(suite, guest, shadow), (EARLIER,),
                       Spec(title(guest, shadow, 'in order'), 'instructions', 'instructions',
                            Limit(0, {'any order': LIMIT_IN_ORDER}),
                            {'guest': guest, 'shadow': shadow, 'in_order': True}))
    for guest, shadow in SAME:
        yield compared(counting(suite, guest, shadow, ranges=1024), '8 ranges',
                       counting(suite, guest, shadow), ('naive', EARLIER),
                       Spec(title(guest, shadow, '1024 ranges'), 'instructions', 'instructions',
                            Limit(0, {'8 ranges': LIMIT_RANGES}),
                            {'guest': guest, 'shadow': shadow, 'ranges': 1024}))


# --- time ---

def timed(suite: Suite, guest: str, shadow: str, *more: str, burst: int = BURST,
          **setting: int) -> Variants:
    """The same run of each engine, on one CPU, without system calls."""
    arguments = engine_arguments(suite, guest, shadow, '--notify', 'off', *more, buffers=400_000,
                                 burst=burst, **setting)
    return {name: Run(program, arguments, cpu=suite.cpus[-1])
            for name, program in suite.programs().items()}


def time(suite: Suite) -> Iterator[Measurement]:
    """Nanoseconds of a buffer on one CPU."""
    for descriptors in LIMITS:
        for guest, shadow in PAIRS:
            yield timed_point(suite, guest, shadow, descriptors_text(descriptors),
                              {'burst': BURST, 'ranges': RANGES, 'descriptors': descriptors})
    for guest, shadow in SAME:
        for burst in (1, 8, 64):
            yield timed_point(suite, guest, shadow, f'burst {burst}',
                              {'burst': burst, 'ranges': RANGES, 'descriptors': 1})
        for ranges in (1, 64):
            yield timed_point(suite, guest, shadow, f'{ranges} ranges' if ranges > 1 else '1 range',
                              {'burst': BURST, 'ranges': ranges, 'descriptors': 1})
        yield compared(timed(suite, guest, shadow, ranges=1024), '8 ranges',
                       timed(suite, guest, shadow), ('naive', EARLIER),
                       Spec(title(guest, shadow, '1024 ranges'), 'ns', 'ns_per_buffer',
                            Limit(0, {'8 ranges': LIMIT_RANGES}),
                            {'guest': guest, 'shadow': shadow, 'burst': BURST, 'ranges': 1024,
                             'descriptors': 1}))


def timed_point(suite: Suite, guest: str, shadow: str, what: str, point: dict) -> Measurement:
    """A point of the plots."""
    return Measurement(timed(suite, guest, shadow, **point),
                       (Spec(title(guest, shadow, what), 'ns', 'ns_per_buffer',
                             point={'guest': guest, 'shadow': shadow, **point}),))
