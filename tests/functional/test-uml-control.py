#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""A real driver's control queue: each command of a shell in User Mode Linux, and what svqd makes
of it.

How it works: a step is a command line in the guest, where the driver waits for the device's answer
to each command that it sends.  So when the shell says that the command line succeeded, the control
queue's counters have moved, and svqd's state is what the step says and nothing else.  The guest
sends more than it has to, such as its receive modes with each change of a filter; how much is for
its kernel to know.
"""

from __future__ import annotations

import functools
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass

import debian
import guest_image
import guest_rig
import guest_shell
import tap
from guest_rig import Rig, on_off
from guest_shell import GuestShell
from svqd import QueueStats, Svqd
from tap import check
from uml_guest import UmlGuest

PAIRS = 2
CONTROL = 2 * PAIRS
DEVICE = 'net0'

CONTROL_TIMEOUT_MS = 500
PING_TIMEOUT_S = 10

# In the guest's path are busybox's, too.
IP = '/bin/ip'

# What a driver is a member of as soon as it is up, and once it has a VLAN (MVRP).
ALL_HOSTS = '01:00:5e:00:00:01'
MVRP = '01:80:c2:00:00:21'
MULTICAST = '33:33:00:00:00:05'
UNICAST = '02:00:00:00:00:77'

# As long as the built-in device wants them.
KEY = bytes(6 * number + 1 for number in range(40))
TABLE_ENTRIES = 128

# TCP and UDP over IPv4 and IPv6, and what else is over these.
HASH_TYPES = 0x3f
HASH_TCP4 = 0x2

GUEST_CSUM, GUEST_TSO4, GUEST_TSO6 = 1 << 1, 1 << 7, 1 << 8


def mac_table(*multicast: str, unicast: tuple[str, ...] = ()) -> str:
    """A MAC table as svqd prints it."""
    return ' '.join(('MAC_TABLE_SET', *unicast, '/', *multicast))


def rss(types: int, table: Iterable[int]) -> str:
    """Receive-side scaling as svqd prints it.  Linux 6.1 says the number of transmit queues that it
    began with, whatever it is now."""
    return (f'MQ_RSS_CONFIG types={types:#x} unclassified=0 table={",".join(map(str, table))} '
            f'transmit=1 key={KEY.hex()}')


IN_TURNS = [number % 2 for number in range(TABLE_ENTRIES)]
ONE_TO_THREE = [int(number >= TABLE_ENTRIES // 4) for number in range(TABLE_ENTRIES)]


@dataclass(frozen=True)
class Step:
    """A command line, and what the state has after it: `now`, in place of what it had of the same
    kind, and not `gone`."""
    command: str
    now: tuple[str, ...] = ()
    gone: tuple[str, ...] = ()


FIRST = ('MQ_VQ_PAIRS_SET 1', 'RX_PROMISC off', 'RX_ALLMULTI off', mac_table(ALL_HOSTS),
         'VLAN_ADD 0')
STEPS = [
    Step(f'{IP} link set eth0 address 02:11:22:33:44:55', ('MAC_ADDR_SET 02:11:22:33:44:55',)),
    Step(f'{IP} link set eth0 promisc on', ('RX_PROMISC on',)),
    Step(f'{IP} link set eth0 promisc off', ('RX_PROMISC off',)),
    Step(f'{IP} link set eth0 allmulticast on', ('RX_ALLMULTI on',)),
    Step(f'{IP} link set eth0 allmulticast off', ('RX_ALLMULTI off',)),
    Step(f'{IP} maddr add {MULTICAST} dev eth0', (mac_table(ALL_HOSTS, MULTICAST),)),
    Step(f'bridge fdb add {UNICAST} dev eth0 self permanent',
         (mac_table(ALL_HOSTS, MULTICAST, unicast=(UNICAST,)),)),
    Step(f'{IP} maddr del {MULTICAST} dev eth0', (mac_table(ALL_HOSTS, unicast=(UNICAST,)),)),
    Step(f'bridge fdb del {UNICAST} dev eth0 self', (mac_table(ALL_HOSTS),)),
    Step(f'{IP} link add link eth0 name eth0.5 type vlan id 5',
         ('VLAN_ADD 5', mac_table(ALL_HOSTS, MVRP))),
    Step(f'{IP} link add link eth0 name eth0.4094 type vlan id 4094', ('VLAN_ADD 4094',)),
    Step(f'{IP} link del eth0.5', gone=('VLAN_ADD 5',)),
    Step(f'{IP} link del eth0.4094', (mac_table(ALL_HOSTS),), gone=('VLAN_ADD 4094',)),
    Step(f'{IP} link set eth0 down', gone=('VLAN_ADD 0',)),
    Step(f'{IP} link set eth0 up', ('VLAN_ADD 0',)),
    Step('ethtool -L eth0 combined 2', ('MQ_VQ_PAIRS_SET 2',)),
    # A table takes the place of the number of pairs, and the other way round.
    Step(f'ethtool -X eth0 weight 1 3 hkey {KEY.hex(":")}', (rss(HASH_TYPES, ONE_TO_THREE),),
         gone=('MQ_VQ_PAIRS_SET',)),
    Step('ethtool -X eth0 equal 2', (rss(HASH_TYPES, IN_TURNS),)),
    Step('ethtool -K eth0 rxhash on', (rss(HASH_TYPES, IN_TURNS),)),
    Step('ethtool -N eth0 rx-flow-hash tcp4 sd', (rss(HASH_TYPES & ~HASH_TCP4, IN_TURNS),)),
    Step('ethtool -K eth0 rxhash off', (rss(0, IN_TURNS),)),
    Step('ethtool -X eth0 default', (rss(0, IN_TURNS),)),
    Step('ethtool -L eth0 combined 1', ('MQ_VQ_PAIRS_SET 1',), gone=('MQ_RSS_CONFIG',)),
    Step('ethtool -K eth0 rx-gro-hw off', (f'GUEST_OFFLOADS_SET {GUEST_CSUM:#x}',)),
    Step('ethtool -K eth0 rx-gro-hw on',
         (f'GUEST_OFFLOADS_SET {GUEST_CSUM | GUEST_TSO4 | GUEST_TSO6:#x}',)),
    # The driver refuses to be without a limit of frames to transmit while it is up.
    Step('ethtool -C eth0 rx-usecs 30 rx-frames 8 tx-usecs 50 tx-frames 16',
         ('NOTF_COAL_RX_SET packets=8 usecs=30', 'NOTF_COAL_TX_SET packets=16 usecs=50')),
]


# A device's whole state, with as many queue pairs as the driver says that it transmits on.
BEFORE_RESTART = [
    Step(f'{IP} link set eth0 address 02:11:22:33:44:66', ('MAC_ADDR_SET 02:11:22:33:44:66',)),
    Step(f'{IP} link add link eth0 name eth0.5 type vlan id 5',
         ('VLAN_ADD 5', mac_table(ALL_HOSTS, MVRP))),
    Step(f'ethtool -X eth0 equal 1 hkey {KEY.hex(":")}', (rss(HASH_TYPES, [0] * TABLE_ENTRIES),),
         gone=('MQ_VQ_PAIRS_SET',)),
    Step('ethtool -K eth0 rx-gro-hw off', (f'GUEST_OFFLOADS_SET {GUEST_CSUM:#x}',)),
    Step('ethtool -C eth0 tx-usecs 50 tx-frames 16',
         ('NOTF_COAL_TX_SET packets=16 usecs=50', 'NOTF_COAL_RX_SET packets=0 usecs=0')),
]


class State:
    """What svqd should say: a line for each kind of thing, and for each VLAN."""

    def __init__(self, lines: Iterable[str]):
        self._lines: dict[str, str] = {}
        self.change(lines, ())

    def change(self, now: Iterable[str], gone: Iterable[str]) -> None:
        """Apply a step."""
        for line in gone:
            del self._lines[self._kind(line)]
        for line in now:
            self._lines[self._kind(line)] = line

    @staticmethod
    def _kind(line: str) -> str:
        return line if line.startswith('VLAN_') else line.partition(' ')[0]

    def lines(self) -> list[str]:
        """In no order that matters."""
        return list(self._lines.values())


def check_state(svqd: Svqd, expected: State, after: str) -> None:
    """svqd says exactly what is expected."""
    said, lines = svqd.state(DEVICE), expected.lines()
    check(sorted(said) == sorted(lines),
          '\n'.join([f'after {after!r} svqd says', *(line for line in said if line not in lines),
                     'and not', *(line for line in lines if line not in said)]))


def control_queue(rig: Rig, svqd: Svqd) -> QueueStats:
    """The counters of the control queue, which has nothing to do."""
    queue = rig.running_queues(svqd, CONTROL + 1)[CONTROL]
    check(queue.buffers == queue.returned, f'a command without an answer: {queue}')
    return queue


def start_shell(rig: Rig) -> tuple[GuestShell, str]:
    """The guest with all that the steps need; a remark."""
    initramfs = guest_image.write_initramfs(
        rig.path('initramfs'), 'uml', guest_shell.SCRIPT,
        [debian.program('ip'), debian.program('bridge')], ['8021q'])
    guest = rig.start_guest(lambda log: UmlGuest(rig.guest_socket, initramfs, log))
    remark = f'up after {guest.wait_up():.1f} s'
    shell = GuestShell(guest)
    shell.run(':')
    return shell, remark


def run_steps(packed: bool) -> str:
    """One guest, all steps."""
    with Rig(PAIRS) as rig:
        svqd = rig.start_svqd(f'loopback,queue-pairs={PAIRS}',
                              f',guest-packed={on_off(packed)},lenient-base=on')
        shell, remark = start_shell(rig)
        start = time.monotonic()
        state = State(FIRST)
        check_state(svqd, state, 'the start')
        queue = control_queue(rig, svqd)
        check(queue.guest == ('packed' if packed else 'split'), f'in the wrong format: {queue}')
        for step in STEPS:
            shell.run(step.command)
            before, queue = queue, control_queue(rig, svqd)
            check(queue.buffers > before.buffers, f'{step.command!r} sends no command: {queue}')
            state.change(step.now, step.gone)
            check_state(svqd, state, step.command)
        shell.end()
    return (f'{remark}, {queue.buffers} commands for {len(STEPS)} steps in '
            f'{time.monotonic() - start:.1f} s')


def start_device(rig: Rig, number: int) -> Svqd:
    """The built-in device in a process of its own, another svqd, which tells what it was told."""
    path = rig.path('device.sock')
    device = Svqd(['-object', 'iothread,id=io,poll-max-ns=0',
                   '-chardev', f'socket,id=vm,path={path},server=on',
                   '-backend', f'loopback,id=dev,queue-pairs={PAIRS},icmp-echo=on',
                   '-device', f'svq,id={DEVICE},chardev=vm,backend=dev,iothread=io'],
                  rig.path(f'device{number}.log'))
    rig.add(device).wait_listening(path)
    return device


def start_before(rig: Rig) -> Svqd:
    """svqd before that device, which looks for it again when it is gone."""
    svqd = Svqd(['-object', 'iothread,id=io,poll-max-ns=0',
                 '-chardev', f'socket,id=vm,path={rig.guest_socket},server=on',
                 '-chardev', f'socket,id=dp,path={rig.path("device.sock")},reconnect-ms=100',
                 '-backend', 'vhost-user,id=dev,chardev=dp',
                 '-device', f'svq,id={DEVICE},chardev=vm,backend=dev,iothread=io,lenient-base=on,'
                            f'ctrl-timeout={CONTROL_TIMEOUT_MS}'], rig.path('svqd.log'))
    rig.add(svqd).wait_listening(rig.guest_socket)
    return svqd


def restart_device() -> str:
    """The device is gone for a while; the next one is told what this one was."""
    with Rig(PAIRS) as rig:
        device = start_device(rig, 0)
        svqd = start_before(rig)
        shell, remark = start_shell(rig)
        state = State(FIRST)
        for step in BEFORE_RESTART:
            shell.run(step.command)
            state.change(step.now, step.gone)
        check_state(svqd, state, 'all steps')
        check_state(device, state, 'all steps')
        device.close()
        start = time.monotonic()
        status, _ = shell.try_run(f'{IP} link set eth0 address 02:00:00:00:00:55')
        refused_s = time.monotonic() - start
        check(status != 0, 'a command succeeds without a device')
        check(refused_s > CONTROL_TIMEOUT_MS / 1000, f'refused after {refused_s:.1f} s')
        check_state(svqd, state, 'a command that nobody took')
        device = start_device(rig, 1)
        # A packet waits for the device, and a device for all of its state.
        shell.run(f'ping -c 1 -W {PING_TIMEOUT_S} 192.168.9.1')
        check_state(device, state, 'its restart')
        check_state(svqd, state, 'the restart')
        shell.end()
    return f'{remark}; without a device a command is refused after {refused_s:.1f} s'


def main() -> int:
    reason = guest_rig.missing(guest_image.uml, functools.partial(debian.program, 'ip'),
                               functools.partial(debian.program, 'bridge'))
    if reason:
        return tap.skip_all(reason)
    return tap.run([(f'{"packed" if packed else "split"} rings: {len(STEPS)} changes, each seen',
                     functools.partial(run_steps, packed)) for packed in (False, True)] +
                   [('a device that was restarted is told all of it again', restart_device)])


if __name__ == '__main__':
    sys.exit(main())
