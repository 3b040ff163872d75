# SPDX-License-Identifier: BSD-3-Clause
"""svqd under test: a process with a log that listens, runs IOThreads, and ends when told to."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

BUILD = Path(os.environ.get('SVQD_BUILD', Path(__file__).parents[2] / 'build'))
START_TIMEOUT_S = 20.0
STOP_TIMEOUT_S = 5.0
ASK_AGAIN_S = 1.0


class SvqdError(RuntimeError):
    """svqd did not start or did not end as it should."""


@dataclass(frozen=True)
class IOThread:
    """What the kernel knows of an IOThread."""
    id: str
    tid: int
    cpu: int
    cpu_seconds: float


@dataclass(frozen=True)
class QueueStats:
    """One line of the table that svqd prints when it gets SIGUSR1."""
    index: int
    state: str
    iothread: str
    guest: str
    shadow: str
    buffers: int
    returned: int
    errors: int


STATS_HEADER = re.compile(r'^device +queue +state .*\n', re.MULTILINE)
QUEUE_LINE = re.compile(r'^\S+ +(?P<index>\d+) +(?P<state>[a-z]+) +(?P<iothread>\S+) +'
                        r'(?P<guest>split|packed)>(?P<shadow>split|packed) +'
                        r'(?P<counters>\d+(?: +\d+){11}) *\n', re.MULTILINE)


class Svqd:
    """One svqd process."""

    def __init__(self, arguments: list[str], log: Path, wrapper: tuple[str, ...] = (),
                 build: Path = BUILD):
        """`wrapper`: a program to run svqd with, which leaves svqd the process that we started."""
        self.log = log
        with open(log, 'wb') as output:
            self.process = subprocess.Popen([*wrapper, str(build / 'svqd'), *arguments],
                                            stdin=subprocess.DEVNULL, stdout=output, stderr=output)

    def wait_listening(self, socket: Path) -> None:
        """Wait until connecting to `socket` succeeds, without connecting: svqd has one client."""
        deadline = time.monotonic() + START_TIMEOUT_S
        while not _is_listening(socket):
            if self.process.poll() is not None:
                raise SvqdError(f'svqd ended with status {self.process.returncode}')
            if time.monotonic() > deadline:
                raise SvqdError(f'svqd does not listen on {socket} after {START_TIMEOUT_S:.0f} s')
            time.sleep(0.02)

    def iothreads(self) -> list[IOThread]:
        """The IOThreads, which are the threads named `IO <id>`, by id."""
        threads = []
        for task in Path(f'/proc/{self.process.pid}/task').iterdir():
            name = (task / 'comm').read_text().rstrip('\n')
            if name.startswith('IO '):
                # proc(5): fields 14, 15 and 39, counted behind the name in parentheses
                stat = (task / 'stat').read_text().rpartition(')')[2].split()
                ticks = int(stat[11]) + int(stat[12])
                threads.append(IOThread(name[3:], int(task.name), int(stat[36]),
                                        ticks / os.sysconf('SC_CLK_TCK')))
        return sorted(threads, key=lambda thread: thread.id)

    def queue_stats(self, queues: int) -> list[QueueStats]:
        """The counters of the first `queues` queues; a device may have more than are used."""
        start = self.log.stat().st_size
        deadline = time.monotonic() + STOP_TIMEOUT_S
        asked = 0.0
        while True:
            # GLib loses a signal that comes while the one before is being answered.
            if time.monotonic() - asked > ASK_AGAIN_S:
                self.process.send_signal(signal.SIGUSR1)
                asked = time.monotonic()
            lines = [_queue_stats(line) for line in QUEUE_LINE.finditer(self._printed(start))]
            lines = [line for line in lines if line.index < queues]
            if len(lines) >= queues:
                return lines[:queues]
            if time.monotonic() > deadline:
                raise SvqdError(f'svqd printed the counters of {len(lines)} queues, not {queues}')
            time.sleep(0.02)

    def state(self, device: str) -> list[str]:
        """What has become of a device by commands of its control queue: a line for each thing."""
        start = self.log.stat().st_size
        deadline = time.monotonic() + STOP_TIMEOUT_S
        asked, tables = 0.0, 0
        while True:
            text = self._printed(start)
            lines = state_lines(text, device)
            if lines is not None:
                return lines
            found = len(STATS_HEADER.findall(text))
            if found > tables or time.monotonic() - asked > ASK_AGAIN_S:
                self.process.send_signal(signal.SIGUSR1)
                asked, tables = time.monotonic(), found
            if time.monotonic() > deadline:
                raise SvqdError(f'svqd printed {found} tables in {STOP_TIMEOUT_S:.0f} s, not 2')
            time.sleep(0.02)

    def _printed(self, start: int) -> str:
        """What was printed behind the first `start` bytes."""
        with open(self.log, encoding='utf-8', errors='replace') as log:
            log.seek(start)
            return log.read()

    def close(self) -> int:
        """End svqd as a service manager does; its exit status."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired as late:
            self.process.kill()
            self.process.wait()
            raise SvqdError(f'svqd still runs {STOP_TIMEOUT_S:.0f} s after SIGTERM') from late

    def log_tail(self, lines: int = 40) -> str:
        """The end of what svqd printed."""
        return '\n'.join(self.log.read_text(errors='replace').splitlines()[-lines:])


def state_lines(text: str, device: str) -> list[str] | None:
    """The lines about a device's state behind the last table that is followed by another, so that
    all of them are there; None: there are no two tables."""
    tables = STATS_HEADER.split(text)[1:]
    if len(tables) < 2:
        return None
    return re.findall(rf'^{re.escape(device)} state: (.*)\n', tables[-2], re.MULTILINE)


def _queue_stats(line: re.Match[str]) -> QueueStats:
    counters = [int(number) for number in line['counters'].split()]
    return QueueStats(int(line['index']), line['state'], line['iothread'], line['guest'],
                      line['shadow'], counters[0], counters[1], counters[-1])


def _is_listening(socket: Path) -> bool:
    # __SO_ACCEPTCON, the flag of a listening socket, is 0x10000.
    pattern = rf'^\S+ \S+ \S+ 00010000 \S+ \S+ \S+ {re.escape(str(socket))}$'
    return bool(re.search(pattern, Path('/proc/net/unix').read_text(), re.MULTILINE))
