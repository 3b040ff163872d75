#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""A guest behind svqd is migrated live, again and again: no page is wrong and no echo is lost.

How it works: the guest has two queue pairs, rewrites its memory, receives thousands of datagrams
that it does not read, and pings (tests/guest/memwalk.c).  After each migration it walks its memory
and reads the datagrams, of which many were received while the source was being copied: a page that
the device wrote and svqd did not log arrives old, and its datagram is not what was sent.

A short run has svqd's own device behind svqd.  In mode=auto that works the guest's rings itself,
until a migration begins, and again where the guest goes on.  With SVQD_MIGRATIONS=N in the
environment there are N migrations of each kind, and then N more with testpmd behind svqd, in turns
with as many of QEMU with testpmd and no svqd: svqd must not make the guest stand still for longer
than that does.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import os
import re
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import guest_image
import migration
import qemu_guest
import tap
import testpmd
from migration import Migration, MigrationError, MovingGuest
from qmp import QmpError
from svqd import Svqd, SvqdError
from tap import check

SHORT_RUN = 2
MIGRATIONS_PER_GUEST = 5
MIN_RECEIVED = 100
QUEUES_TIMEOUT_S = 10.0
SWITCHED = re.compile(r'net0: (?P<mode>\w+), switched in (?P<us>\d+) us')
MAX_RATIO = 1.2
MAX_BASELINE_GUESTS = 10


def check_queues(guest: MovingGuest) -> None:
    """All queues of svqd are at work, in the guest's format."""
    deadline = time.monotonic() + QUEUES_TIMEOUT_S
    while any(queue.returned == 0 for queue in guest.queue_stats()):
        check(time.monotonic() < deadline, f'not all queues are at work: {guest.queue_stats()}')
    for queue in guest.queue_stats():
        check(queue.state == 'running' and queue.errors == 0, f'not well: {queue}')
        check(queue.guest == ('packed' if guest.packed else 'split'), f'wrong format: {queue}')


def check_passes_through(guest: MovingGuest) -> None:
    """All queues are at work, and none of it is svqd's."""
    for queue in guest.queue_stats():
        check(queue.state == 'running' and queue.errors == 0, f'not well: {queue}')
        check(queue.buffers == 0, f'it does not pass through: {queue}')


def check_switched(svqd: Svqd) -> int:
    """The source has become a shadow, once: after so many microseconds."""
    text = svqd.log.read_text(errors='replace')
    switches = list(SWITCHED.finditer(text))
    check([switch['mode'] for switch in switches] == ['shadow'], f'other switches:\n{text}')
    return int(switches[0]['us'])


def migrate(guest: MovingGuest) -> tuple[Migration, str]:
    """One migration of a guest under full load, and all that there is to check after it.  The fault
    that is returned is testpmd's, without svqd."""
    auto = guest.behind in (migration.AUTO_LOOPBACK, migration.AUTO_TESTPMD)
    guest.wait_loaded()
    source = guest.place
    if auto:
        check_passes_through(guest)
    result = guest.migrate()
    verdict = guest.verify()
    # What testpmd has taken to answer when the receive queues stop it cannot deliver any more.
    may_lose = testpmd.BURST * guest.place.number if guest.place.testpmd else 0
    fault = verdict.fault(may_lose)
    if verdict.datagrams_lost and not fault:
        tap.comment(f'{guest.behind}: testpmd lost {verdict.datagrams_lost} datagrams')
    if guest.place.svqd:
        check(not fault, fault)
        check(result.received >= MIN_RECEIVED,
              f'few datagrams were received during the migration, it shows nothing: {result}')
        if auto and source.svqd:
            result = dataclasses.replace(result, switch_us=check_switched(source.svqd))
            check_passes_through(guest)
        else:
            check_queues(guest)
    return result, fault


def live(behind: str, packed: bool, count: int) -> Iterator[Migration]:
    """One guest from its boot through `count` migrations, fewer if testpmd alone breaks it."""
    with tempfile.TemporaryDirectory(prefix='svqd-migration-') as name:
        directory = Path(name)
        initramfs = migration.write_initramfs(directory / 'initramfs')
        guest = MovingGuest(directory, behind, packed, initramfs)
        try:
            guest.wait_booted()
            for _ in range(count):
                result, fault = migrate(guest)
                yield result
                if fault:
                    tap.comment(f'{behind}: {fault:.120}')
                    return
        except (MigrationError, QmpError, SvqdError, tap.Failure) as error:
            raise tap.Failure(f'{error}\n{guest.place.log_tail()}\n'
                              f'---- console\n{guest.console.tail()}') from error
        finally:
            guest.close()


def baseline(packed: bool, count: int) -> list[Migration]:
    """The same without svqd.  With packed rings DPDK 22.11 alone often loses packets in a move, and
    sometimes a queue for good, and with it half of the load: then another guest goes on."""
    results: list[Migration] = []
    for _ in range(MAX_BASELINE_GUESTS):
        try:
            for result in live(migration.TESTPMD, packed, count - len(results)):
                results.append(result)
        except tap.Failure as error:
            tap.comment(f'{migration.TESTPMD}: {str(error).splitlines()[0]}')
        if len(results) == count:
            return results
    raise tap.Failure(f'testpmd alone loses each guest before {count} migrations')


def summary(who: str, results: list[Migration]) -> str:
    """A line for people."""
    downtime = [result.downtime_ms for result in results]
    gap = [result.gap_ms for result in results]
    received = [result.received for result in results]
    switch_us = [result.switch_us for result in results if result.switch_us is not None]
    return (f'{who}: {len(results)} migrations; downtime {median(downtime)}; seen from outside '
            f'{median(gap)}; datagrams received meanwhile and verified after '
            f'{statistics.median(received):.0f}'
            + (f'; shadowed within {statistics.median(switch_us):.0f} us' if switch_us else ''))


def median(values: list[int] | list[float]) -> str:
    """The median and the extremes."""
    return f'{statistics.median(values):.0f} ms ({min(values):.0f} to {max(values):.0f})'


def migrations(behind: str, packed: bool, count: int) -> str:
    """A test case without a baseline."""
    return summary(behind, list(live(behind, packed, count)))


def migrations_in_turns(packed: bool, count: int) -> str:
    """A test case with svqd and without, in turns."""
    if not shutil.which(testpmd.PROGRAM):
        raise tap.Skip(f'{testpmd.PROGRAM} is missing; scripts/bootstrap check installs it')
    with_svqd: list[Migration] = []
    without: list[Migration] = []
    while len(with_svqd) < count:
        turn = min(MIGRATIONS_PER_GUEST, count - len(with_svqd))
        with_svqd += live(migration.SVQD_TESTPMD, packed, turn)
        without += baseline(packed, turn)
    text = (summary(migration.SVQD_TESTPMD, with_svqd) + '\n'
            + summary(migration.TESTPMD, without))
    ratio = (statistics.median(result.downtime_ms for result in with_svqd)
             / statistics.median(result.downtime_ms for result in without))
    check(ratio <= MAX_RATIO, f'{text}\nratio of the downtimes {ratio:.2f}, not {MAX_RATIO}')
    return f'{text}\nratio of the downtimes {ratio:.2f}'


def cases(count: int | None) -> list[tap.Case]:
    """The short run without `count`, else the long one."""
    formats = (('split', False), ('packed', True))
    if count is None:
        kinds = [(migration.SVQD_LOOPBACK, *formats[0]), (migration.SVQD_LOOPBACK, *formats[1]),
                 (migration.AUTO_LOOPBACK, *formats[1])]
    else:
        kinds = [(behind, *form) for behind in (migration.SVQD_LOOPBACK, migration.AUTO_LOOPBACK,
                                                migration.AUTO_TESTPMD) for form in formats]
    plain: list[tap.Case] = [
        (f'{name}, {behind}', functools.partial(migrations, behind, packed, count or SHORT_RUN))
        for behind, name, packed in kinds]
    if count is None:
        return plain
    return plain + [(f'{name}, {migration.SVQD_TESTPMD}, against {migration.TESTPMD}',
                     functools.partial(migrations_in_turns, packed, count))
                    for name, packed in formats]


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or '').partition('\n')[0])
    parser.add_argument('--migrations', type=int, default=os.environ.get('SVQD_MIGRATIONS'),
                        help='a long run with so many of each kind [$SVQD_MIGRATIONS]')
    parser.add_argument('--only', default='', metavar='TEXT',
                        help='only cases with TEXT in their names')
    options = parser.parse_args()
    if not shutil.which(qemu_guest.PROGRAM):
        return tap.skip_all(f'{qemu_guest.PROGRAM} is missing; scripts/bootstrap check installs it')
    try:
        guest_image.kernel()
        guest_image.program('memwalk')
    except guest_image.ImageError as error:
        return tap.skip_all(str(error))
    return tap.run([case for case in cases(options.migrations) if options.only in case[0]])


if __name__ == '__main__':
    sys.exit(main())
