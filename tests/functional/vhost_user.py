# SPDX-License-Identifier: BSD-3-Clause
"""A VMM with many queue pairs, as svqd sees it: a vhost-user front end, and the guest's driver.

How it works: the guest's memory is one memory file with a page-aligned share for each virtqueue:
its split ring, and one buffer.  Queue 2N receives, 2N + 1 transmits.  The driver has at most one
buffer in flight in a ring, so that descriptor 0 is all it needs, and waits by sleeping on the call
descriptor.
"""

from __future__ import annotations

import array
import mmap
import os
import select
import socket
import struct
from pathlib import Path

WAIT_S = 20.0
GPA = 0x100000
USER = 0x7F0000000000       # what the VMM calls the guest's address 0
SHARE = 0x4000              # of a virtqueue, bytes
AVAIL, USED, BUFFER = 0x1000, 0x2000, 0x3000
MAX_SIZE = 256              # descriptors; the driver area ends before USED then

VERSION_1, PROTOCOL_FEATURES, MQ, MRG_RXBUF = 1 << 32, 1 << 30, 1 << 22, 1 << 15
VERSION_FLAG, REPLY_FLAG = 1, 4
PROTOCOL_MQ, PROTOCOL_REPLY_ACK = 1 << 0, 1 << 3

GET_FEATURES, SET_FEATURES, SET_OWNER, SET_MEM_TABLE = 1, 2, 3, 5
SET_VRING_NUM, SET_VRING_ADDR, SET_VRING_BASE, GET_VRING_BASE = 8, 9, 10, 11
SET_VRING_KICK, SET_VRING_CALL = 12, 13
SET_PROTOCOL_FEATURES, SET_VRING_ENABLE = 16, 18


class Ring:
    """A virtqueue as the guest's driver knows it."""

    def __init__(self, index: int):
        self.share = index * SHARE
        self.kick, self.call = (os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK) for _ in range(2))
        self.base = 0
        self.added = 0

    def close(self) -> None:
        os.close(self.kick)
        os.close(self.call)


class Vmm:
    """One connection to svqd, with `queues` rings of `size` descriptors."""

    def __init__(self, path: Path, queues: int, size: int = MAX_SIZE):
        self.size = size
        self.rings = [Ring(index) for index in range(queues)]
        fd = os.memfd_create('guest')
        os.truncate(fd, queues * SHARE)
        self.memory = mmap.mmap(fd, queues * SHARE)
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(WAIT_S)
        self.socket.connect(str(path))
        self._begin(fd)
        os.close(fd)

    def close(self) -> None:
        """Disconnect."""
        self.socket.close()
        self.memory.close()
        for ring in self.rings:
            ring.close()

    def _send(self, request: int, payload: bytes = b'', fds: tuple[int, ...] = ()) -> None:
        message = struct.pack('=III', request, VERSION_FLAG, len(payload)) + payload
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array('i', fds))] if fds else []
        self.socket.sendmsg([message], rights)

    def _receive(self, n: int) -> bytes:
        data = b''
        while len(data) < n:
            part = self.socket.recv(n - len(data))
            if not part:
                raise ConnectionError('svqd has closed the connection')
            data += part
        return data

    def _answer(self, request: int) -> bytes:
        got, flags, n = struct.unpack('=III', self._receive(12))
        if got != request or not flags & REPLY_FLAG:
            raise ConnectionError(f'message {got}, flags {flags:#x}, is no reply to {request}')
        return self._receive(n)

    def _ask(self, request: int, payload: bytes = b'') -> bytes:
        self._send(request, payload)
        return self._answer(request)

    def _state(self, request: int, index: int, value: int) -> None:
        self._send(request, struct.pack('=II', index, value))

    def _begin(self, memory: int) -> None:
        offered = struct.unpack('=Q', self._ask(GET_FEATURES))[0]
        features = offered & (VERSION_1 | MRG_RXBUF | MQ | PROTOCOL_FEATURES)
        self._send(SET_PROTOCOL_FEATURES, struct.pack('=Q', PROTOCOL_MQ | PROTOCOL_REPLY_ACK))
        self._send(SET_OWNER)
        self._send(SET_FEATURES, struct.pack('=Q', features))
        region = struct.pack('=QQQQ', GPA, len(self.memory), USER + GPA, 0)
        self._send(SET_MEM_TABLE, struct.pack('=II', 1, 0) + region, (memory,))

    def start(self) -> None:
        """Start all rings where they were stopped.  Nothing is waited for."""
        for index, ring in enumerate(self.rings):
            user = USER + GPA + ring.share
            self._state(SET_VRING_NUM, index, self.size)
            self._state(SET_VRING_BASE, index, ring.base)
            self._send(SET_VRING_ADDR, struct.pack('=IIQQQQ', index, 0, user, user + USED,
                                                   user + AVAIL, 0))
            self._send(SET_VRING_CALL, struct.pack('=Q', index), (ring.call,))
            self._send(SET_VRING_KICK, struct.pack('=Q', index), (ring.kick,))
        for index in range(len(self.rings)):
            self._state(SET_VRING_ENABLE, index, 1)

    def stop(self) -> None:
        """Stop all rings; when this returns nobody works them any more."""
        for index, ring in enumerate(self.rings):
            answer = self._ask(GET_VRING_BASE, struct.pack('=II', index, 0))
            ring.base = struct.unpack('=II', answer)[1]

    def _field(self, ring: Ring, offset: int) -> int:
        return struct.unpack_from('<H', self.memory, ring.share + offset)[0]

    def add(self, index: int, writable: bool) -> None:
        """Put the ring's one buffer into it, and kick."""
        ring = self.rings[index]
        struct.pack_into('<QIHH', self.memory, ring.share, GPA + ring.share + BUFFER,
                         SHARE - BUFFER if writable else 128, 2 * writable, 0)
        place = ring.share + AVAIL + 4 + 2 * (ring.added % self.size)
        struct.pack_into('<H', self.memory, place, 0)
        ring.added = (ring.added + 1) & 0xFFFF
        struct.pack_into('<H', self.memory, ring.share + AVAIL + 2, ring.added)
        os.eventfd_write(ring.kick, 1)

    def wait_used(self, index: int) -> None:
        """Wait until the ring's buffer was used."""
        ring = self.rings[index]
        while self._field(ring, USED + 2) != ring.added:
            poll = select.poll()      # select() takes low descriptors only
            poll.register(ring.call, select.POLLIN)
            if not poll.poll(WAIT_S * 1000):
                raise TimeoutError(f'queue {index}: its buffer was not used in {WAIT_S:.0f} s')
            os.eventfd_read(ring.call)

    def echo(self, pair: int) -> None:
        """Send a packet on a pair and receive it there."""
        self.add(2 * pair, True)
        self.add(2 * pair + 1, False)
        self.wait_used(2 * pair + 1)
        self.wait_used(2 * pair)
