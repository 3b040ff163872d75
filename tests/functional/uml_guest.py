# SPDX-License-Identifier: BSD-3-Clause
"""User Mode Linux with a network card served over vhost-user: a second front end, not QEMU's.

Here it is Linux itself that speaks vhost-user; unlike with QEMU the device's control queue, too, is
a ring in the guest's memory that the other side has to serve.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import guest_image
from guest import Guest

MEMORY_MB = 128
VIRTIO_ID_NET = 1
XSTATE_LIBRARY = guest_image.PROGRAMS / 'uml-xstate.so'


class UmlGuest(Guest):
    """A guest with one CPU; the number of queue pairs is the device's."""

    def __init__(self, socket: Path, initramfs: Path, log: Path,
                 variables: Mapping[str, str] | None = None):
        """`variables` become variables of the script."""
        environment = {'TMPDIR': '/dev/shm'}  # its memory is an executable file there
        if XSTATE_LIBRARY.exists():  # without it, it runs on CPUs that it knows all of
            environment['LD_PRELOAD'] = str(XSTATE_LIBRARY)
        super().__init__(
            [str(guest_image.uml()), f'mem={MEMORY_MB}M', f'initrd={initramfs}', 'con=null',
             'ssl=null', 'con0=fd:0,fd:1', 'quiet', 'panic=1', 'ipv6.disable=1',
             f'virtio_uml.device={socket}:{VIRTIO_ID_NET}',
             *(f'{name}={value}' for name, value in (variables or {}).items())], log, environment)
