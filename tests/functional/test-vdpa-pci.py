#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""A PCI network card with packed rings and doorbells behind svqd: four queue pairs to a tap device.

How it works: the card is QEMU's virtio-net-pci, behind an emulated IOMMU, and vp_vdpa makes a
vDPA device of it.  The other end is a tap device with as many queues, in a network namespace of
its own, where tap-reflector checks each datagram: content, order, and the queue it came through;
and sends it back through the same.  svq-bench, the guest, checks it again.  So a datagram that is
lost, doubled or on a wrong queue shows on one side or the other.

That a doorbell is rung without a system call is seen with strace: what an IOThread writes to are
descriptors that came from the VMM, which are its calls.  With a device that has no doorbell page
the same look finds the kicks.
"""

from __future__ import annotations

import functools
import os
import re
import signal
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import tap
import vdpa_bench
import vdpa_vm
from svqd import BUILD
from tap import check
from vdpa_vm import PCI_BIND, VdpaVm

PAIRS = 4
PACKETS = 5_000  # of each pair
TRACED_PACKETS = 1_000
WINDOW = 64
# What the control queue's thread tells the main thread: that the state has changed, for each command at
# most, and that the device has been told all.  svq-bench sends one command.
TOLD = 3
TAP = 'svqtap0'
REFLECTOR = BUILD / 'tests' / 'functional' / 'vdpa' / 'tap-reflector'
REPORT_TIMEOUT_S = 10.0
NETDEV = f'tap,id=net,ifname={TAP},queues={PAIRS},script=no,downscript=no,vhost=off'
# Without a page for each queue there is no doorbell to map.
DEVICE = ('virtio-net-pci,netdev=net,mac=02:00:00:00:00:02,romfile=,mq=on,packed=on,page-per-vq=on,'
          f'iommu_platform=on,ats=on,disable-legacy=on,vectors={2 * PAIRS + 2}')

@dataclass(frozen=True)
class Configuration:
    """Who works the guest's rings, and their format."""
    mode: str
    format: str


# No guest's split rings for the card itself: behind an IOMMU QEMU 7.2 loses the half of a used
# element that lies in the next page, and a guest's rings may cross pages.
CONFIGURATIONS = [Configuration('shadow', 'split'), Configuration('shadow', 'packed'),
                  Configuration('passthrough', 'packed')]


class Card:
    """The card in the machine, and the other end of its wire."""

    def __init__(self, report: Path):
        self._report = report
        self.path = ''

    def add(self, vm: VdpaVm) -> str:
        """Make a vDPA device of it."""
        address = vm.run(PCI_BIND).strip()
        self.path = vm.add_device('vdpa0', f'pci/{address}')
        vm.run('vdpa dev config show vdpa0')
        return f'{self.path} is {address}'

    def _reflected(self, vm: VdpaVm) -> list[list[int]]:
        """The counters of each queue of the tap device, which begin anew."""
        self._report.unlink(missing_ok=True)
        vm.process.send_signal(signal.SIGUSR1)
        deadline = time.monotonic() + REPORT_TIMEOUT_S
        while not self._report.exists():
            check(time.monotonic() < deadline, 'tap-reflector does not report')
            time.sleep(0.02)
        return [list(map(int, line.split())) for line in self._report.read_text().splitlines()]

    def _check_reflected(self, vm: VdpaVm, packets: int) -> None:
        """Exactly so many datagrams came through each queue, and all were right."""
        for queue, (right, wrong, _, unsent) in enumerate(self._reflected(vm)):
            check((right, wrong, unsent) == (packets, 0, 0),
                  f'tap queue {queue}: {right} right, {wrong} wrong, {unsent} not sent back')

    def traffic(self, configuration: Configuration, vm: VdpaVm) -> str:
        """All queue pairs, there and back."""
        self._reflected(vm)
        svqd = vdpa_bench.start_svqd(vm, 'net0', self.path, pairs=PAIRS,
                                     options=f',mode={configuration.mode}')
        report = run_guest(vm, configuration.format, PAIRS, PACKETS)
        svqd.stop()
        self._check_reflected(vm, PACKETS)
        return f'{PAIRS * PACKETS} packets, {1e9 / report["ns_per_buffer"]:.0f} a second'

    def doorbells(self, vm: VdpaVm) -> str:
        """No kick is a system call."""
        self._reflected(vm)
        kicks, calls = traced_writes(vm, self.path, PAIRS)
        self._check_reflected(vm, TRACED_PACKETS)
        check(kicks <= TOLD, f'{kicks} writes of IOThreads to descriptors that are not the VMM\'s')
        return (f'{kicks} writes that are no calls, of the {TOLD} that the control queue may need, '
                f'among {calls + kicks} for {PAIRS * TRACED_PACKETS} packets')


def run_guest(vm: VdpaVm, ring_format: str, pairs: int, packets: int) -> dict:
    """svq-bench on all pairs."""
    report = vdpa_bench.run(vm, 'vhost-user', 'net0', '--udp', '--window', WINDOW,
                            '--queue-pairs', pairs, '--format', ring_format, '--buffers', packets)
    counts = [queue['buffers'] for queue in report['queues']]
    check(counts == [packets] * pairs, f'not {packets} on each of {pairs} pairs: {counts}')
    return report


def eventfd_kicks(vm: VdpaVm) -> str:
    """The same look at a device that has no doorbell page."""
    with vm.device('vdpa1', 'vdpasim_net') as path:
        kicks, calls = traced_writes(vm, path, 1)
    check(kicks > TOLD, f'{kicks} kicks among {kicks + calls} writes: this test sees none')
    return f'{kicks} kicks among {kicks + calls} writes for {TRACED_PACKETS} packets'


def traced_writes(vm: VdpaVm, path: str, pairs: int) -> tuple[int, int]:
    """Traffic under strace: how often IOThreads wrote to descriptors of svqd's own, and of the
    VMM's."""
    strace = ('strace', '-D', '-f', '--seccomp-bpf', '-e', 'trace=write,recvmsg,prctl', '-o',
              'svqd.trace')
    svqd = vdpa_bench.start_svqd(vm, 'net0', path, pairs=pairs, wrapper=strace)
    run_guest(vm, 'packed' if pairs > 1 else 'split', pairs, TRACED_PACKETS)
    svqd.stop()
    vm.run('until grep -q "exited with 0" svqd.trace; do usleep 50000; done')
    trace = (vm.share / 'svqd.trace').read_text(errors='replace')
    threads = set(re.findall(r'^(\d+) +prctl\(PR_SET_NAME, "IO net0-io', trace, re.MULTILINE))
    check(len(threads) == pairs, f'strace saw the IOThreads {threads}')
    received = {number for fds in re.findall(r'recvmsg.*cmsg_data=\[([\d, ]+)\]', trace)
                for number in fds.split(', ')}
    writes = [fd for thread, fd in re.findall(r'^(\d+) +write\((\d+),', trace, re.MULTILINE)
              if thread in threads]
    calls = sum(fd in received for fd in writes)
    check(calls > 0, 'strace saw no call')
    return len(writes) - calls, calls


def main() -> int:
    if os.geteuid() != 0 or not os.path.exists('/dev/net/tun'):
        return tap.skip_all('a network namespace with a tap device needs root and /dev/net/tun')
    with tempfile.TemporaryDirectory(prefix='svqd-vdpa-pci-') as name:
        report = Path(name) / 'report'
        card = Card(report)
        cases = [('a vDPA device of the card', card.add)]
        cases += [(f'{configuration.mode}, {configuration.format} guest: {PAIRS} queue pairs',
                   functools.partial(card.traffic, configuration))
                  for configuration in CONFIGURATIONS]
        cases += [('doorbells are rung without a system call', card.doorbells),
                  ('kicks without doorbells are system calls', eventfd_kicks)]
        return vdpa_vm.run_cases(
            cases, iommu=True, options=('-netdev', NETDEV, '-device', DEVICE),
            wrapper=(str(REFLECTOR), TAP, str(PAIRS), str(report)))


if __name__ == '__main__':
    sys.exit(main())
