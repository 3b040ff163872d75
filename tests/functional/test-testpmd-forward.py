#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""DPDK on both sides of svqd: millions of packets go round, in every pair of formats, none is lost.

How it works: a virtio-user front end and a vhost back end forward to each other what they get,
with svqd between them and each queue pair in an IOThread of its own.  The accounting takes the loop
apart in an order in which every packet has one place to be:

 1. The front end stops.  What it sent arrives at the back end, which sends it on; all of it fits in
    the front end's receive rings, since fewer packets go round than a ring has descriptors.
 2. When the back end's counters stand still it has received all that will ever come:
        front end sent = svqd took from the guest = back end received.
 3. The back end stops.  The front end starts again, only receives, until its counters stand still:
        back end sent = svqd gave to the guest = front end received.

Both hold for each queue by itself, so a packet lost, doubled or put in the wrong queue shows.  The
drivers' own counters are compared, which count what passed through a ring; what testpmd itself
could not send and dropped is in none of them, and must be nothing too.
"""

from __future__ import annotations

import argparse
import functools
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

import tap
import testpmd
from tap import check
from testpmd_loop import GUESTS, SHADOWS, Guest, Loop, Setting, cpu_pair

PAIRS = 2
RING_SIZE = 256
FIRST_BURSTS = 4  # on each queue: half of a ring goes round


class AccountedLoop(Loop):
    """A loop where each packet is accounted for."""

    def run(self, packets: int, timeout_s: float) -> float:
        """Let at least `packets` go round; packets a second."""
        self.start(FIRST_BURSTS)
        first = sum(self.front.port_stats().rx)
        start = time.monotonic()
        while True:
            time.sleep(0.25)
            now = sum(self.front.port_stats().rx)
            seconds = time.monotonic() - start
            if now >= packets:
                return (now - first) / seconds
            check(seconds < timeout_s, f'only {now} packets went round in {seconds:.0f} s')

    def account(self) -> int:
        """Take the loop apart and check that no packet is missing; how many went round."""
        front = self.front.stop()
        self.back.settled_port_stats()
        back = self.back.stop()
        self.front.command('set fwd rxonly')
        self.front.start()
        self.front.settled_port_stats()
        self.front.stop()

        sent, received = self.front.port_stats(), self.back.port_stats()
        check(min(sent.tx) > 0, f'a queue carried nothing: {sent}')
        check(sent.tx == received.rx, f'front end sent {sent.tx}, back end received {received.rx}')
        check(received.tx == sent.rx, f'back end sent {received.tx}, front end received {sent.rx}')
        check(front.dropped == back.dropped == 0, f'testpmd dropped: front {front}, back {back}')
        if self.shadow:
            self._check_counters(sent, received)
        return sum(sent.rx)

    def _check_counters(self, front: testpmd.PortStats, back: testpmd.PortStats) -> None:
        self.check_svqd()
        for queue in self.svqd.queue_stats(2 * PAIRS):
            pair, is_tx = divmod(queue.index, 2)  # queue pairs take turns over the IOThreads
            check(queue.iothread == f'io{pair}', f'in the wrong IOThread: {queue}')
            if is_tx:
                check(queue.buffers == front.tx[pair], f'not {front.tx[pair]} buffers: {queue}')
            else:
                check(queue.returned == back.tx[pair], f'not {back.tx[pair]} returned: {queue}')


def run_loop(guest: Guest, shadow: str | None, options: argparse.Namespace) -> tuple[int, float]:
    """One configuration from start to end: packets that went round, and how many a second."""
    with tempfile.TemporaryDirectory(prefix='svqd-testpmd-') as name:
        setting = Setting(PAIRS, RING_SIZE, *options.cpus,
                          iothread_options=options.iothread_options, iothreads=PAIRS)
        loop = AccountedLoop(Path(name), setting, guest, shadow)
        try:
            rate = loop.run(options.packets, options.timeout)
            packets = loop.account()
        except Exception:
            loop.show_logs()
            raise
        finally:
            loop.close()
    return packets, rate


@functools.cache
def direct_rate(guest: Guest, packets: int, timeout: float, cpus: tuple[int, int]) -> float:
    """The rate of the same front end and back end with nothing in between."""
    options = argparse.Namespace(packets=packets, timeout=timeout, cpus=cpus, iothread_options='')
    return run_loop(guest, None, options)[1]


def forward(guest: Guest, shadow: str, options: argparse.Namespace) -> str:
    """One test case."""
    direct = direct_rate(guest, options.packets, options.timeout, options.cpus)
    packets, rate = run_loop(guest, shadow, options)
    return (f'{packets} packets, all accounted for; {rate / 1e6:.2f} Mpps, '
            f'direct {direct / 1e6:.2f} Mpps, ratio {rate / direct:.2f}')


def main() -> int:
    cpus = sorted(os.sched_getaffinity(0))
    parser = argparse.ArgumentParser(description=(__doc__ or '').partition('\n')[0])
    parser.add_argument('--packets', type=int, default=10_000_000,
                        help='packets that go round in each combination [%(default)s]')
    parser.add_argument('--timeout', type=float, default=120, metavar='SECONDS',
                        help='time that they may take [%(default)s]')
    parser.add_argument('--cpus', type=cpu_pair, default=(cpus[0], cpus[-1]), metavar='FRONT,BACK',
                        help='CPUs of the front end and the back end [first and last]')
    parser.add_argument('--iothread-options', default=',poll-max-ns=0', metavar=',NAME=VALUE...',
                        help='more properties of the IOThreads [%(default)s]: with fewer CPUs than '
                             'threads an IOThread that polls takes the time of those it waits for')
    parser.add_argument('--only', default='', metavar='TEXT',
                        help='only combinations with TEXT in their names')
    options = parser.parse_args()
    if not shutil.which(testpmd.PROGRAM):
        return tap.skip_all(f'{testpmd.PROGRAM} is missing; scripts/bootstrap check installs it')
    cases = [(f'{guest} guest, {shadow} device', functools.partial(forward, guest, shadow, options))
             for guest in GUESTS for shadow in SHADOWS]
    return tap.run([case for case in cases if options.only in case[0]])


if __name__ == '__main__':
    sys.exit(main())
