# SPDX-License-Identifier: BSD-3-Clause
"""What many queues cost, and what testpmd says of svqd: programs other than svq-bench."""

from __future__ import annotations

from collections.abc import Iterator

from pathlib import Path

from bench_suite.figures import Figure, Limit, Series
from bench_suite.measure import OURS, Measured, Measurement, Spec
from bench_suite.programs import Run, Unavailable, run_json
from bench_suite.suite import SAME, Suite, title

LIMIT_IDLE_PERCENT = 1.0            # of a CPU, 1,024 queues
LIMIT_IDLE_ONE_PERCENT = 0.1        # of a CPU, one queue
LIMIT_QUEUE_BYTES = 64 << 10        # besides rings
LIMIT_RESTART_MS = 100.0            # 256 queues

TESTPMD_BENCH = Path(__file__).resolve().parents[2] / 'tests/bench/testpmd-bench'
TESTPMD_TIMEOUT_S = 400


def queues_bench(suite: Suite, form: str, queues: int) -> Run:
    """Idle for some seconds, then stopped and started once."""
    packed = ('--guest-packed', '--shadow-packed') if form == 'packed' else ()
    return Run(suite.build / 'tests/bench/queues-bench',
               ('--queues', str(queues), '--restarts', str(min(queues, 256)), '--rounds', '1',
                '--seconds', str(suite.scaled(2000) / 1000), *packed))


def idle(suite: Suite) -> Iterator[Measurement]:
    """Queues that have nothing to do, and the time to stop and start some."""
    for form, _ in SAME:
        point = {'guest': form, 'shadow': form}
        yield Measurement(
            {OURS: queues_bench(suite, form, 1024)},
            (Spec(title(form, form, '1024 idle queues'), '% of a CPU', 'idle_cpu_percent',
                  Limit(LIMIT_IDLE_PERCENT), point),
             Spec(title(form, form, 'memory of a queue'), 'bytes', 'bytes_per_queue',
                  Limit(LIMIT_QUEUE_BYTES), point),
             Spec(title(form, form, 'stop and start of 256'), 'ms', 'stop_ms+start_ms',
                  Limit(LIMIT_RESTART_MS), point)))
    yield Measurement({OURS: queues_bench(suite, 'split', 1)},
                      (Spec('one idle queue', '% of a CPU', 'idle_cpu_percent',
                            Limit(LIMIT_IDLE_ONE_PERCENT)),))


def testpmd(suite: Suite) -> Iterator[Measured]:
    """Packets a second between two testpmds, through svqd and direct."""
    if not TESTPMD_BENCH.exists():
        raise Unavailable(f'{TESTPMD_BENCH.name} is not there')
    report = run_json([str(TESTPMD_BENCH), '--json', '--build', str(suite.build), '--rounds',
                       str(suite.rounds), *(['--quick'] if suite.quick else [])],
                      TESTPMD_TIMEOUT_S)
    for found in report['combinations']:
        guest = found['guest'] + (' in order' if found['guest_in_order'] else '')
        shares = found['cpu_split']['through']
        yield Measured([Figure(
            'testpmd', title(guest, found['shadow']), 'Mpps',
            {'guest': guest, 'shadow': found['shadow']},
            Limit(0, {'direct': found['limit']}, at_least=True) if found['limit'] else None,
            Series.of_spread(found['through_mpps']),
            {'direct': Series.of_spread(found['direct_mpps'])},
            note='of a CPU: ' + ', '.join(f'{name} {share["cpu"]:.2f}'
                                          for name, share in shares.items()))])
