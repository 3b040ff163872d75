# SPDX-License-Identifier: BSD-3-Clause
"""Writes initramfs files: cpio archives in the `newc` format, which a kernel unpacks into its first
root.  That takes a tenth of a second, so each test has its own.
"""

from __future__ import annotations

import re
import stat
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path

import debian
from debian import ImageError


class Initramfs:
    """What one will hold: busybox, and what is added."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._names: set[str] = set()
        busybox = debian.program('busybox')
        self.add_program(busybox)
        for applet in debian.output([busybox, '--list']).split():
            if applet != 'busybox':
                self.add_link(f'bin/{applet}', 'busybox')
        for directory in ('proc', 'sys', 'dev', 'tmp'):
            self.add_directory(directory)

    def add_directory(self, name: str) -> None:
        """A directory and those it is in, unless it is there."""
        for path in (*reversed(Path(name).parents[:-1]), Path(name)):
            if str(path) not in self._names:
                self._add(str(path), stat.S_IFDIR | 0o755, b'')

    def add_file(self, name: str, data: bytes, executable: bool = False) -> None:
        """A file, and the directory it is in."""
        self._add_below(name, stat.S_IFREG | (0o755 if executable else 0o644), data)

    def add_link(self, name: str, target: str) -> None:
        """A symbolic link; one in the place of another file replaces it."""
        self._add_below(name, stat.S_IFLNK | 0o777, target.encode())

    def add_program(self, path: Path) -> None:
        """A program of this machine, with the libraries it is linked to."""
        self.add_file(f'bin/{path.name}', path.read_bytes(), executable=True)
        for library in _libraries(path):
            name = str(library).lstrip('/')
            if name not in self._names:
                self.add_file(name, library.read_bytes(), executable=True)

    def add_modules(self, directory: Path, names: Iterable[str],
                    parameters: Mapping[str, str] | None = None) -> None:
        """Kernel modules below `directory`, and `modules/order`, a file that lists them in an order
        in which they can be loaded, each with its `parameters`, if there are any."""
        lines = []
        for module in _load_order(directory, names):
            self.add_file(f'modules/{module.name}', module.read_bytes())
            lines.append(f'{module.name} {(parameters or {}).get(module.stem, "")}'.rstrip() + '\n')
        self.add_file('modules/order', ''.join(lines).encode())

    def write(self, path: Path) -> Path:
        """Write it; the same `path`."""
        path.write_bytes(b''.join((*self._parts, _cpio_entry('TRAILER!!!', 0, b'', 0))))
        return path

    def _add_below(self, name: str, mode: int, data: bytes) -> None:
        if '/' in name:
            self.add_directory(str(Path(name).parent))
        self._add(name, mode, data)

    def _add(self, name: str, mode: int, data: bytes) -> None:
        self._names.add(name)
        self._parts.append(_cpio_entry(name, mode, data, len(self._parts) + 1))


def _cpio_entry(name: str, mode: int, data: bytes, inode: int) -> bytes:
    # magic, inode, mode, uid, gid, links, mtime, size, device and rdevice as major and minor,
    # size of the name with its NUL, checksum; name and data are padded to 4 bytes.
    fields = (inode, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name) + 1, 0)
    header = b'070701' + b''.join(b'%08x' % number for number in fields)
    return _padded(header + name.encode() + b'\0') + _padded(data)


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)


def module_dependencies(data: bytes) -> list[str]:
    """The modules that a module needs, which it says itself."""
    depends = re.search(rb'\0depends=([^\0]*)\0', data)
    names = depends[1].decode().replace('-', '_').split(',') if depends else []
    return [name for name in names if name]


def _load_order(directory: Path, names: Iterable[str]) -> list[Path]:
    """The files of the modules `names`, each after those that it depends on."""
    files = {file.stem.replace('-', '_'): file for file in directory.rglob('*.ko')}
    order: list[Path] = []

    def add(name: str) -> None:
        if name not in files:
            raise ImageError(f'no module {name} in {directory}')
        for needed in module_dependencies(files[name].read_bytes()):
            add(needed)
        if files[name] not in order:
            order.append(files[name])

    for name in names:
        add(name)
    return order


def _libraries(path: Path) -> list[Path]:
    done = subprocess.run(['ldd', str(path)], capture_output=True, text=True, check=False)
    return [Path(name) for name in re.findall(r'(?:^|\s)(/\S+) \(0x', done.stdout)]
