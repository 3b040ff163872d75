#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""What a buffer costs the engine: instructions, allocations, system calls.

How it works: callgrind counts the instructions of the two calls in which SVQ forwards and returns a
burst, and nothing else, because svq-bench tells it when to.  All checks, the mirror, the counters
and EVENT_IDX are in place, both peers ask to be notified once a burst, and addresses are random in
eight memory ranges.  A count does not depend on what else the machine does.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import tap
from svqd import BUILD
from tap import check

BUFFERS = 20_000
BURST = 32
RUN_TIMEOUT_S = 120

# What is measured, and how many instructions a buffer may take, split > split, split > packed,
# packed > split and packed > packed: a little more than it does, so that a slip is noticed.
LIMITS = {
    '--descriptors=1': (160, 180, 190, 210),
    '--descriptors=3': (410, 440, 440, 470),
    '--burst=1': (425, 500, 525, 575),
    '--ranges=1024': (160, 180, 190, 210),
    '--in-order': (160, 175, 190, 200),
    '--dirty-log --written=all --buffer-size=2048': (205, 225, 235, 260),
}
FORMATS = [('split', 'split'), ('split', 'packed'), ('packed', 'split'), ('packed', 'packed')]


def measure(guest: str, shadow: str, setting: str, limit: int) -> str:
    """One test case."""
    with tempfile.TemporaryDirectory(prefix='svq-bench-instructions-') as name:
        program, counts = Path(name) / 'svq-bench', Path(name) / 'callgrind.out'
        # Not every valgrind understands every compiler's debug information, nor is it needed.
        subprocess.run(['objcopy', '--strip-debug', BUILD / 'svq-bench', program], check=True)
        command = ['valgrind', '--tool=callgrind', '--toggle-collect=bench_engine_measured',
                   f'--callgrind-out-file={counts}', program, 'engine',
                   '--guest', guest, '--shadow', shadow, '--ranges', '8', '--burst', str(BURST),
                   '--event-idx', 'on', '--buffers', str(BUFFERS), '--json', *setting.split()]
        bench = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, text=True, timeout=RUN_TIMEOUT_S,
                               check=False)
        check(bench.returncode == 0, f'{bench.stdout}{bench.stderr}')
        totals = re.search(r'^totals: (\d+)', counts.read_text(), re.MULTILINE)
    check(totals is not None and int(totals[1]) > 0, 'callgrind counted nothing')
    assert totals
    report = json.loads(bench.stdout)
    check(report['buffers'] == BUFFERS and report['errors'] == 0, bench.stdout)

    instructions = int(totals[1]) / BUFFERS
    remark = (f'{instructions:.1f} instructions a buffer (limit {limit}), '
              f'{report["allocations"]} allocations, '
              f'{report["syscalls"] / report["bursts"]:.2f} system calls a burst')
    check(instructions <= limit, remark)
    check(report['allocations'] == 0, remark)
    # A kick to the device and a call to the guest.
    check(report['bursts'] == BUFFERS // report['burst'], f'{report["bursts"]} bursts')
    check(report['syscalls'] <= 2 * report['bursts'], remark)
    return remark


def main() -> int:
    if not shutil.which('valgrind'):
        return tap.skip_all('valgrind is not installed (scripts/bootstrap installs it)')
    return tap.run([(f'{guest} > {shadow}, {setting.replace("--", "")}',
                     lambda args=(guest, shadow, setting, limit): measure(*args))
                    for setting, limits in LIMITS.items()
                    for (guest, shadow), limit in zip(FORMATS, limits)])


if __name__ == '__main__':
    sys.exit(main())
