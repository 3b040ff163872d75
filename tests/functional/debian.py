# SPDX-License-Identifier: BSD-3-Clause
"""What guests are made of: programs of this machine, and packages of Debian's that are taken apart
without being installed, since installing a kernel would hook into the boot of this machine.

What is made from packages is kept in CACHE, which is below the build directory unless
SVQD_GUEST_CACHE names another place, such as one that a CI keeps between its runs.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

from svqd import BUILD

CACHE = Path(os.environ.get('SVQD_GUEST_CACHE', BUILD / 'guest'))
DOWNLOAD_TIMEOUT_S = 300.0


class ImageError(RuntimeError):
    """Something that a guest is made of is missing here; the message says what."""


def program(name: str) -> Path:
    """A program of this machine."""
    path = shutil.which(name, path=f'{os.environ.get("PATH", "")}:/usr/sbin:/sbin')
    if not path:
        raise ImageError(f'{name} is missing; scripts/bootstrap check installs it')
    return Path(path)


def output(command: Iterable[object], directory: Path | None = None,
           timeout_s: float = DOWNLOAD_TIMEOUT_S) -> str:
    """What a command prints that ends well."""
    words = [str(word) for word in command]
    try:
        done = subprocess.run(words, cwd=directory, stdin=subprocess.DEVNULL, text=True,
                              capture_output=True, timeout=timeout_s, check=False)
    except FileNotFoundError as error:
        raise ImageError(f'{words[0]} is missing') from error
    except subprocess.TimeoutExpired as late:
        raise ImageError(f'{words[0]}: not done after {timeout_s:.0f} s') from late
    if done.returncode:
        raise ImageError(f'{" ".join(words)}: status {done.returncode}\n'
                         f'{done.stdout[-2000:]}{done.stderr[-2000:]}')
    return done.stdout


def only(directory: Path, pattern: str) -> Path:
    """The file that matches; the last by name if there are several."""
    found = sorted(directory.glob(pattern))
    if not found:
        raise ImageError(f'no {pattern} in {directory}')
    return found[-1]


class Archive:
    """Debian's archive, as some package lists show it."""

    def __init__(self, options: Iterable[str] = ()):
        self._options = list(options)

    def depends(self, meta_package: str, pattern: str) -> str:
        """The package matching `pattern` that `meta_package` stands for."""
        depends = output(['apt-cache', *self._options, 'depends', meta_package])
        found = re.search(rf'Depends: ({pattern})', depends)
        if not found:
            raise ImageError(f'{meta_package} depends on no {pattern}: {depends}')
        return found[1]

    def version(self, package: str) -> str:
        """The version of a package that would be downloaded."""
        policy = output(['apt-cache', *self._options, 'policy', package])
        found = re.search(r'Candidate: (\d\S*)', policy)
        if not found:
            raise ImageError(f'there is no package {package}')
        return found[1]

    def names(self, pattern: str) -> list[str]:
        """The packages whose names match a regular expression as a whole."""
        found = output(['apt-cache', *self._options, 'search', '--names-only', f'^{pattern}$'])
        return [line.partition(' ')[0] for line in found.splitlines()]

    def unpack(self, packages: Iterable[str], directory: Path) -> None:
        """Download packages and unpack all of them in `directory`."""
        with tempfile.TemporaryDirectory(dir=directory.parent) as name:
            output(['apt-get', *self._options, '-q', 'download', *packages], Path(name))
            for package in sorted(Path(name).glob('*.deb')):
                output(['dpkg-deb', '--extract', package, directory])


def make_cached(name: str, make: Callable[[Archive, Path], None]) -> Path:
    """The folder `name` of the cache, where `make` puts what it makes when it is not there."""
    made = CACHE / name
    if made.exists():
        return made
    for tool in ('apt-get', 'apt-cache', 'dpkg-deb'):
        program(tool)
    CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=CACHE) as directory:
        work = Path(directory)
        try:
            _make(make, Archive(), work / 'new')
        except ImageError:
            # This machine's lists may be older than what the archive still has, and are not ours
            # to renew: look with lists of our own.
            _make(make, _renewed_archive(work), work / 'new')
        try:
            os.rename(work / 'new', made)
        except OSError as error:
            if not made.exists():  # else somebody else was faster
                raise ImageError(f'{made}: {error}') from error
    return made


def _make(make: Callable[[Archive, Path], None], archive: Archive, directory: Path) -> None:
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir()
    make(archive, directory)


def _renewed_archive(directory: Path) -> Archive:
    """The archive by package lists of our own, made now below `directory`."""
    options = ['-o', f'Dir::State::Lists={directory / "lists"}',
               '-o', f'Dir::Cache={directory / "cache"}']
    (directory / 'lists' / 'partial').mkdir(parents=True)
    (directory / 'cache' / 'archives' / 'partial').mkdir(parents=True)
    output(['apt-get', *options, '-q', 'update'], directory)
    return Archive(options)
