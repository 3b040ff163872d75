#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""The kernel's simulated disk behind svqd: what is written is what is read.

How it works: svq-bench is a guest's block driver that knows what it wrote to each sector last, and
compares.  vdpa_sim_blk is a disk in memory.

SVQD_BLK_REQUESTS=100000 in the environment, and --timeout-multiplier=10: the long run.
"""

from __future__ import annotations

import functools
import os
import sys

import vdpa_bench
import vdpa_vm
from tap import check
from vdpa_vm import VdpaVm

REQUESTS = int(os.environ.get('SVQD_BLK_REQUESTS', 10_000))


def disk(mode: str, vm: VdpaVm) -> str:
    """Writes, reads and flushes in one mode."""
    with vm.device('vdpa0', 'vdpasim_blk') as path:
        svqd = vdpa_bench.start_svqd(vm, 'blk0', path, options=f',mode={mode}')
        report = vdpa_bench.run(vm, 'blk', 'blk0', '--event-idx', 'off', '--requests', REQUESTS,
                                timeout_s=60 + REQUESTS // 500)
        svqd.stop()
    # Each write is read back, and there are flushes and others between.
    check(report['buffers'] > 2 * REQUESTS, f'not {REQUESTS} requests written and read: {report}')
    return f'{report["buffers"]} requests, {1e9 / report["ns_per_buffer"]:.0f} a second'


def main() -> int:
    return vdpa_vm.run_cases([(f'{mode}: all requests are right', functools.partial(disk, mode))
                              for mode in ('shadow', 'passthrough')])


if __name__ == '__main__':
    sys.exit(main())
