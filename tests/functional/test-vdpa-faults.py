#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""What the real kernel does to who drives its vDPA devices: one message each, and the rest goes on.

How it works: simulated network cards, of which svqd drives two, and a PCI card without an IOMMU,
whose device file is there but cannot be opened.  Memory has to be locked for a device that reaches
for it by physical addresses, as the simulator does with use_va=0.
"""

from __future__ import annotations

import re
import sys
import time

import vdpa_bench
import vdpa_vm
from tap import check
from vdpa_vm import PCI_BIND, VdpaVm, VmProcess

PACKETS = 5_000
GUEST = ('--udp', '--window', 64, '--event-idx', 'off')
GUEST_S = 15
MOVING_TIMEOUT_S = 20
# The command waits until the device is let go of: by then it must have been.
DELETE_TIMEOUT_S = 10
CARD = ('-netdev', 'hubport,id=net,hubid=0', '-device',
        'virtio-net-pci,netdev=net,romfile=,iommu_platform=on,disable-legacy=on,page-per-vq=on')
SMALL_LIMIT_KB = 1024


def vanishes(vm: VdpaVm) -> str:
    """A device is removed under traffic, and added again; its neighbour notices nothing."""
    with vm.device('vdpa0', 'vdpasim_net') as first, vm.device('vdpa1', 'vdpasim_net') as second:
        svqd = vdpa_vm.start_svqd(
            vm, [*vdpa_bench.device_arguments('net0', first),
                 *vdpa_bench.device_arguments('net1', second)],
            [vdpa_bench.socket('net0'), vdpa_bench.socket('net1')])
        guests = [vm.start(f'guest{number}', vdpa_bench.command(
            'vhost-user', f'net{number}', *GUEST, '--duration', GUEST_S)) for number in (0, 1)]
        wait_moving(vm, svqd, 'net0')
        wait_moving(vm, svqd, 'net1')
        vm.run(f'timeout {DELETE_TIMEOUT_S} vdpa dev del vdpa0', 2 * DELETE_TIMEOUT_S)
        svqd.wait_log('net0-dev: given up')
        wait_moving(vm, svqd, 'net1')
        guests[0].signal('KILL')
        check(vm.add_device('vdpa0', 'vdpasim_net') == first, f'the new device is not {first}')
        vdpa_bench.run(vm, 'vhost-user', 'net0', *GUEST, '--buffers', PACKETS)
        guests[1].wait(2 * GUEST_S)
        vdpa_bench.result(guests[1].log)
        svqd.stop()
    check(len(re.findall('net0-dev: given up', svqd.log)) == 1, f'not one message:\n{svqd.log}')
    return next(line for line in svqd.log.splitlines() if 'given up' in line)


def wait_moving(vm: VdpaVm, svqd: VmProcess, name: str) -> None:
    """Wait until packets come back to the guest of a device, by svqd's own counters."""
    returned = re.compile(rf'^{name} +0 [a-z]+ +\S+ +\S+ +\d+ +(\d+) ', re.MULTILINE)
    counts: list[int] = []
    deadline = time.monotonic() + MOVING_TIMEOUT_S
    while len(counts) < 2 or counts[-1] <= counts[0]:
        check(time.monotonic() < deadline, f'{name} does not move: {counts}\n{svqd.log[-2000:]}')
        start = len(svqd.log)
        svqd.signal('USR1')
        svqd.wait_log(rf'^{name} +1 ', start=start)
        counts += [int(found[1]) for found in returned.finditer(svqd.log, start)]


def refused(path: str, message: str, vm: VdpaVm) -> str:
    """svqd does not start, and says why in one line."""
    words = ' '.join(vdpa_bench.device_arguments('net9', path))
    status, output = vm.try_run(f'svqd {words}')
    lines = output.splitlines()
    check(status == 1 and len(lines) == 1 and message in lines[0],
          f'status {status}, not 1 and a line with {message!r}:\n{output}')
    return lines[0]


def busy(vm: VdpaVm) -> str:
    """A device has one user."""
    with vm.device('vdpa0', 'vdpasim_net') as path:
        svqd = vdpa_bench.start_svqd(vm, 'net0', path)
        remark = refused(path, 'in use by another process', vm)
        vdpa_bench.run(vm, 'vhost-user', 'net0', *GUEST, '--buffers', PACKETS)
        svqd.stop()
    return remark


def no_iommu(vm: VdpaVm) -> str:
    """A device that needs an IOMMU and has none."""
    address = vm.run(PCI_BIND).strip()
    with vm.device('vdpa0', f'pci/{address}') as path:
        return refused(path, 'IOMMU', vm)


def locked_memory(vm: VdpaVm) -> str:
    """A device whose guest's memory cannot be locked; its neighbour needs no locking."""
    vm.load_simulators(use_va=False)
    try:
        with vm.device('vdpa0', 'vdpasim_net') as path:
            svqd = vdpa_vm.start_svqd(
                vm, [*vdpa_bench.device_arguments('net0', path),
                     '-chardev', f'socket,id=vm1,path={vdpa_bench.socket("net1")},server=on',
                     '-backend', 'loopback,id=dev1', '-device', 'svq,chardev=vm1,backend=dev1'],
                [vdpa_bench.socket('net0'), vdpa_bench.socket('net1')],
                prepare=f'ulimit -l {SMALL_LIMIT_KB}')
            status, output = vm.try_run(' '.join(vdpa_bench.command(
                'vhost-user', 'net0', *GUEST, '--buffers', PACKETS)))
            check(status == 1, f'traffic without memory:\n{output}')
            vdpa_bench.run(vm, 'vhost-user', 'net1', '--buffers', PACKETS)
            svqd.stop()
    finally:
        vm.load_simulators(use_va=True)
    lines = [line for line in svqd.log.splitlines() if 'LimitMEMLOCK' in line]
    check(len(lines) == 1, f'not one line that names the remedy:\n{svqd.log}')
    return lines.pop()


def main() -> int:
    return vdpa_vm.run_cases([
        ('a device vanishes under traffic, and comes back', vanishes),
        ('a device that is in use', busy),
        ('no IOMMU', no_iommu),
        ('a limit of locked memory that is too small', locked_memory),
    ], options=CARD)


if __name__ == '__main__':
    sys.exit(main())
