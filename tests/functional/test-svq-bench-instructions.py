#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""What a buffer costs the engine: instructions, allocations, system calls.

How it works: callgrind counts the instructions of the two calls in which SVQ forwards and returns a
burst, and nothing else, because svq-bench tells it when to.  All checks, the mirror, the counters
and EVENT_IDX are in place, both peers ask to be notified once a burst, and addresses are random in
eight memory ranges.  The limits are those that the project set itself; a count does not depend on
what else the machine does.
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

# (guest, shadow, descriptors): instructions for each buffer
LIMITS = {
    ('split', 'split', 1): 240,
    ('split', 'packed', 1): 300,
    ('packed', 'split', 1): 300,
    ('packed', 'packed', 1): 310,
    ('split', 'split', 3): 480,
    ('split', 'packed', 3): 540,
    ('packed', 'split', 3): 540,
    ('packed', 'packed', 3): 560,
}


def measure(guest: str, shadow: str, descriptors: int) -> str:
    """One test case."""
    with tempfile.TemporaryDirectory(prefix='svq-bench-instructions-') as name:
        program, counts = Path(name) / 'svq-bench', Path(name) / 'callgrind.out'
        # Not every valgrind understands every compiler's debug information, nor is it needed.
        subprocess.run(['objcopy', '--strip-debug', BUILD / 'svq-bench', program], check=True)
        command = ['valgrind', '--tool=callgrind', '--collect-atstart=no',
                   f'--callgrind-out-file={counts}', program, 'engine',
                   '--guest', guest, '--shadow', shadow, '--descriptors', str(descriptors),
                   '--ranges', '8', '--burst', str(BURST), '--event-idx', 'on',
                   '--buffers', str(BUFFERS), '--json']
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
    limit = LIMITS[guest, shadow, descriptors]
    remark = (f'{instructions:.1f} instructions a buffer (limit {limit}), '
              f'{report["allocations"]} allocations, '
              f'{report["syscalls"] / report["bursts"]:.2f} system calls a burst')
    check(instructions <= limit, remark)
    check(report['allocations'] == 0, remark)
    # A kick to the device and a call to the guest.
    check(report['bursts'] == BUFFERS // BURST, f'{report["bursts"]} bursts')
    check(report['syscalls'] <= 2 * report['bursts'], remark)
    return remark


def main() -> int:
    if not shutil.which('valgrind'):
        return tap.skip_all('valgrind is not installed (scripts/bootstrap installs it)')
    return tap.run([(f'{guest} > {shadow}, {descriptors} descriptors',
                     lambda setting=(guest, shadow, descriptors): measure(*setting))
                    for guest, shadow, descriptors in LIMITS])


if __name__ == '__main__':
    sys.exit(main())
