#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""libsvq as a stranger gets it: installed headers each compile alone, a program links and runs."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import tap

BUILD = Path(os.environ['SVQD_BUILD'])
TIMEOUT_S = 120

PROGRAM = r'''
#include <hw/net/loopback.h>
#include <hw/svq/svq-device.h>
#include <stdio.h>

int main(void)
{
    LoopbackConfig loopback = LOOPBACK_CONFIG_DEFAULT;
    IOThread *iothread = iothread_new("io0", NULL, NULL, NULL);
    SvqDeviceConfig config = { .id = "net0", .iothreads = &iothread, .n_iothreads = 1 };
    SvqDevice *dev;

    loopback.id = "dev";
    config.backend = loopback_new(&loopback, NULL);
    dev = svq_device_new(&config, NULL);
    printf("%u\n", svq_device_get_queue_count(dev));
    svq_device_free(dev);
    config.backend->ops->free(config.backend);
    iothread_unref(iothread);
    return 0;
}
'''


def run(*command: str | Path, **environment: str) -> str:
    """What a command prints; its failure is the test's."""
    done = subprocess.run([str(word) for word in command], stdin=subprocess.DEVNULL,
                          capture_output=True, text=True, timeout=TIMEOUT_S, check=False,
                          env={**os.environ, **environment})
    tap.check(done.returncode == 0, f'{command[0]}: {done.stderr or done.stdout}')
    return done.stdout


class Installation:
    """What `meson install` puts below a folder, and how a compiler is told of it."""

    def __init__(self, folder: Path):
        run('meson', 'install', '-C', BUILD, '--no-rebuild', '--destdir', folder)
        self.config = next(folder.rglob('libsvq.pc'))
        self.library = next(folder.rglob('libsvq.so')).parent
        self.include = next(folder.rglob('svq-device.h')).parents[2]
        # The .pc file names the final place: map that into the folder, for our files only.
        prefix = Path(run('pkg-config', '--variable=prefix', self.config).strip())
        self.flags = [
            flag.replace(str(prefix), str(folder) + str(prefix))
            for flag in run('pkg-config', '--cflags', '--libs', self.config).split()]
        self.static = [flag for flag in
                       run('pkg-config', '--static', '--libs', self.config).split()
                       if flag != '-lsvq']


def headers_compile_alone(place: Installation) -> str:
    """Each with nothing included before it."""
    headers = sorted(place.include.rglob('*.h'))
    tap.check(len(headers) > 10, f'few headers: {headers}')
    for header in headers:
        run('cc', '-std=gnu11', '-D_GNU_SOURCE', '-Wall', '-Wextra', '-Wno-unused-parameter',
            '-Werror', '-fsyntax-only', '-x', 'c', '-include', header, '/dev/null', *place.flags)
    return f'{len(headers)} headers'


def program_runs(place: Installation, source: Path, link: list[str]) -> str:
    """Compiles it, runs it, and looks at its answer."""
    program = source.with_suffix('')
    run('cc', '-std=gnu11', '-D_GNU_SOURCE', source, '-o', program, *link)
    answer = run(program, LD_LIBRARY_PATH=str(place.library)).strip()
    tap.check(answer == '3', f'the device has {answer} virtqueues')
    return 'a loopback device has 3 virtqueues, a pair and the control queue'


def main() -> int:
    """Installs once, looks at it from several sides."""
    with tempfile.TemporaryDirectory(prefix='svq-install-') as folder:
        place = Installation(Path(folder))
        source = Path(folder) / 'program.c'
        source.write_text(PROGRAM)
        archive = str(place.library / 'libsvq.a')
        static = [archive if flag == '-lsvq' else flag for flag in place.flags]
        return tap.run([
            ('headers compile alone', lambda: headers_compile_alone(place)),
            ('a program links with the shared library',
             lambda: program_runs(place, source, place.flags)),
            ('a program links with the static library',
             lambda: program_runs(place, source, static + place.static)),
        ])


if __name__ == '__main__':
    sys.exit(main())
