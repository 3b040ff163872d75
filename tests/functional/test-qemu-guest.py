#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""A Linux guest in QEMU, through svqd to DPDK: pings, then traffic on all queue pairs at once.

How it works: testpmd first answers pings, then sends each UDP datagram back where it came from, on
the queue pair that it came from.  In the guest udp-flows (tests/guest) sends and checks the
datagrams.  Nothing else in the guest sends anything, so what svqd counts is known exactly: each
packet was taken from one transmit queue and answered in the receive queue of the same pair.
"""

from __future__ import annotations

import functools
import shutil
import sys
import time
from dataclasses import dataclass

import guest_image
import guest_rig
import qemu_guest
import tap
import testpmd
from guest import Guest
from guest_rig import PINGS, Rig, on_off
from qemu_guest import QemuGuest
from svqd import QueueStats
from tap import check

FLOWS_PER_PAIR = 2
DATAGRAMS = 3000
FLOWS_TIMEOUT_S = 120.0

SCRIPT = f"""\
if [ $pairs -gt 1 ]; then
    ethtool -L eth0 combined $pairs || exit
fi
{guest_rig.PING}
read -r go
udp-flows 192.168.9.1 $flows {DATAGRAMS} || exit
echo "GUEST: idle"
read -r go
"""


@dataclass(frozen=True)
class Configuration:
    """How many queue pairs, and the formats of their rings."""
    pairs: int
    packed: bool
    shadow_packed: bool

    def __str__(self) -> str:
        names = {False: 'split', True: 'packed'}
        return (f'{names[self.packed]} guest, {names[self.shadow_packed]} device, '
                f'{self.pairs} queue pair{"s" if self.pairs > 1 else ""}')


# All four pairs of formats: those that are the same with one pair, those that differ with two.
CONFIGURATIONS = [Configuration(pairs, packed, packed == (pairs == 1))
                  for pairs in (1, 2) for packed in (False, True)]


def run_guest(configuration: Configuration) -> str:
    """One guest from start to end."""
    pairs = configuration.pairs
    with Rig(pairs) as rig:
        initramfs = guest_image.write_initramfs(rig.path('initramfs'), 'qemu', SCRIPT,
                                                [guest_image.program('udp-flows')])
        device = rig.start_testpmd()
        svqd = rig.start_svqd(None, f',packed={on_off(configuration.shadow_packed)}')
        guest = rig.start_guest(lambda log: QemuGuest(
            rig.guest_socket, initramfs, log, pairs=pairs, packed=configuration.packed,
            variables={'pairs': str(pairs), 'flows': str(FLOWS_PER_PAIR * pairs)}))
        remarks = [f'up after {guest.wait_up():.1f} s']
        guest_rig.forward(device, 'icmpecho')
        remarks.append(guest_rig.wait_pinged(guest))
        device.stop()
        guest_rig.forward(device, '5tswap')
        remarks.append(run_flows(guest, pairs))
        queues = rig.running_queues(svqd, 2 * pairs)
        check_counters(queues, configuration)
        check_device(device.port_stats(), queues)
        remarks.append('transmitted ' + ', '.join(
            f'{queue.buffers} on pair {queue.index // 2}' for queue in queues[1::2]))
        guest.send('go')
        guest.wait_end()
        for queue in svqd.queue_stats(2 * pairs):
            check(queue.state == 'stopped' and queue.errors == 0, f'not well: {queue}')
    return '; '.join(remarks)


def run_flows(guest: Guest, pairs: int) -> str:
    """Let the guest send and check its datagrams."""
    start = time.monotonic()
    guest.send('go')
    done = guest.wait_for(r'flows done, (\d+) bytes', FLOWS_TIMEOUT_S)
    seconds = time.monotonic() - start
    guest.wait_for('idle', 5)
    datagrams = FLOWS_PER_PAIR * pairs * DATAGRAMS
    return (f'{datagrams} datagrams there and back: {datagrams / seconds:.0f} a second, '
            f'{int(done[1]) * 8 / seconds / 1e6:.0f} Mbit/s each way')


def check_counters(queues: list[QueueStats], configuration: Configuration) -> None:
    """The guest transmitted this and nothing else, and all was answered on the same pair."""
    formats = tuple('packed' if packed else 'split'
                    for packed in (configuration.packed, configuration.shadow_packed))
    for queue in queues:
        check((queue.guest, queue.shadow) == formats, f'in other formats than {formats}: {queue}')
    receive, transmit = queues[::2], queues[1::2]
    for rx, tx in zip(receive, transmit):
        share = tx.buffers - FLOWS_PER_PAIR * DATAGRAMS
        check(0 <= share <= PINGS, f'not the flows of one pair, and pings: {tx}')
        check(rx.returned == tx.buffers, f'{tx.buffers} transmitted, {rx.returned} received: {rx}')
    total = sum(queue.buffers for queue in transmit)
    expected = PINGS + FLOWS_PER_PAIR * configuration.pairs * DATAGRAMS
    check(total == expected, f'{total} transmitted, not {expected}')


def check_device(device: testpmd.PortStats, queues: list[QueueStats]) -> None:
    """The device saw on each queue what svqd counted there."""
    counted = tuple(queue.buffers for queue in queues[1::2])
    check(device.rx == device.tx == counted, f'svqd counted {counted}, the device {device}')


def main() -> int:
    for name in (testpmd.PROGRAM, qemu_guest.PROGRAM):
        if not shutil.which(name):
            return tap.skip_all(f'{name} is missing; scripts/bootstrap check installs it')
    reason = guest_rig.missing(guest_image.kernel, functools.partial(guest_image.program,
                                                                     'udp-flows'))
    if reason:
        return tap.skip_all(reason)
    return tap.run([(str(configuration), functools.partial(run_guest, configuration))
                    for configuration in CONFIGURATIONS])


if __name__ == '__main__':
    sys.exit(main())
