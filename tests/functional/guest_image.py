# SPDX-License-Identifier: BSD-3-Clause
"""What a test's Linux guest boots: Debian's kernel, and an initramfs with the test's script.

How it works: the kernel for QEMU is taken out of Debian's package without installing it, which
would hook into the boot of this machine, and kept below the build directory.  User Mode Linux is
an installed program with modules beside it.  The initramfs is written here, in cpio's `newc`
format: busybox and ethtool from this machine, the virtio modules in the order that their own
`depends` lists ask for, /init, and the script.  That takes a tenth of a second, so each test has
its own.

In the guest /init brings up eth0 as 192.168.9.2/24 with the neighbour 192.168.9.1 at
02:00:00:00:00:01, runs the script, prints its status and powers off.  Each NAME=VALUE on the
kernel's command line is a variable of the script.
"""

from __future__ import annotations

import os
import re
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Iterable
from pathlib import Path

from svqd import BUILD

CACHE = BUILD / 'guest'
PROGRAMS = BUILD / 'tests' / 'guest'
INIT = Path(__file__).parents[1] / 'guest' / 'init'

# The kernel for virtual machines of clouds: smaller, and virtio is all that it has to know.
KERNEL_PACKAGE = 'linux-image-cloud-amd64'
UML_PROGRAM = 'linux.uml'
UML_MODULES = Path('/usr/lib/uml/modules')
MODULES = {'qemu': ('virtio_pci', 'virtio_net'), 'uml': ('virtio_net',)}

DOWNLOAD_TIMEOUT_S = 180.0


class ImageError(RuntimeError):
    """Something that the guest is made of is missing here; the message says what."""


def kernel() -> Path:
    """The kernel that QEMU boots."""
    return _only(_kernel_package() / 'boot', 'vmlinuz-*')


def uml() -> Path:
    """User Mode Linux: a kernel that is a program."""
    return _program(UML_PROGRAM)


def program(name: str) -> Path:
    """A static program of tests/guest, to be given to write_initramfs()."""
    path = PROGRAMS / name
    if not path.exists():
        raise ImageError(f'{path} is not built')
    return path


def write_initramfs(path: Path, kind: str, script: str, programs: Iterable[Path] = ()) -> Path:
    """Write an initramfs for a guest of `kind` 'qemu' or 'uml' that runs `script` with busybox's sh
    and has `programs`, by their base names, in its path; the same `path`."""
    archive = Archive()
    busybox = _program('busybox')
    archive.add_program(busybox)
    for applet in _output([str(busybox), '--list']).split():
        if applet != 'busybox':
            archive.add_link(f'bin/{applet}', 'busybox')
    for extra in (_program('ethtool'), *programs):
        archive.add_program(extra)
    order = _load_order(_module_directory(kind), MODULES[kind])
    for module in order:
        archive.add_file(f'modules/{module.name}', module.read_bytes())
    archive.add_file('modules/order', ''.join(f'{module.name}\n' for module in order).encode())
    for directory in ('proc', 'sys', 'dev', 'tmp'):
        archive.add_directory(directory)
    archive.add_file('init', INIT.read_bytes(), executable=True)
    archive.add_file('script', script.encode())
    path.write_bytes(archive.content())
    return path


class Archive:
    """A cpio archive in the `newc` format, which the kernel unpacks into its first root."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._names: set[str] = set()

    def add_directory(self, name: str) -> None:
        """A directory and those it is in, unless it is there."""
        for path in (*reversed(Path(name).parents[:-1]), Path(name)):
            if str(path) not in self._names:
                self._add(str(path), stat.S_IFDIR | 0o755, b'')

    def add_file(self, name: str, data: bytes, executable: bool = False) -> None:
        """A file, and the directory it is in."""
        self._add_below(name, stat.S_IFREG | (0o755 if executable else 0o644), data)

    def add_link(self, name: str, target: str) -> None:
        """A symbolic link."""
        self._add_below(name, stat.S_IFLNK | 0o777, target.encode())

    def add_program(self, path: Path) -> None:
        """A program of this machine, with the libraries it is linked to."""
        self.add_file(f'bin/{path.name}', path.read_bytes(), executable=True)
        for library in _libraries(path):
            name = str(library).lstrip('/')
            if name not in self._names:
                self.add_file(name, library.read_bytes(), executable=True)

    def content(self) -> bytes:
        """The archive as a whole."""
        return b''.join((*self._parts, _cpio_entry('TRAILER!!!', 0, b'', 0)))

    def _add_below(self, name: str, mode: int, data: bytes) -> None:
        if '/' in name:
            self.add_directory(str(Path(name).parent))
        self._add(name, mode, data)

    def _add(self, name: str, mode: int, data: bytes) -> None:
        self._names.add(name)
        self._parts.append(_cpio_entry(name, mode, data, len(self._names)))


def _cpio_entry(name: str, mode: int, data: bytes, inode: int) -> bytes:
    # magic, inode, mode, uid, gid, links, mtime, size, device and rdevice as major and minor,
    # size of the name with its NUL, checksum; name and data are padded to 4 bytes.
    fields = (inode, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name) + 1, 0)
    header = b'070701' + b''.join(b'%08x' % number for number in fields)
    return _padded(header + name.encode() + b'\0') + _padded(data)


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)


def _kernel_package() -> Path:
    """The unpacked kernel package; fetched when it is not there."""
    unpacked = CACHE / 'kernel'
    if unpacked.exists():
        return unpacked
    for tool in ('apt-get', 'apt-cache', 'dpkg-deb'):
        _program(tool)
    CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=CACHE) as name:
        work = Path(name)
        package = _fetch(KERNEL_PACKAGE, work)
        _output(['dpkg-deb', '--extract', str(package), str(work / 'kernel')])
        try:
            os.rename(work / 'kernel', unpacked)
        except OSError as error:
            if not unpacked.exists():  # else somebody else was faster
                raise ImageError(f'{unpacked}: {error}') from error
    return unpacked


def _fetch(meta_package: str, directory: Path) -> Path:
    """Download the package that a meta package stands for, as nobody in particular."""
    try:
        return _download(meta_package, directory, [])
    except ImageError:
        # This machine's lists may be older than what the archive still has, and are not ours to
        # renew: look with lists of our own.
        own_lists = ['-o', f'Dir::State::Lists={directory / "lists"}',
                     '-o', f'Dir::Cache={directory / "cache"}']
        (directory / 'lists' / 'partial').mkdir(parents=True)
        (directory / 'cache' / 'archives' / 'partial').mkdir(parents=True)
        _output(['apt-get', *own_lists, '-q', 'update'], directory)
        return _download(meta_package, directory, own_lists)


def _download(meta_package: str, directory: Path, options: list[str]) -> Path:
    depends = _output(['apt-cache', *options, 'depends', meta_package], directory)
    package = re.search(r'Depends: (linux-image-\S+)', depends)
    if not package:
        raise ImageError(f'{meta_package} depends on no kernel: {depends}')
    _output(['apt-get', *options, '-q', 'download', package[1]], directory)
    return _only(directory, f'{package[1]}_*.deb')


def _module_directory(kind: str) -> Path:
    return (_only(_kernel_package() / 'lib' / 'modules', '*') if kind == 'qemu' else
            _only(UML_MODULES, '*'))


def _load_order(directory: Path, names: Iterable[str]) -> list[Path]:
    """The files of the modules `names`, each after those that it depends on."""
    files = {file.stem.replace('-', '_'): file for file in directory.rglob('*.ko')}
    order: list[Path] = []

    def add(name: str) -> None:
        if name not in files:
            raise ImageError(f'no module {name} in {directory}')
        depends = re.search(rb'\0depends=([^\0]*)\0', files[name].read_bytes())
        for needed in depends[1].decode().replace('-', '_').split(',') if depends else ():
            if needed:
                add(needed)
        if files[name] not in order:
            order.append(files[name])

    for name in names:
        add(name)
    return order


def _libraries(path: Path) -> list[Path]:
    done = subprocess.run(['ldd', str(path)], capture_output=True, text=True, check=False)
    return [Path(name) for name in re.findall(r'(?:^|\s)(/\S+) \(0x', done.stdout)]


def _program(name: str) -> Path:
    path = shutil.which(name, path=f'{os.environ.get("PATH", "")}:/usr/sbin:/sbin')
    if not path:
        raise ImageError(f'{name} is missing; scripts/bootstrap check installs it')
    return Path(path)


def _only(directory: Path, pattern: str) -> Path:
    """The file that matches; the last by name if there are several."""
    found = sorted(directory.glob(pattern))
    if not found:
        raise ImageError(f'no {pattern} in {directory}')
    return found[-1]


def _output(command: list[str], directory: Path | None = None) -> str:
    try:
        done = subprocess.run(command, cwd=directory, stdin=subprocess.DEVNULL, text=True,
                              capture_output=True, timeout=DOWNLOAD_TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired as late:
        raise ImageError(f'{command[0]}: not done after {DOWNLOAD_TIMEOUT_S:.0f} s') from late
    if done.returncode:
        raise ImageError(f'{" ".join(command)}: status {done.returncode}\n{done.stderr}')
    return done.stdout
