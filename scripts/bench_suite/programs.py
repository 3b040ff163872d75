# SPDX-License-Identifier: BSD-3-Clause
"""Runs of the programs that measure, and the report of each as a dictionary."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

TIMEOUT_S = 120
MISSING = 77    # status of a program that lacks something


class Unavailable(Exception):
    """It cannot run on this machine or in this build; the message says what is missing."""


class Failed(Exception):
    """It ran and went wrong."""


@dataclass(frozen=True)
class Run:
    """A program that prints one JSON object."""
    program: Path
    arguments: tuple[str, ...]
    cpu: int | None = None      # the only CPU that it may use
    callgrind: bool = False     # counts instructions, which go into the report
    seeded: bool = False        # takes --seed: each round has one of its own

    def report(self, round_number: int) -> dict:
        """Run it."""
        if not self.program.exists():
            raise Unavailable(f'{self.program.name} is not built')
        command = [str(self.program), *self.arguments]
        if self.seeded:
            command += ['--seed', str(round_number + 1)]
        if self.callgrind:
            return count_instructions(command)
        if self.cpu is not None:
            command = ['taskset', '-c', str(self.cpu), *command]
        return run_json(command)


def run_json(command: list[str], timeout_s: int = TIMEOUT_S) -> dict:
    """The object that a command prints."""
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, text=True, timeout=timeout_s, check=False)
    except FileNotFoundError as error:
        raise Unavailable(f'{command[0]} is not installed') from error
    except subprocess.TimeoutExpired as error:
        raise Failed(f'{" ".join(command)}: not done after {timeout_s} s') from error
    words = done.stderr.strip().partition('\n')[0]
    if done.returncode == MISSING or 'Unknown option' in words or 'is no mode' in words:
        raise Unavailable(words)
    if done.returncode != 0:
        raise Failed(f'{" ".join(command)}: status {done.returncode}: {words or done.stdout}')
    try:
        return json.loads(done.stdout)
    except ValueError as error:
        raise Failed(f'{" ".join(command)}: prints no JSON: {done.stdout[:200]}') from error


def count_instructions(command: list[str]) -> dict:
    """Run svq-bench engine under callgrind; 'instructions' in the report are those of a buffer."""
    for tool in ('valgrind', 'objcopy'):
        if not shutil.which(tool):
            raise Unavailable(f'{tool} is not installed')
    with tempfile.TemporaryDirectory(prefix='svq-bench-') as name:
        program, counts = Path(name) / 'program', Path(name) / 'counts'
        # Not every valgrind understands every compiler's debug information, nor is it needed.
        subprocess.run(['objcopy', '--strip-debug', command[0], program], check=True)
        report = run_json(['valgrind', '-q', '--tool=callgrind',
                           '--toggle-collect=bench_engine_measured',
                           f'--callgrind-out-file={counts}', str(program), *command[1:]])
        totals = re.search(r'^totals: (\d+)', counts.read_text(), re.MULTILINE)
    if totals is None or int(totals[1]) == 0:
        raise Unavailable('callgrind did not see bench_engine_measured()')
    report['instructions'] = int(totals[1]) / report['buffers']
    return report
