# SPDX-License-Identifier: BSD-3-Clause
"""A shell in a guest: the test gives it one command after the other, and gets each one's status
and output.

The shell is busybox's, which prefers its own programs to others of the same name: those want
their whole path.
"""

from __future__ import annotations

import re

from guest import REPORT, Guest, GuestError

COMMAND_TIMEOUT_S = 20.0

# A guest's script.  Each command has a shell of its own; an empty line ends the guest.
SCRIPT = f"""\
while read -r line && [ "$line" ]; do
    sh -c "$line" >/tmp/output 2>&1
    status=$?
    sed 's/^/{REPORT}output /' /tmp/output
    echo "{REPORT}done $status"
done
"""


class GuestShell:
    """The shell of a guest that runs SCRIPT."""

    def __init__(self, guest: Guest):
        self.guest = guest

    def try_run(self, command: str, timeout_s: float = COMMAND_TIMEOUT_S) -> tuple[int, str]:
        """Run one command line; its status, and what it printed."""
        self.guest.send(command)
        output = []
        while True:
            report = self.guest.wait_for('(output|done) ?(.*)', timeout_s)
            if report[1] == 'done':
                return int(report[2]), '\n'.join(output)
            output.append(report[2])

    def run(self, command: str, timeout_s: float = COMMAND_TIMEOUT_S) -> str:
        """Run a command line that has to end well; what it printed."""
        status, output = self.try_run(command, timeout_s)
        if status:
            raise GuestError(f'status {status} of: {command}\n{output}')
        return output

    def find(self, command: str, pattern: str) -> str:
        """The first group of `pattern` in what a command prints."""
        output = self.run(command)
        found = re.search(pattern, output, re.MULTILINE)
        if not found:
            raise GuestError(f'no {pattern!r} in what {command!r} prints:\n{output}')
        return found[1]

    def end(self) -> None:
        """Let the guest end, which it has to do well."""
        self.guest.send('')
        self.guest.wait_end()
