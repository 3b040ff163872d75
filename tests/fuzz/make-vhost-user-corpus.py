#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Writes the seeds of tests/fuzz/corpus/vhost-user-server: what real front ends send.

The format is at the top of fuzz-vhost-user-server.c.  Files that a fuzzing run adds have other
names and stay.
"""
import os
import struct
import sys

EVENT, MEMORY, PIPE, SOCKET = range(4)
NEED_REPLY = 8


def message(request, payload=b"", fds=0, kind=EVENT, flags=0):
    data = struct.pack("=III", request, 1 | flags, len(payload)) + payload
    out = b""
    while data:
        chunk, data = data[:255], data[255:]
        pump = 0 if data else 0x80
        out += bytes([fds | kind << 4 | pump, len(chunk)]) + chunk
        fds = 0
    return out


def u64(request, value, **kw):
    return message(request, struct.pack("=Q", value), **kw)


def state(request, index, num, **kw):
    return message(request, struct.pack("=II", index, num), **kw)


def table(*regions, **kw):
    payload = struct.pack("=II", len(regions), 0)
    payload += b"".join(struct.pack("=QQQQ", *r) for r in regions)
    return message(5, payload, fds=len(regions), kind=MEMORY, **kw)


def region(request, r, fds=1, **kw):
    return message(request, struct.pack("=QQQQQ", 0, *r), fds=fds, kind=MEMORY, **kw)


def config(request, offset, size, **kw):
    return message(request, struct.pack("=III", offset, size, 0) + bytes(size), **kw)


def ring(i, base=0, kind=EVENT, **kw):
    addr = 0x7F0000000000 + i * 0x4000
    return (state(8, i, 256, **kw) + state(10, i, base, **kw)
            + message(9, struct.pack("=IIQQQQ", i, 0, addr, addr + 0x2000, addr + 0x1000, 0), **kw)
            + u64(12, i, fds=1, **kw) + u64(13, i, fds=1, kind=kind, **kw))


def transfer(direction, kind, phase=0):
    return message(42, struct.pack("=II", direction, phase), fds=1, kind=kind)


FEATURES = 1 << 30 | 1 << 32 | 1 << 34
RAM = (0, 0x10000, 0x7F0000000000, 0)


def handshake(protocol, **kw):
    return (message(3) + message(1) + message(15) + u64(16, protocol)
            + u64(2, FEATURES, **kw))


SEEDS = {
    "virtio-user": handshake(0x10009) + u64(39, 0xB, flags=NEED_REPLY) + message(40)
        + table(RAM, flags=NEED_REPLY) + b"".join(ring(i, 0x8000) for i in (0, 2, 1, 3))
        + b"".join(state(18, i, 1) for i in range(4)) + u64(39, 0xF)
        + b"".join(state(18, i, 0) for i in range(4)) + b"".join(state(11, i, 0) for i in range(4)),
    "qemu": handshake(0x1A02B) + message(17) + message(21, fds=1, kind=SOCKET, flags=NEED_REPLY)
        + b"".join(state(18, i, 1) for i in range(4)) + table(RAM, flags=NEED_REPLY)
        + b"".join(ring(i, 0x80008000) + u64(14, i, fds=1) for i in range(4))
        + u64(39, 0xF) + state(11, 0, 0) + u64(39, 0) + state(11, 2, 0),
    "qemu-migration": handshake(0x1A02B) + table(RAM) + ring(0)
        + message(6, struct.pack("=QQ", 0x1800, 0), fds=1, kind=MEMORY)
        + message(7, fds=1) + u64(2, FEATURES, flags=NEED_REPLY) + state(11, 0, 0),
    "user-mode-linux": handshake(0x228, flags=NEED_REPLY)
        + message(21, fds=1, kind=PIPE, flags=NEED_REPLY)
        + u64(2, FEATURES & ~(1 << 30), flags=NEED_REPLY) + table(RAM, flags=NEED_REPLY)
        + b"".join(config(24, i, 1) for i in range(6))
        + b"".join(ring(i, kind=PIPE, flags=NEED_REPLY) for i in range(3)),
    "memory-slots": handshake(0x1A22B) + message(36)
        + b"".join(region(37, (i << 20, 0x4000, i << 20, 0x4000)) for i in range(3))
        + region(38, (1 << 20, 0x4000, 1 << 20, 0), fds=0) + message(34) + message(4),
    "config": handshake(0x1A22B) + config(25, 10, 4) + config(24, 0, 60) + config(24, 0, 255)
        + bytes([0x40, 0]),
    "state-saved": handshake(0x9A22B) + transfer(0, PIPE) + message(43) + transfer(0, SOCKET)
        + message(43) + transfer(0, MEMORY) + transfer(1, PIPE) + transfer(0, PIPE, phase=1),
    "state-loaded": handshake(0x9A22B) + transfer(1, SOCKET) + message(43) + message(43)
        + transfer(0, PIPE) + transfer(1, PIPE) + message(43) + message(1),
}


def main():
    folder = os.path.join(os.path.dirname(os.path.abspath(__file__)), "corpus", "vhost-user-server")
    os.makedirs(folder, exist_ok=True)
    for name, data in SEEDS.items():
        with open(os.path.join(folder, name), "wb") as f:
            f.write(data)


if __name__ == "__main__":
    sys.exit(main())
