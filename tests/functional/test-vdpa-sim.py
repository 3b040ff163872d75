#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""The kernel's simulated network card behind svqd: traffic, and switches under traffic.

How it works: vdpa_sim_net gives each broadcast frame that is sent to it back in its receive
queue, if there is a buffer for it, and drops it else; svq-bench is the guest, and keeps fewer
under way than it has buffers.  The simulator can be suspended and tells where its rings stand, so
svqd can switch between passthrough and shadow: svq-bench begins and ends dirty logging, as a VMM
that migrates, and checks that nothing is lost, doubled or out of order, and that the log holds
what was written meanwhile.

SVQD_SWITCHES=1000 in the environment, and --timeout-multiplier=10: the long run.
"""

from __future__ import annotations

import functools
import json
import os
import re
import sys

import vdpa_bench
import vdpa_vm
from svqd import BUILD
from tap import check
from vdpa_vm import VdpaVm

SWITCHES = int(os.environ.get('SVQD_SWITCHES', 50))
PACKETS = 20_000
MAPPINGS = (1, 100, 10_000)
ROUNDS = 11
GUEST = ('vhost-user', 'net0', '--udp', '--window', 64, '--event-idx', 'off')
# What svqd says of a switch, in microseconds.
SWITCH = re.compile(r'net0: (shadow|passthrough), switched in (?P<total>\d+) us: '
                    r'suspend (?P<suspend>\d+), state (?P<state>\d+), rings (?P<rings>\d+), '
                    r'resume (?P<resume>\d+)')
PHASES = ('total', 'suspend', 'state', 'rings', 'resume')


def traffic(mode: str, vm: VdpaVm) -> str:
    """Packets there and back in one mode."""
    with vm.device('vdpa0', 'vdpasim_net') as path:
        svqd = vdpa_bench.start_svqd(vm, 'net0', path, options=f',mode={mode}')
        report = vdpa_bench.run(vm, *GUEST, '--buffers', PACKETS)
        check(report['buffers'] == PACKETS, f'not {PACKETS} packets: {report}')
        svqd.stop()
    return f'{PACKETS} packets there and back, {1e9 / report["ns_per_buffer"]:.0f} a second'


def switches(ranges: int, vm: VdpaVm) -> str:
    """Switches under traffic, with the guest's memory in so many pieces."""
    with vm.device('vdpa0', 'vdpasim_net') as path:
        svqd = vdpa_bench.start_svqd(vm, 'net0', path, options=',mode=auto')
        report = vdpa_bench.run(vm, *GUEST, '--switches', SWITCHES, '--ranges', ranges,
                                timeout_s=60 + SWITCHES)
        svqd.stop()
    check(report['buffers'] >= SWITCHES, f'not enough traffic: {report}')
    found = list(SWITCH.finditer(svqd.log))
    check(len(found) == SWITCHES, f'svqd says {len(found)} switches, not {SWITCHES}')
    modes = [match[1] for match in found]
    check(modes == ['shadow', 'passthrough'] * (SWITCHES // 2), f'not in turns: {modes}')
    return (f'{SWITCHES} switches, {report["buffers"]} packets; us, median and 99th percentile: ' +
            ', '.join(f'{phase} {percentiles(found, phase)}' for phase in PHASES))


def mappings(vm: VdpaVm) -> str:
    """What the number of mappings does to a switch, and to who makes them anew."""
    found = {}
    with vm.device('vdpa0', 'vdpasim_net') as path:
        for n in MAPPINGS:
            output = vm.run(f'vdpa-mappings-bench {path} {n} {ROUNDS}', timeout_s=120)
            found[n] = json.loads(output.splitlines()[-1])
    most, least = found[MAPPINGS[-1]], found[MAPPINGS[0]]
    check(most['restart_us'] > 10 * most['switch_us'],
          f'with {MAPPINGS[-1]} mappings a switch is not ten times as fast as a restart: {found}')
    check(most['restart_us'] - least['restart_us'] > 10 * (most['switch_us'] - least['switch_us']),
          f'a switch grows with the mappings: {found}')
    return 'us of a switch, and of a restart that maps anew: ' + ', '.join(
        f'{n} mappings: {report["switch_us"]}, {report["restart_us"]}' for n, report in found.items())


def percentiles(found: list[re.Match[str]], phase: str) -> str:
    """The median and the 99th percentile of the time of a phase."""
    times = sorted(int(match[phase]) for match in found)
    return f'{times[len(times) // 2]} {times[min(len(times) * 99 // 100, len(times) - 1)]}'


def main() -> int:
    cases = [(f'{mode}: all packets come back', functools.partial(traffic, mode))
             for mode in ('shadow', 'passthrough')]
    cases += [(f'{SWITCHES} switches with {ranges} mapping{"s" if ranges > 1 else ""}',
               functools.partial(switches, ranges)) for ranges in (1, 100)]
    cases.append((f'a switch with {MAPPINGS[-1]} mappings maps none', mappings))
    return vdpa_vm.run_cases(cases, programs=[BUILD / 'tests/bench/vdpa-mappings-bench'])


if __name__ == '__main__':
    sys.exit(main())
