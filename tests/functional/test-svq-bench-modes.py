#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""svq-bench's own modes: driver and device straight on a ring, ping-pong, a flood, the machine.

How it works: each runs for a number of buffers, so whatever is counted has an exact number or a bound.
No time is judged: those depend on what else the machine does.  A thread that sleeps wakes only when it
is notified, and for each buffer there is one notification a hop at most: two hops if driver and
device share the ring, four with a shadow virtqueue between them.  So each thread is woken once in a
round trip, or twice: there and back.
"""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys

import tap
from svqd import BUILD
from tap import check

RUN_TIMEOUT_S = 60
FORMATS = ('split', 'packed')
ROUND_TRIPS = 2_000
BUFFERS = 20_000
# Before the first buffer and after the last: a thread that ends another's sleep, say.
OTHER_WAKEUPS = 8


def start(*options: str) -> subprocess.CompletedProcess:
    """svq-bench, from start to end."""
    return subprocess.run([BUILD / 'svq-bench', *options], stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                          timeout=RUN_TIMEOUT_S, check=False)


def run(*options: str) -> dict:
    """What it counted, which includes no error."""
    bench = start(*options, '--json')
    check(bench.returncode == 0, f'status {bench.returncode}\n{bench.stdout}{bench.stderr}')
    report = json.loads(bench.stdout)
    if report['mode'] != 'machine':
        check(report['errors'] == 0, bench.stdout)
        # Where they are counted: under a sanitizer they are not.
        check(report['allocations'] in (0, None), bench.stdout)
    return report


def direct_bursts(form: str, *options: str) -> str:
    """Test case: every buffer passes, in bursts."""
    report = run('direct', '--format', form, '--buffers', str(BUFFERS), *options)
    check(report['mode'] == 'direct' and report['format'] == form, f'{report}')
    check(report['buffers'] == BUFFERS, f'{report["buffers"]} of {BUFFERS} buffers')
    check('latency' not in report, 'round trips of bursts')
    return f'{report["ns_per_buffer"]:.0f} ns a buffer'


def shadowed_bursts(form: str, *options: str) -> str:
    """Test case: the same through a shadow virtqueue, the last burst being a part of one."""
    report = run('threads', '--guest', form, '--shadow', form, '--buffers', str(BUFFERS), *options)
    check(report['buffers'] == BUFFERS, f'{report["buffers"]} of {BUFFERS} buffers')
    return f'{report["ns_per_buffer"]:.0f} ns a buffer'


def check_latency(report: dict) -> str:
    """There is one time for each buffer, and they are in order."""
    latency = report['latency']
    check(report['queues'][0]['buffers'] == ROUND_TRIPS, f'{report["queues"][0]}')
    check(latency['n'] == ROUND_TRIPS, f'{latency}')
    check(0 < latency['p50_ns'] <= latency['p90_ns'] <= latency['p99_ns'] <= latency['max_ns'],
          f'{latency}')
    # No percentile is above what the driver's thread took in all.
    check(latency['max_ns'] <= report['queues'][0]['ns'], f'{latency} of {report["ns"]} ns')
    check(latency['p50_ns'] * ROUND_TRIPS / 2 <= 1.02 * report['queues'][0]['ns'],
          f'{latency} of {report["ns"]} ns')
    return f'p50 {latency["p50_ns"]} ns, p99 {latency["p99_ns"]} ns'


def ping_pong(mode: str, form: str, wait: str) -> str:
    """Test case: one buffer at a time; who slept was woken as often as there are hops, at most."""
    if mode == 'direct':
        threads, hops, rings = {'driver', 'device'}, 2, ['--format', form]
    else:
        threads, hops, rings = {'peer', 'iothread'}, 4, ['--guest', form, '--shadow', form]
    report = run(mode, *rings, '--ping-pong', '--wait', wait, '--buffers', str(ROUND_TRIPS))
    words = check_latency(report)
    wakeups = report['wakeups']
    check(wakeups.keys() == threads, f'{wakeups}')
    rate = report['wakeups_per_round_trip']
    check(abs(rate - sum(wakeups.values()) / ROUND_TRIPS) < 1e-6, f'{rate}: {wakeups}')
    if wait == 'poll':
        check(sum(wakeups[name] for name in threads - {'iothread'}) == 0, f'{wakeups}')
    else:
        check(sum(wakeups.values()) > 0, f'{wakeups}')
        for count in wakeups.values():
            check(count <= hops // 2 * ROUND_TRIPS + OTHER_WAKEUPS, f'{wakeups}')
    return f'{words}, {rate:.2f} wake-ups a round trip'


def flood(option: str) -> str:
    """Test case: a second queue is flooded meanwhile, in full bursts, and loses nothing either."""
    report = run('threads', '--ping-pong', option, '--wait', 'poll', '--burst', '32',
                 '--poll-max-ns', '1000000', '--buffers', str(ROUND_TRIPS))
    words = check_latency(report)
    check(len(report['queues']) == 2, f'{report["queues"]}')
    flooded = report['queues'][1]
    check(flooded['errors'] == 0 and flooded['buffers'] > 0, f'{flooded}')
    check(flooded['buffers'] % 32 == 0, f'{flooded["buffers"]} are no full bursts')
    # Only one that is in the IOThread has bursts of SVQ.
    check(('bursts' in flooded) == (option == '--flood'), f'{flooded}')
    return f'{words}; flood {flooded["mpps"]:.1f} Mpps'


def machine() -> str:
    """Test case: whatever the machine can do takes some time."""
    cpus = sorted(os.sched_getaffinity(0))
    if len(cpus) < 2:
        raise tap.Skip('one CPU only')
    report = run('machine', '--cpus', f'{cpus[0]}:{cpus[1]}')
    check(report['cpus'] == cpus[:2], f'{report}')
    times = {name: value for name, value in report.items() if name.endswith('_ns')}
    check(times.keys() == {'line_round_trip_ns', 'eventfd_write_ns', 'eventfd_read_ns',
                           'null_syscall_ns', 'clock_ns', 'wakeup_ns'}, f'{times}')
    check(all(value > 0 for value in times.values()), f'{times}')
    return ', '.join(f'{name} {value:.0f}' for name, value in times.items())


def tables() -> str:
    """Test case: what JSON tells is told in words, too."""
    for options, expected in (
            (('direct', '--ping-pong'), 'round trips: 1000'),
            (('threads', '--ping-pong'), 'round trips: 1000'),
            (('direct', '--format', 'packed'), 'direct, packed ring')):
        bench = start(*options, '--buffers', '1000')
        check(bench.returncode == 0 and expected in bench.stdout, f'{bench.stdout}{bench.stderr}')
    return ''


WRONG = {
    'threads --flood --wait poll': '--flood needs --ping-pong',
    'threads --flood-apart --wait poll': '--flood needs --ping-pong',
    'threads --ping-pong --flood': '--flood needs --wait poll',
    'threads --ping-pong --flood --flood-apart --wait poll': 'one of them',
    'threads --ping-pong --queues 2': '--queues',
    'threads --ping-pong --scaling --queues 2': '--scaling',
    'direct --queues 2': 'nknown option',
    'direct --guest packed': 'nknown option',
    'direct --flood': 'nknown option',
    'direct --cpus 0:x': '--cpus',
    'direct --format neither': '--format',
    'direct --format split --queue-size 100': '--queue-size',
    'engine --ping-pong': 'nknown option',
    'machine --cpus 0': 'two different CPUs',
    'machine --burst 1': 'nknown option',
}


def refuses(options: str, expected: str) -> str:
    """Test case: one line says what is wrong."""
    bench = start(*options.split())
    check(bench.returncode == 1 and not bench.stdout, f'{bench.returncode}: {bench.stdout}')
    check(bench.stderr.count('\n') == 1 and expected in bench.stderr, bench.stderr)
    return bench.stderr.strip()


def main() -> int:
    cases: list[tap.Case] = []
    variants = ((), ('--descriptors', '3'), ('--descriptors', '3', '--indirect'), ('--in-order',),
                ('--event-idx', 'off', '--wait', 'sleep'), ('--burst', '256', '--queue-size', '64'),
                ('--wait', 'poll'))
    for form, options in itertools.product(FORMATS, variants):
        cases.append((f'direct, {form} {" ".join(options)}'.rstrip(),
                      lambda form=form, options=options: direct_bursts(form, *options)))
        cases.append((f'threads, {form} > {form} {" ".join(options)}'.rstrip(),
                      lambda form=form, options=options: shadowed_bursts(form, *options)))
    for mode, form, wait in itertools.product(('direct', 'threads'), FORMATS, ('sleep', 'poll')):
        cases.append((f'ping-pong, {mode}, {form}, {wait}',
                      lambda mode=mode, form=form, wait=wait: ping_pong(mode, form, wait)))
    cases += [(f'ping-pong {option}', lambda option=option: flood(option))
              for option in ('--flood', '--flood-apart')]
    cases += [('machine', machine), ('tables', tables)]
    cases += [(f'refused: {options}',
               lambda options=options, expected=expected: refuses(options, expected))
              for options, expected in WRONG.items()]
    return tap.run(cases)


if __name__ == '__main__':
    sys.exit(main())
