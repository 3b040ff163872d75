# SPDX-License-Identifier: BSD-3-Clause
"""QMP, QEMU's monitor: commands and their answers, and events."""

from __future__ import annotations

import json
import socket
import time

ANSWER_TIMEOUT_S = 30.0


class QmpError(RuntimeError):
    """QEMU refused a command, said nothing in time, or is gone."""


class Qmp:
    """A connection to one monitor."""

    def __init__(self, connection: socket.socket):
        self._socket = connection
        self._received = b''
        self._events: list[dict] = []
        self._read(time.monotonic() + ANSWER_TIMEOUT_S)  # the greeting
        self('qmp_capabilities')

    def __call__(self, command: str, **arguments: object) -> dict:
        """Run one command; what it returns."""
        request = {'execute': command, 'arguments': arguments}
        self._socket.sendall((json.dumps(request) + '\n').encode())
        deadline = time.monotonic() + ANSWER_TIMEOUT_S
        while True:
            answer = self._read(deadline)
            if 'event' in answer:
                self._events.append(answer)
            elif 'error' in answer:
                raise QmpError(f"{command}: {answer['error']['desc']}")
            else:
                return answer['return']

    def wait_event(self, name: str, timeout_s: float) -> dict:
        """The data of the next event of that name; those before it are forgotten."""
        deadline = time.monotonic() + timeout_s
        while True:
            while self._events:
                event = self._events.pop(0)
                if event['event'] == name:
                    return event.get('data', {})
            self._events.append(self._read(deadline))

    def close(self) -> None:
        """Close the connection; QEMU goes on."""
        self._socket.close()

    def _read(self, deadline: float) -> dict:
        """The next message: one line."""
        while b'\n' not in self._received:
            self._socket.settimeout(max(deadline - time.monotonic(), 0.001))
            try:
                data = self._socket.recv(65536)
            except TimeoutError as late:
                raise QmpError('QEMU did not say what it should in time') from late
            if not data:
                raise QmpError('QEMU ended')
            self._received += data
        line, _, self._received = self._received.partition(b'\n')
        return json.loads(line)
