# SPDX-License-Identifier: BSD-3-Clause
"""What SVQ costs between threads that are pinned to CPUs: svq-bench threads, direct and machine."""

from __future__ import annotations

from collections.abc import Iterator

from bench_suite.figures import Limit
from bench_suite.measure import EARLIER, OURS, Measurement, Spec
from bench_suite.programs import Run
from bench_suite.suite import (BURST, PAIRS, SAME, Suite, Variants, compared, descriptors_text,
                               title)

LIMIT_TWO_CORES = 2.0   # times driver straight to device
LIMIT_LATENCY_NS = 200  # more than direct and two round trips of a cache line
LIMIT_WAKEUPS = 2.01    # more than direct: one each way, and one at the start of a run
LIMIT_FLOOD = 5.0       # times the p99 without a flood
LIMIT_SCALING = 0.9     # times as many queues as one

# An IOThread polls as long as anything happens at all.
POLLING = ('--wait', 'poll', '--poll-max-ns', '10000000')
SLEEPING = ('--wait', 'sleep', '--poll-max-ns', '0')


def threads(suite: Suite, guest: str, shadow: str, *more: str, cpus: str = '') -> Variants:
    """Each engine in an IOThread, its driver and device in a thread on another CPU."""
    arguments = ('threads', '--json', '--guest', guest, '--shadow', shadow,
                 '--cpus', cpus or suite.two_cpus(), '--duration', str(suite.scaled(300) / 1000),
                 *more)
    return {name: Run(program, arguments) for name, program in suite.programs().items()}


def direct(suite: Suite, form: str, *more: str) -> Run:
    """A driver and a device on two CPUs, without SVQ."""
    return Run(suite.programs()[OURS],
               ('direct', '--json', '--format', form, '--cpus', suite.two_cpus(),
                '--duration', str(suite.scaled(300) / 1000), *more))


def two_cores(suite: Suite) -> Iterator[Measurement]:
    """Nanoseconds of a buffer: driver and device on one CPU, SVQ on another."""
    for descriptors in (1, 3):
        more = ('--burst', str(BURST), '--descriptors', str(descriptors))
        for guest, shadow in PAIRS:
            limit = Limit(0, {'direct': LIMIT_TWO_CORES})
            runs = threads(suite, guest, shadow, *more, *POLLING)
            yield Measurement(
                {OURS: runs.pop(OURS), 'direct': direct(suite, guest, *more, '--wait', 'poll'),
                 **runs},
                (Spec(title(guest, shadow, descriptors_text(descriptors)), 'ns', 'ns_per_buffer',
                      limit if guest == shadow and descriptors == 1 else None,
                      {'guest': guest, 'shadow': shadow, 'descriptors': descriptors}),))


def latency(suite: Suite) -> Iterator[Measurement]:
    """Round trips of one buffer at a time."""
    limit = Limit(LIMIT_LATENCY_NS, {'direct': 1, 'cache line': 2})
    for guest, shadow in PAIRS:
        point = {'guest': guest, 'shadow': shadow}
        runs = threads(suite, guest, shadow, '--ping-pong', *POLLING)
        yield Measurement(
            {OURS: runs.pop(OURS), 'direct': direct(suite, guest, '--ping-pong', '--wait', 'poll'),
             'cache line': suite.machine_run(), **runs},
            tuple(Spec(title(guest, shadow, f'polling, {name}'), 'ns', f'latency.{name}_ns',
                       limit if name == 'p50' else None, point | {'percentile': name},
                       metrics={'cache line': 'line_round_trip_ns'})
                  for name in ('p50', 'p99')))
    for form, _ in SAME:
        point = {'guest': form, 'shadow': form}
        yield Measurement(
            {OURS: threads(suite, form, form, '--ping-pong', *SLEEPING)[OURS],
             'direct': direct(suite, form, '--ping-pong', '--wait', 'sleep')},
            (Spec(title(form, form, 'sleeping, wake-ups'), 'a round trip',
                  'wakeups_per_round_trip',
                  Limit(LIMIT_WAKEUPS, {'direct': 1}), point),
             Spec(title(form, form, 'sleeping, p50'), 'ns', 'latency.p50_ns', None, point)))


def flood(suite: Suite) -> Iterator[Measurement]:
    """Round trips while another queue of the same IOThread is flooded."""
    for form, _ in SAME:
        ping_pong = ('--ping-pong', *POLLING)
        flooded = threads(suite, form, form, *ping_pong, '--flood')
        names = ('p50', 'p99')
        yield Measurement(
            {OURS: flooded[OURS],
             'alone': threads(suite, form, form, *ping_pong)[OURS],
             'flood without SVQ': threads(suite, form, form, *ping_pong, '--flood-apart')[OURS]},
            tuple(Spec(title(form, form, name), 'ns', f'latency.{name}_ns',
                       Limit(0, {'alone': LIMIT_FLOOD}) if name == 'p99' else None,
                       {'guest': form, 'shadow': form, 'percentile': name}) for name in names))


def queues(suite: Suite) -> Iterator[Measurement]:
    """Buffers a second of several queues, each with a CPU of its own for its two threads."""
    for form, _ in SAME:
        runs = {n: threads(suite, form, form, '--queues', str(n), '--burst', str(BURST),
                           cpus=','.join(str(cpu) for cpu in suite.cpus[:n]))
                for n in (1, 2, 4, 8, 16) if n <= len(suite.cpus)}
        for n, variants in runs.items():
            spec = Spec(title(form, form, f'{n} queue{"s" if n > 1 else ""}'), 'Mpps', 'mpps',
                        Limit(0, {'linear': LIMIT_SCALING}, at_least=True) if n > 1 else None,
                        {'guest': form, 'shadow': form, 'queues': n}, scales={'linear': n})
            if n == 1:
                chosen = {name: run for name, run in variants.items() if name in (OURS, EARLIER)}
                yield Measurement(chosen, (spec,))
            else:
                yield compared(variants, 'linear', runs[1], (EARLIER,), spec)


def machine(suite: Suite) -> Iterator[Measurement]:
    """What this machine can do, whatever runs on it."""
    names = {'line_round_trip_ns': 'round trip of a cache line',
             'eventfd_write_ns': 'eventfd write', 'eventfd_read_ns': 'eventfd read',
             'null_syscall_ns': 'null system call',
             'wakeup_ns': 'wake-up of a sleeping thread'}
    yield Measurement({OURS: suite.machine_run()},
                      tuple(Spec(name, 'ns', metric, point={'machine': metric})
                            for metric, name in names.items()))
