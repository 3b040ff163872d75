# SPDX-License-Identifier: BSD-3-Clause
"""What a test's Linux guest boots: Debian's kernel, and an initramfs with the test's script.

How it works: the kernel for QEMU is taken out of Debian's package.  User Mode Linux is an installed
program with modules beside it.  The initramfs holds busybox and ethtool from this machine, the
virtio modules in the order that their own `depends` lists ask for, /init, and the script.

In the guest /init brings up eth0 as 192.168.9.2/24 with the neighbour 192.168.9.1 at
02:00:00:00:00:01, runs the script, prints its status and powers off.  Each NAME=VALUE on the
kernel's command line is a variable of the script.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import debian
from debian import ImageError
from initramfs import Initramfs
from svqd import BUILD

PROGRAMS = BUILD / 'tests' / 'guest'
INIT = Path(__file__).parents[1] / 'guest' / 'init'

# The kernel for virtual machines of clouds: smaller, and virtio is all that it has to know.
KERNEL_PACKAGE = 'linux-image-cloud-amd64'
UML_PROGRAM = 'linux.uml'
UML_MODULES = Path('/usr/lib/uml/modules')
MODULES = {'qemu': ('virtio_pci', 'virtio_net'), 'uml': ('virtio_net',)}


def kernel() -> Path:
    """The kernel that QEMU boots."""
    return debian.only(_kernel_package() / 'boot', 'vmlinuz-*')


def uml() -> Path:
    """User Mode Linux: a kernel that is a program."""
    return debian.program(UML_PROGRAM)


def program(name: str) -> Path:
    """A static program of tests/guest, to be given to write_initramfs()."""
    path = PROGRAMS / name
    if not path.exists():
        raise ImageError(f'{path} is not built')
    return path


def write_initramfs(path: Path, kind: str, script: str, programs: Iterable[Path] = (),
                    modules: Iterable[str] = ()) -> Path:
    """Write an initramfs for a guest of `kind` 'qemu' or 'uml' that runs `script` with busybox's sh
    and has `programs`, by their base names, in its path, and `modules` besides its own; the same
    `path`."""
    image = Initramfs()
    for extra in (debian.program('ethtool'), *programs):
        image.add_program(extra)
    image.add_modules(_module_directory(kind), (*MODULES[kind], *modules))
    image.add_file('init', INIT.read_bytes(), executable=True)
    image.add_file('script', script.encode())
    return image.write(path)


def _kernel_package() -> Path:
    """The unpacked kernel package; fetched when it is not there."""
    def unpack(archive: debian.Archive, directory: Path) -> None:
        archive.unpack([archive.depends(KERNEL_PACKAGE, r'linux-image-\S+')], directory)

    return debian.make_cached('kernel', unpack)


def _module_directory(kind: str) -> Path:
    return (debian.only(_kernel_package() / 'lib' / 'modules', '*') if kind == 'qemu' else
            debian.only(UML_MODULES, '*'))
