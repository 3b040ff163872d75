#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""The control queue of the kernel's vDPA devices: what svqd tells one is what it does, and after a
reset does again.

How it works: svq-bench is the driver; it sends commands, then packets, and saves the state, as a
VMM does that migrates.  The card is QEMU's virtio-net-pci behind vp_vdpa, and the QEMU outside of
the machine tells what its filters are (query-rx-filter).  svqd ends, which resets the card; another
svqd gets the saved state and no command.  Packets come back to the address that the commands gave
the card, on four queue pairs, so its filters and the number of its pairs were right when the first
of them came.

The simulator knows one command, the address.  Its control queue has an address space of its own, so
it is shadowed while the data queues pass through.
"""

from __future__ import annotations

import functools
import json
import os
import re
import socket
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import tap
import vdpa_bench
import vdpa_vm
from qmp import Qmp
from svqd import BUILD, QUEUE_LINE
from tap import check
from vdpa_vm import PCI_BIND, VdpaVm, VmProcess

PAIRS = 4
TAP = 'svqtap0'
CARD = 'card'
REFLECTOR = BUILD / 'tests' / 'functional' / 'vdpa' / 'tap-reflector'
NETDEV = f'tap,id=net,ifname={TAP},queues={PAIRS},script=no,downscript=no,vhost=off'
DEVICE = (f'virtio-net-pci,id={CARD},netdev=net,mac=02:00:00:00:00:02,romfile=,mq=on,rss=on,'
          'packed=on,page-per-vq=on,iommu_platform=on,ats=on,disable-legacy=on,'
          f'vectors={2 * PAIRS + 2}')
CARD_TIMEOUT_S = 20.0
POLL_S = 0.02

# Where svq-bench's frames come from, and so where they go when they are sent back.
BENCH_MAC = '02:73:76:71:00:01'
BENCH_IP, OTHER_IP = '198.51.100.1', '198.51.100.2'
BENCH_PORT, OTHER_PORT = 50000, 51000  # of the first queue pair
DURATION_S = 3  # of the packets; the card is looked at meanwhile
WINDOW = 64

SIM_OWN_MAC = '02:00:00:00:00:33'
SIM_MAC = '02:00:00:00:00:44'
SIM_PACKETS = 1_000
SIM_CONTROL = 2
MODES = ('shadow', 'passthrough', 'auto')

# What a card is before it is told anything: a promiscuous one.
FRESH = {'main-mac': '02:00:00:00:00:02', 'promiscuous': True, 'unicast': 'normal',
         'multicast': 'normal', 'unicast-table': [], 'multicast-table': [],
         'unicast-overflow': False, 'multicast-overflow': False,
         'broadcast-allowed': False}  # QEMU says the opposite of what it means
FRESH_VLANS = {'vlan': 'all'}  # of all of them


@dataclass(frozen=True)
class Setting:
    """Commands, and what is different then from a fresh card."""
    name: str
    commands: tuple[str, ...]
    filters: dict[str, object] = field(default_factory=dict)
    vlans: tuple[int, ...] = ()
    format: str = 'split'


UNICAST = ('02:00:00:00:01:01', '02:00:00:00:01:02')
MULTICAST = ('01:00:5e:00:00:01', '33:33:00:00:00:01', '33:33:00:00:00:02')
PAIRS_SET = f'MQ_VQ_PAIRS_SET {PAIRS}'

SETTINGS = [
    Setting('address, table, VLANs',
            (f'MAC_ADDR_SET {BENCH_MAC}', 'MAC_TABLE_SET 02:00:00:00:01:09 /',
             f'MAC_TABLE_SET {" ".join(UNICAST)} / {" ".join(MULTICAST)}', 'RX_PROMISC off',
             'VLAN_ADD 0', 'VLAN_ADD 5', 'VLAN_ADD 7', 'VLAN_ADD 4094', 'VLAN_DEL 7', PAIRS_SET),
            {'main-mac': BENCH_MAC, 'promiscuous': False, 'unicast-table': list(UNICAST),
             'multicast-table': list(MULTICAST)}, (0, 5, 4094)),
    Setting('all unicast, no multicast',
            (PAIRS_SET, 'RX_NOMULTI on', 'RX_ALLUNI on', 'RX_PROMISC off', 'VLAN_ADD 100'),
            {'promiscuous': False, 'unicast': 'all', 'multicast': 'none'}, (100,), 'packed'),
    Setting('promiscuous, no unicast, all multicast',
            ('RX_PROMISC off', 'RX_PROMISC on', 'RX_NOUNI on', 'RX_ALLMULTI on', 'RX_NOBCAST on',
             PAIRS_SET), {'unicast': 'none', 'multicast': 'all', 'broadcast-allowed': True}),
]


KEY = bytes(6 * number + 1 for number in range(40))
HASH_UDP4 = 1 << 2
TABLE_ENTRIES = 128


def toeplitz(data: bytes) -> int:
    """The hash of virtio's receive-side scaling (5.1.6.4.3.4) with KEY."""
    key, bits = int.from_bytes(KEY, 'big'), int.from_bytes(data, 'big')
    result = 0
    for bit in range(8 * len(data)):
        if bits >> (8 * len(data) - 1 - bit) & 1:
            result ^= key >> (8 * len(KEY) - 32 - bit)
    return result & 0xffffffff


def neighbours() -> str:
    """A command that lets each pair receive what the pair before it has sent."""
    table = [0] * TABLE_ENTRIES
    entries = [toeplitz(socket.inet_aton(OTHER_IP) + socket.inet_aton(BENCH_IP) +
                        (OTHER_PORT + pair).to_bytes(2, 'big') +
                        (BENCH_PORT + pair).to_bytes(2, 'big')) % TABLE_ENTRIES
               for pair in range(PAIRS)]
    assert len(set(entries)) == PAIRS  # KEY is good enough
    for pair, entry in enumerate(entries):
        table[entry] = (pair + 1) % PAIRS
    return (f'MQ_RSS_CONFIG types={HASH_UDP4:#x} unclassified=0 table={",".join(map(str, table))} '
            f'transmit={PAIRS} key={KEY.hex()}')


class Card:
    """The card in the machine, and the monitor of the QEMU outside, which knows what it is."""

    def __init__(self, monitor: Path):
        self.monitor = monitor
        self.path = ''
        self._qmp: Qmp | None = None

    def add(self, vm: VdpaVm) -> str:
        """Make a vDPA device of it."""
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(str(self.monitor))
        self._qmp = Qmp(connection)
        address = vm.run(PCI_BIND).strip()
        self.path = vm.add_device('vdpa0', f'pci/{address}')
        self.wait_filters(FRESH | FRESH_VLANS)
        return f'{self.path} is {address}'

    def _filters(self) -> dict:
        """What the card does with what it receives, lists in order."""
        assert self._qmp
        filters = self._qmp('query-rx-filter', name=CARD)[0]
        return {key: sorted(value) if isinstance(value, list) else value
                for key, value in filters.items()}

    def wait_filters(self, expected: dict, driver: VmProcess | None = None) -> None:
        """Wait until the card is as expected, which it is for the time of a `driver` only."""
        deadline = time.monotonic() + CARD_TIMEOUT_S
        while True:
            filters = self._filters()
            wrong = {key: filters[key] for key, value in expected.items() if filters[key] != value}
            if not wrong:
                return
            ended = driver is not None and driver.status is not None
            check(time.monotonic() < deadline and not ended,
                  f'the card has {shortened(wrong)}, and should have {expected}')
            time.sleep(POLL_S)

    def settle(self, setting: Setting, vm: VdpaVm) -> str:
        """Commands, and their effect; after a reset the saved state, and the same effect."""
        expected = FRESH | setting.filters | {'vlan': 'normal' if setting.vlans else 'none',
                                              'vlan-table': list(setting.vlans)}
        remarks = []
        states = []
        for source in (('--control', '; '.join(setting.commands)), ('--load-state', 'state0')):
            svqd = vdpa_bench.start_svqd(vm, 'net0', self.path, pairs=PAIRS)
            saved = f'state{len(states)}'
            bench = start_bench(vm, *source, '--save-state', saved, '--format', setting.format,
                                '--queue-pairs', PAIRS, '--duration', DURATION_S)
            self.wait_filters(expected, bench)
            report = end_bench(bench)
            check(all(queue['buffers'] for queue in report['queues']), f'a pair is idle: {report}')
            svqd.stop()
            self.wait_filters(FRESH | FRESH_VLANS)
            states.append((vm.share / saved).read_bytes())
            remarks.append(f'{report["buffers"]} packets')
        check(states[0] == states[1], 'what was loaded and saved again is not the same')
        return ', '.join(remarks) + f', a state of {len(states[0])} bytes'

    def steer(self, vm: VdpaVm) -> str:
        """Receive-side scaling, which the monitor does not show: packets do, that arrive on the
        wrong queue pair, all of them."""
        for source in (('--control', neighbours()), ('--load-state', 'rss')):
            svqd = vdpa_bench.start_svqd(vm, 'net0', self.path, pairs=PAIRS)
            bench = start_bench(vm, *source, '--save-state', 'rss', '--queue-pairs', PAIRS,
                                '--buffers', WINDOW)
            check(bench.wait(vdpa_bench.BENCH_TIMEOUT_S) == 1, f'no packet is lost:\n{bench.log}')
            report = json.loads(bench.log[bench.log.index('{'):])
            counts = [(queue['lost'], queue['corrupted']) for queue in report['queues']]
            # When the pairs start one by one, a neighbour may have no buffer yet: then it is lost.
            least = WINDOW if source[0] == '--control' else 0
            check(all(lost == WINDOW and least <= other <= WINDOW for lost, other in counts) and
                  any(other for _, other in counts),
                  f'{source[0]}: lost, and of other pairs, on each pair: {counts}')
            svqd.stop()
        return f'{WINDOW} packets of each of {PAIRS} pairs, twice'


def shortened(filters: dict) -> str:
    """Filters for a person, who wants no list of all VLANs."""
    return re.sub(r'(\[(?:\d+, ){8})[\d, ]+', r'\1...', str(filters))


def start_bench(vm: VdpaVm, *options: object) -> VmProcess:
    """Start the driver."""
    return vm.start('bench', vdpa_bench.command('vhost-user', 'net0', '--udp', '--window', WINDOW,
                                                *options))


def end_bench(bench: VmProcess) -> dict:
    """Wait for the driver's end; what it counted."""
    status = bench.wait(vdpa_bench.BENCH_TIMEOUT_S)
    check(status == 0, f'svq-bench ends with {status}:\n{bench.log}')
    return vdpa_bench.result(bench.log)


def simulated(mode: str, vm: VdpaVm) -> str:
    """The simulator's address, and again on another simulator."""
    sources: Sequence[tuple[str, str]] = (
        ('--control', f'MAC_ADDR_SET {SIM_MAC}; !RX_PROMISC on'), ('--load-state', 'state'))
    for option, value in sources:
        with vm.device('vdpa1', 'vdpasim_net', f'mac {SIM_OWN_MAC}') as path:
            check(sim_mac(vm) == SIM_OWN_MAC, 'the simulator does not begin with its own address')
            svqd = vdpa_bench.start_svqd(vm, 'net0', path, options=f',mode={mode}')
            vdpa_bench.run(vm, 'vhost-user', 'net0', '--udp', '--window', WINDOW, '--event-idx',
                           'off', '--buffers', SIM_PACKETS, f"{option} '{value}'", *(
                               ('--save-state', 'state') if option == '--control' else ()))
            check(sim_mac(vm) == SIM_MAC, f'{option}: the simulator has {sim_mac(vm)}')
            check_counters(svqd, mode, commands=2 if option == '--control' else 0)
            svqd.stop()
    return f'{SIM_PACKETS} packets, twice'


def check_counters(svqd: VmProcess, mode: str, commands: int) -> None:
    """The control queue carried the driver's commands, the others what did not pass through."""
    start = len(svqd.log)
    svqd.signal('USR1')
    svqd.wait_log(rf'^net0 +{SIM_CONTROL} .*\n', start=start)
    queues = {int(line['index']): line for line in QUEUE_LINE.finditer(svqd.log, start)}
    counted = [int(queues[index]['counters'].split()[0]) for index in range(SIM_CONTROL + 1)]
    check(counted[SIM_CONTROL] == commands, f'not {commands} commands: {counted}')
    check(all((count == 0) == (mode != 'shadow') for count in counted[:SIM_CONTROL]),
          f'mode={mode}, and on the data queues {counted}')


def sim_mac(vm: VdpaVm) -> str:
    """The simulator's address."""
    config = vm.run('vdpa dev config show vdpa1')
    found = re.search(r'mac (\S+)', config)
    check(bool(found), f'no address: {config}')
    assert found
    return found[1]


def main() -> int:
    if os.geteuid() != 0 or not os.path.exists('/dev/net/tun'):
        return tap.skip_all('a network namespace with a tap device needs root and /dev/net/tun')
    with tempfile.TemporaryDirectory(prefix='svqd-vdpa-control-') as name:
        directory = Path(name)
        card = Card(directory / 'qmp.sock')
        cases = [('a vDPA device of the card', card.add)]
        cases += [(f'{setting.name}, {setting.format} guest: the card, and after a reset again',
                   functools.partial(card.settle, setting)) for setting in SETTINGS]
        cases.append(('RSS: packets go where the table says, and after a reset again', card.steer))
        cases += [(f'simulator, mode={mode}: its address, and on a fresh one again',
                   functools.partial(simulated, mode)) for mode in MODES]
        return vdpa_vm.run_cases(
            cases, iommu=True,
            options=('-netdev', NETDEV, '-device', DEVICE, '-qmp',
                     f'unix:{card.monitor},server=on,wait=off'),
            wrapper=(str(REFLECTOR), TAP, str(PAIRS), str(directory / 'report')))


if __name__ == '__main__':
    sys.exit(main())
