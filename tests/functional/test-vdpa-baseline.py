#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""The CPU time of a packet: QEMU's own shadow virtqueues beside svqd's, on the same device.

How it works: QEMU runs inside the machine and its guest is a test program (qtest-traffic), so the
same packets go the same way but for one thing: either QEMU drives the simulated card with
x-svq=on, or it gives its queues to svqd over vhost-user, and svqd drives the card.  The rounds
take turns.  The time is that of QEMU and svqd, user and system; both ways it includes what QEMU
needs to take the notifications of such a guest, and the simulator's own work is in neither.
QEMU's rings are in memory of its own, where the simulator reaches for locked pages only
(use_va=0).
"""

from __future__ import annotations

import statistics
import sys
from pathlib import Path

import debian
import tap
import vdpa_bench
import vdpa_vm
from svqd import BUILD
from tap import check
from vdpa_vm import VdpaVm

PACKETS = 20_000
ROUNDS = 3
TIMEOUT_S = 120
TRAFFIC = BUILD / 'tests' / 'functional' / 'vdpa' / 'qtest-traffic'
# Of Debian's QEMU this is a module.
MODULE = Path('/usr/lib/x86_64-linux-gnu/qemu/accel-tcg-x86_64.so')
CARD = '-device virtio-net-pci,netdev=net,addr=4,vectors=0,disable-legacy=on,romfile='


def own(vm: VdpaVm, path: str) -> tuple[float, float]:
    """QEMU's own shadow virtqueues."""
    return traffic(vm, '0', f'-netdev vhost-vdpa,id=net,vhostdev={path},x-svq=on')


def ours(vm: VdpaVm, path: str) -> tuple[float, float]:
    """svqd's, which is a process of its own."""
    svqd = vdpa_bench.start_svqd(vm, 'net0', path)
    socket = vdpa_bench.socket('net0')
    times = traffic(vm, '$(cat svqd.pid)', f'-chardev socket,id=vm,path={socket} '
                                           '-netdev vhost-user,id=net,chardev=vm')
    svqd.stop()
    return times


def traffic(vm: VdpaVm, pid: str, netdev: str) -> tuple[float, float]:
    """The microseconds of a packet, QEMU's and the other process's."""
    output = vm.run('ulimit -l unlimited\n'
                    f'export QEMU_MODULE_DIR={MODULE.parent}\n'
                    f'qtest-traffic {PACKETS} {pid} {netdev} {CARD}', TIMEOUT_S)
    qemu, other = (int(number) / PACKETS for number in output.split())
    return qemu, other


def compare(vm: VdpaVm) -> str:
    """Rounds of both, in turn."""
    rounds: dict[str, list[tuple[float, float]]] = {'own': [], 'ours': []}
    vm.load_simulators(use_va=False)
    with vm.device('vdpa0', 'vdpasim_net') as path:
        for _ in range(ROUNDS):
            rounds['own'].append(own(vm, path))
            rounds['ours'].append(ours(vm, path))
    check(all(qemu > 0 for times in rounds.values() for qemu, _ in times), f'no time: {rounds}')
    own_us = statistics.median(qemu for qemu, _ in rounds['own'])
    qemu_us = statistics.median(qemu for qemu, _ in rounds['ours'])
    svqd_us = statistics.median(other for _, other in rounds['ours'])
    return (f'CPU time of a packet there and back, median of {ROUNDS} rounds of {PACKETS}: '
            f'QEMU with x-svq {own_us:.1f} us; svqd {svqd_us:.1f} us and QEMU beside it '
            f'{qemu_us:.1f} us')


def main() -> int:
    reason = None if MODULE.exists() else f'{MODULE} is missing'
    if reason:
        return tap.skip_all(reason)
    return vdpa_vm.run_cases([('packets through QEMU and through svqd', compare)],
                             programs=[debian.program(vdpa_vm.QEMU), TRAFFIC], files=[MODULE])


if __name__ == '__main__':
    sys.exit(main())
