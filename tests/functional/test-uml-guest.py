#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""User Mode Linux on svqd: another driver than QEMU's guests have, and another front end.

How it works: once the device is DPDK's testpmd, which offers a control queue and never serves it,
so svqd has to withhold it or the driver would wait for ever.  Once it is the built-in device,
where the control queue is shadowed like any other: what the driver sends there has to be answered,
and takes effect.  Nothing else in the guest sends packets, so their number is known exactly.
"""

from __future__ import annotations

import functools
import shutil
import sys

import guest_image
import guest_rig
import tap
import testpmd
from guest import Guest
from guest_rig import PINGS, Rig, on_off
from svqd import QueueStats, Svqd
from tap import check
from uml_guest import UmlGuest

PING_SCRIPT = f"""\
{guest_rig.PING}
echo "GUEST: idle"
read -r go
"""

# Each change of the number of queue pairs is a command; the driver sends a first one by itself.
CHANGES = (2, 1, 2)
CONTROL_SCRIPT = f"""\
for pairs in {' '.join(map(str, CHANGES))}; do
    ethtool -L eth0 combined $pairs || exit
    echo "GUEST: pairs $(ethtool -l eth0 | sed -n 's/^Combined:[^0-9]*//p' | xargs)"
done
{PING_SCRIPT}
"""
LOOPBACK_PAIRS = 2


def start_uml(rig: Rig, script: str) -> Guest:
    """UML with a script."""
    initramfs = guest_image.write_initramfs(rig.path('initramfs'), 'uml', script)
    return rig.start_guest(lambda log: UmlGuest(rig.guest_socket, initramfs, log))


def svqd_options(packed: bool) -> str:
    """What svqd has to know: UML starts packed rings at base 0."""
    return f',guest-packed={on_off(packed)},lenient-base=on'


def halt(guest: Guest, svqd: Svqd, queues: int) -> None:
    """Let the guest end; svqd sees it go."""
    guest.send('go')
    guest.wait_end()
    for queue in svqd.queue_stats(queues):
        check(queue.state == 'stopped' and queue.errors == 0, f'not well: {queue}')


def check_pings(queues: list[QueueStats], packed: bool) -> None:
    """Each ping was transmitted on one of the pairs and answered there, in the right format."""
    for queue in queues:
        check(queue.guest == ('packed' if packed else 'split'), f'in the wrong format: {queue}')
    for rx, tx in zip(queues[::2], queues[1::2]):
        check(rx.returned == tx.buffers, f'{tx.buffers} transmitted, {rx.returned} received: {rx}')
    transmitted = sum(queue.buffers for queue in queues[1::2])
    check(transmitted == PINGS, f'{transmitted} transmitted, not {PINGS}')


def ping_testpmd(packed: bool) -> str:
    """A device whose control queue must not be used."""
    if not shutil.which(testpmd.PROGRAM):
        raise tap.Skip(f'{testpmd.PROGRAM} is missing; scripts/bootstrap check installs it')
    with Rig(1) as rig:
        device = rig.start_testpmd()
        svqd = rig.start_svqd(None, ',ctrl_vq=off' + svqd_options(packed))
        guest = start_uml(rig, PING_SCRIPT)
        remarks = [f'up after {guest.wait_up():.1f} s']
        guest_rig.forward(device, 'icmpecho')
        remarks.append(guest_rig.wait_pinged(guest))
        guest.wait_for('idle', 5)
        check_pings(rig.running_queues(svqd, 2), packed)
        halt(guest, svqd, 2)
    return '; '.join(remarks)


def ping_loopback(packed: bool) -> str:
    """A device with a control queue."""
    control = 2 * LOOPBACK_PAIRS
    with Rig(LOOPBACK_PAIRS) as rig:
        svqd = rig.start_svqd(f'loopback,queue-pairs={LOOPBACK_PAIRS},icmp-echo=on',
                              svqd_options(packed))
        guest = start_uml(rig, CONTROL_SCRIPT)
        remarks = [f'up after {guest.wait_up():.1f} s']
        for number in CHANGES:
            pairs = guest.wait_for(r'pairs (.*)', 20)[1]
            check(pairs == f'{LOOPBACK_PAIRS} {number}', f'queue pairs, most and now: {pairs}')
        remarks.append(guest_rig.wait_pinged(guest))
        guest.wait_for('idle', 5)
        queues = rig.running_queues(svqd, control + 1)
        check_pings(queues[:control], packed)
        commands = queues[control]
        # The driver has more to say, of addresses and receive modes.
        check(commands.buffers == commands.returned > len(CHANGES),
              f'not {len(CHANGES)} commands and more, with their answers: {commands}')
        check(f'MQ_VQ_PAIRS_SET {CHANGES[-1]}' in svqd.state('net0'), 'the state is another')
        halt(guest, svqd, control + 1)
    return '; '.join(remarks)


def main() -> int:
    reason = guest_rig.missing(guest_image.uml)
    if reason:
        return tap.skip_all(reason)
    return tap.run([
        (f'{name}, {"packed" if packed else "split"} rings', functools.partial(function, packed))
        for name, function in (('without a control queue, testpmd behind svqd', ping_testpmd),
                               ('with a control queue, loopback behind svqd', ping_loopback))
        for packed in (False, True)])


if __name__ == '__main__':
    sys.exit(main())
