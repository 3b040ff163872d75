# SPDX-License-Identifier: BSD-3-Clause
"""A guest under test: a process whose console a test reads line by line and can write to.

How it works: the process leads a session of its own, so that ending its group ends all of it and
nothing else.  One thread copies the console to a log and to a list of lines.  What the test has to
know the guest says in lines with "GUEST: ", which wait_for() takes one after the other.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 20.0
REPORT = 'GUEST: '


class GuestError(RuntimeError):
    """The guest did not do what it should."""


class Guest:
    """One guest process."""

    def __init__(self, command: Sequence[str], log: Path, environment: Mapping[str, str]):
        """Start it; `environment` comes on top of ours."""
        self.log = log
        self.started = time.monotonic()
        self._lines: list[str] = []
        self._taken = 0
        self._changed = threading.Condition()
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            start_new_session=True, env=os.environ | environment)
        self._reader = threading.Thread(target=self._copy_console, daemon=True)
        self._reader.start()

    def _copy_console(self) -> None:
        assert self.process.stdout
        with open(self.log, 'wb') as log, self.process.stdout as console:
            for line in console:
                log.write(line)
                log.flush()
                with self._changed:
                    self._lines.append(line.decode(errors='replace').strip())
                    self._changed.notify_all()
        with self._changed:
            self._changed.notify_all()

    def wait_up(self) -> float:
        """Wait until the guest is about to run the test's script; the seconds since its start."""
        self.wait_for('up ', START_TIMEOUT_S)
        return time.monotonic() - self.started

    def wait_for(self, pattern: str, timeout_s: float) -> re.Match[str]:
        """The next report that matches `pattern`; those before it are not looked at again."""
        expression = re.compile(REPORT + pattern)
        deadline = time.monotonic() + timeout_s
        with self._changed:
            while True:
                for number in range(self._taken, len(self._lines)):
                    match = expression.search(self._lines[number])
                    if match:
                        self._taken = number + 1
                        return match
                if not self._reader.is_alive():
                    raise GuestError(f'the guest ended and never said {pattern!r}')
                left_s = deadline - time.monotonic()
                if left_s <= 0:
                    raise GuestError(f'the guest did not say {pattern!r} within {timeout_s:.0f} s')
                self._changed.wait(min(left_s, 0.5))

    def send(self, line: str) -> None:
        """Type a line at the guest's console."""
        assert self.process.stdin
        self.process.stdin.write(line.encode() + b'\n')
        self.process.stdin.flush()

    def wait_end(self, timeout_s: float = STOP_TIMEOUT_S) -> None:
        """Wait until the script reported success and the guest powered off by itself."""
        self.wait_for('status 0$', timeout_s)
        try:
            status = self.process.wait(timeout_s)
        except subprocess.TimeoutExpired as late:
            raise GuestError(f'the guest still runs {timeout_s:.0f} s after its script') from late
        if status:
            raise GuestError(f'the guest ended with status {status}')

    def close(self) -> int:
        """End the guest, whatever it is doing, with all of its processes; its exit status."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        self._reader.join()
        if self.process.stdin:
            self.process.stdin.close()
        return self.process.returncode

    def log_tail(self, lines: int = 40) -> str:
        """The end of what the guest printed."""
        with self._changed:
            return '\n'.join(self._lines[-lines:])
