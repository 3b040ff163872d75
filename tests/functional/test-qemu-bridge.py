#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""A guest in QEMU, which keeps the control queue to itself, before a device that wants to be told.

How it works: towards svqd QEMU's network card over vhost-user has no control queue; what the guest
says there QEMU executes, and shows of it only which rings are enabled.  The built-in device, which
has a control queue, begins with one queue pair and drops what is sent on others, so that traffic on
two shows that it was told; and it filters by what it was told, so that a guest whose address it
does not know hears nothing.
"""

from __future__ import annotations

import functools
import shutil
import sys
import time
from dataclasses import dataclass

import guest_image
import guest_rig
import guest_shell
import qemu_guest
import tap
from guest_rig import Rig
from guest_shell import GuestShell
from qemu_guest import QemuGuest
from svqd import Svqd
from tap import check

PAIRS = 2
DEVICE = 'net0'
GUEST_MAC = '02:00:00:00:00:02'
OTHER_MAC = '02:00:00:00:00:99'
FLOWS_PER_PAIR = 2
DATAGRAMS = 500
FLOWS_TIMEOUT_S = 60.0
UNANSWERED_S = 2
STATE_TIMEOUT_S = 5.0


@dataclass(frozen=True)
class Configuration:
    """How svqd is told of the device's filters."""
    name: str
    options: str
    state: tuple[str, ...]      # what the device was told besides the number of queue pairs
    hears: bool = True          # the guest receives what is sent to its address
    packed: bool = False


CONFIGURATIONS = [
    Configuration('promiscuous, since nobody says an address', '', ('RX_PROMISC on',)),
    Configuration('the guest\'s address', f',mac={GUEST_MAC},promisc=off',
                  (f'MAC_ADDR_SET {GUEST_MAC}', 'RX_PROMISC off'), packed=True),
    Configuration('another address', f',mac={OTHER_MAC},promisc=off',
                  (f'MAC_ADDR_SET {OTHER_MAC}', 'RX_PROMISC off'), hears=False),
]


def wait_state(svqd: Svqd, expected: tuple[str, ...]) -> None:
    """The device acknowledges this, and nothing else.  QEMU's guest does not wait for that."""
    deadline = time.monotonic() + STATE_TIMEOUT_S
    while (said := sorted(svqd.state(DEVICE))) != sorted(expected):
        check(time.monotonic() < deadline, f'svqd says {said}, not {sorted(expected)}')


def flows(shell: GuestShell, pairs: int) -> None:
    """Traffic on the first `pairs` queue pairs; all of it comes back."""
    shell.run(f'udp-flows 192.168.9.1 {FLOWS_PER_PAIR * pairs} {DATAGRAMS}', FLOWS_TIMEOUT_S)


def run_guest(configuration: Configuration) -> str:
    """One guest from start to end."""
    with Rig(PAIRS) as rig:
        initramfs = guest_image.write_initramfs(rig.path('initramfs'), 'qemu', guest_shell.SCRIPT,
                                                [guest_image.program('udp-flows')])
        svqd = rig.start_svqd(f'loopback,queue-pairs={PAIRS},icmp-echo=on', configuration.options)
        guest = rig.start_guest(lambda log: QemuGuest(rig.guest_socket, initramfs, log, pairs=PAIRS,
                                                      packed=configuration.packed))
        remark = f'up after {guest.wait_up():.1f} s'
        shell = GuestShell(guest)
        shell.run(':')
        # Linux begins with as many pairs as it has CPUs.
        wait_state(svqd, (f'MQ_VQ_PAIRS_SET {PAIRS}', *configuration.state))
        if configuration.hears:
            remark += '; ' + use_pairs(rig, svqd, shell, configuration)
        else:
            status, _ = shell.try_run(f'ping -c 1 -W {UNANSWERED_S} 192.168.9.1')
            check(status == 1, f'ping ends with {status}: the device has no filter')
        shell.end()
    return remark


def use_pairs(rig: Rig, svqd: Svqd, shell: GuestShell, configuration: Configuration) -> str:
    """The guest changes the number of queue pairs; traffic on all of them."""
    start = time.monotonic()
    sent = [0] * PAIRS
    for pairs in (1, 2):
        shell.run(f'ethtool -L eth0 combined {pairs}')
        wait_state(svqd, (f'MQ_VQ_PAIRS_SET {pairs}', *configuration.state))
        flows(shell, pairs)
        # One CPU sends its flows on one pair; with one pair all do.
        for pair in range(pairs):
            sent[pair] += FLOWS_PER_PAIR * DATAGRAMS
        queues = svqd.queue_stats(2 * PAIRS)
        counted = [queue.buffers for queue in queues[1::2]]
        check(counted == sent, f'with {pairs} pairs: transmitted {counted}, not {sent}')
        for rx, tx in zip(queues[::2], queues[1::2]):
            check(rx.returned == tx.buffers, f'{tx.buffers} transmitted, not received: {rx}')
    return f'{sent} datagrams there and back in {time.monotonic() - start:.1f} s'


def main() -> int:
    if not shutil.which(qemu_guest.PROGRAM):
        return tap.skip_all(f'{qemu_guest.PROGRAM} is missing; scripts/bootstrap check installs it')
    reason = guest_rig.missing(guest_image.kernel, functools.partial(guest_image.program,
                                                                     'udp-flows'))
    if reason:
        return tap.skip_all(reason)
    return tap.run([(configuration.name, functools.partial(run_guest, configuration))
                    for configuration in CONFIGURATIONS])


if __name__ == '__main__':
    sys.exit(main())
