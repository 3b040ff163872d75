# SPDX-License-Identifier: BSD-3-Clause
"""svqd with a device of the kernel, and svq-bench as its guest, both in the machine."""

from __future__ import annotations

import json
from collections.abc import Sequence

import vdpa_vm
from tap import check
from vdpa_vm import VdpaVm, VmProcess

BENCH_TIMEOUT_S = 120


def socket(name: str) -> str:
    """Where svqd listens for the guest of the device `name`."""
    return f'/run/{name}.sock'


def device_arguments(name: str, path: str, *, pairs: int = 1, options: str = '') -> list[str]:
    """svqd's options for a device: each queue pair has an IOThread of its own, which does not poll,
    since with fewer CPUs than threads that takes the time of those it waits for."""
    arguments = []
    device = f'svq,id={name},chardev={name}-vm,backend={name}-dev{options}'
    for pair in range(pairs):
        arguments += ['-object', f'iothread,id={name}-io{pair},poll-max-ns=0']
        device += f',iothread-vq-mapping.{pair}.iothread={name}-io{pair}'
    return [*arguments, '-chardev', f'socket,id={name}-vm,path={socket(name)},server=on',
            '-backend', f'vhost-vdpa,id={name}-dev,vhostdev={path}', '-device', device]


def start_svqd(vm: VdpaVm, name: str, path: str, *, pairs: int = 1, options: str = '',
               wrapper: Sequence[str] = ()) -> VmProcess:
    """svqd with one device.  It may lock memory, which a device does that reaches for it itself."""
    return vdpa_vm.start_svqd(vm, device_arguments(name, path, pairs=pairs, options=options),
                              [socket(name)], prepare='ulimit -l unlimited', wrapper=wrapper)


def command(mode: str, name: str, *options: object) -> list[str]:
    """svq-bench as the guest of a device."""
    return ['svq-bench', mode, '-s', socket(name), '--json', *map(str, options)]


def run(vm: VdpaVm, mode: str, name: str, *options: object,
        timeout_s: int = BENCH_TIMEOUT_S) -> dict:
    """Let svq-bench run to its end; what it counted, which includes no error."""
    return result(vm.run(' '.join(command(mode, name, *options)), timeout_s))


def result(output: str) -> dict:
    """What svq-bench counted, which includes no error."""
    report = json.loads(output)
    check(report['errors'] == 0, f'svq-bench counts errors:\n{output}')
    return report
