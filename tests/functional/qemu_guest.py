# SPDX-License-Identifier: BSD-3-Clause
"""QEMU with a Linux guest whose network card is served over vhost-user.

The guest is emulated, not virtualized, so it runs wherever QEMU does.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import guest_image
from guest import Guest

PROGRAM = os.environ.get('QEMU_SYSTEM_X86_64', 'qemu-system-x86_64')
MEMORY_MB = 192

# No waiting, no protecting an emulated CPU from itself, no packet that nobody asked for.  On a busy
# machine the guest measures its TSC wrong by a factor: its clock is one that needs no measuring.
KERNEL_PARAMETERS = ('console=ttyS0 quiet panic=-1 mitigations=off tsc=reliable clocksource=acpi_pm '
                     'ipv6.disable=1')


class QemuGuest(Guest):
    """A guest with a CPU for each of its `pairs` queue pairs."""

    def __init__(self, socket: Path, initramfs: Path, log: Path, *, pairs: int, packed: bool,
                 variables: Mapping[str, str] | None = None, memory_mb: float = MEMORY_MB,
                 options: Sequence[str] = ()):
        """`variables` become variables of the script; `options` are more options of QEMU's."""
        super().__init__([*command_line(socket, initramfs, pairs, packed, variables or {},
                                        memory_mb), *options], log, {})


def command_line(socket: Path, initramfs: Path, pairs: int, packed: bool,
                 variables: Mapping[str, str], memory_mb: float) -> list[str]:
    """QEMU's command line; the console is on its standard input and output."""
    assignments = [f'{name}={value}' for name, value in variables.items()]
    return [
        PROGRAM, '-accel', 'tcg,thread=multi', '-machine', 'q35,memory-backend=memory',
        '-cpu', 'max', '-smp', str(pairs), '-m', f'{memory_mb}M', '-nodefaults', '-no-reboot',
        '-display', 'none', '-serial', 'stdio',
        # A vhost-user device works on the guest's memory: it has to be shared.
        '-object', f'memory-backend-memfd,id=memory,size={memory_mb}M,share=on',
        '-chardev', f'socket,id=vhost,path={socket}',
        '-netdev', f'vhost-user,id=net,chardev=vhost,queues={pairs}',
        # vectors=0, which is INTx: with MSI-X and no KVM, QEMU 7.2 crashes when vhost-user starts.
        '-device', f'virtio-net-pci,netdev=net,mac=02:00:00:00:00:02,romfile=,vectors=0,'
                   f'mq={"on" if pairs > 1 else "off"},packed={"on" if packed else "off"}',
        '-kernel', str(guest_image.kernel()), '-initrd', str(initramfs),
        '-append', ' '.join([KERNEL_PARAMETERS, *assignments])]
