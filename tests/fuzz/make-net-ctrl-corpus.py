#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Writes the seeds of tests/fuzz/corpus/net-ctrl and net-ctrl-state: commands that drivers send.

The formats are at the top of fuzz-net-ctrl.c and fuzz-net-ctrl-state.c.  Files that a fuzzing run adds
have other names and stay.
"""
import hashlib
import os
import struct
import sys

LIMITS = bytes([0x40, 7, 40, 7])
TEXT_LIMITS = bytes([0xC0, 7, 40, 7])

MAC = bytes.fromhex("020000000001")
RSS = struct.pack("<IHH4HHB", 0x3F, 3, 0, 0, 1, 2, 3, 4, 40) + bytes(range(40))

COMMANDS = {
    "rx-promisc": b"\x00\x00\x01",
    "rx-nobcast": b"\x00\x05\x00",
    "mac-table-set": b"\x01\x00" + struct.pack("<I", 1) + MAC + struct.pack("<I", 2) + 2 * MAC,
    "mac-addr-set": b"\x01\x01" + MAC,
    "vlan-add": b"\x02\x00" + struct.pack("<H", 5),
    "vlan-del": b"\x02\x01" + struct.pack("<H", 4094),
    "announce-ack": b"\x03\x00",
    "mq-vq-pairs-set": b"\x04\x00" + struct.pack("<H", 4),
    "mq-rss-config": b"\x04\x01" + RSS,
    "mq-hash-config": b"\x04\x02" + struct.pack("<IQB", 0x3F, 0, 4) + b"key.",
    "guest-offloads-set": b"\x05\x00" + struct.pack("<Q", 0x782),
    "notf-coal-tx-set": b"\x06\x00" + struct.pack("<II", 15, 10),
    "notf-coal-rx-set": b"\x06\x01" + struct.pack("<II", 15, 10),
    "notf-coal-vq-set": b"\x06\x02" + struct.pack("<HHII", 3, 0, 16, 32),
    "notf-coal-vq-get": b"\x06\x03" + struct.pack("<HH", 3, 0),
    "unknown": b"\x08\x00",
}

TEXTS = {
    "text-mac-table": "MAC_TABLE_SET 02:00:00:00:00:01 / 33:33:00:00:00:01",
    "text-rss": "MQ_RSS_CONFIG types=0x3f unclassified=0 table=0,1,2,3 transmit=4 key=6d5a",
    "text-hash": "MQ_HASH_CONFIG types=0x3f key=6d5a",
    "text-coal": "NOTF_COAL_VQ_SET vq=3 packets=16 usecs=32",
    "text-offloads": "GUEST_OFFLOADS_SET 0x782",
    "text-rx": "RX_ALLMULTI off",
}

# What a state is saved as: its commands in the order of a restore.
SAVED = ["mac-table-set", "mac-addr-set", "mq-vq-pairs-set", "mq-hash-config", "guest-offloads-set",
         "rx-promisc", "rx-nobcast", "vlan-add", "notf-coal-tx-set", "notf-coal-vq-set"]


def field(kind, data):
    return struct.pack("<II", kind, len(data)) + data


def saved(fields):
    data = b"svqdctrl" + struct.pack("<II", 1, 16 + len(fields) + 32) + fields
    return data + hashlib.sha256(data).digest()


def write(folder, name, data):
    folder = os.path.join(os.path.dirname(os.path.abspath(__file__)), "corpus", folder)
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, name), "wb") as f:
        f.write(data)


def main():
    for name, data in COMMANDS.items():
        write("net-ctrl", name, LIMITS + data)
        write("net-ctrl-state", "field-" + name, b"\x02" + field(1, data))
    for name, text in TEXTS.items():
        write("net-ctrl", name, TEXT_LIMITS + text.encode())
    fields = b"".join(field(1, COMMANDS[name]) for name in SAVED) + field(2, b"\x08\x01")
    commands = b"".join(struct.pack("<H", len(c)) + c for c in COMMANDS.values())
    write("net-ctrl-state", "saved", b"\x00" + saved(fields))
    write("net-ctrl-state", "saved-empty", b"\x00" + saved(b""))
    write("net-ctrl-state", "sealed", b"\x01" + saved(fields))
    write("net-ctrl-state", "fields", b"\x02" + fields)
    write("net-ctrl-state", "commands", b"\x03" + commands)
    write("net-ctrl-state", "commands-backwards", b"\x03" + b"".join(
        struct.pack("<H", len(c)) + c for c in reversed(COMMANDS.values())))


if __name__ == "__main__":
    sys.exit(main())
