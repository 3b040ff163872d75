#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""A disk through svqd: what is written is read back, in every format pair.

How it works: QEMU's storage daemon serves a file as a vhost-user-blk device, which knows split
rings; svq-bench is the guest's driver, with a model of what the disk must hold.  Directly it
shows that the two agree; through svqd that nothing changes in between.  That svq-bench sees what is
wrong with a disk is tried, too: something else writes to the file.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import tap
from svqd import BUILD, Svqd
from tap import Failure, check

STORAGE_DAEMON = 'qemu-storage-daemon'
DISK_BYTES = 64 << 20
DISK_QUEUES = 2
RUN_TIMEOUT_S = 120
START_TIMEOUT_S = 20
STOP_TIMEOUT_S = 10
REQUEST_BYTES = 4096
FORMATS = ('split', 'packed')


class StorageDaemon:
    """A disk in a file, behind a vhost-user socket."""

    def __init__(self, directory: Path):
        self.disk, self.socket = directory / 'disk.raw', directory / 'disk.sock'
        ready = directory / 'storage.pid'
        ready.unlink(missing_ok=True)
        with open(self.disk, 'wb') as disk:
            disk.truncate(DISK_BYTES)
        command = [STORAGE_DAEMON,
                   '--blockdev', f'driver=file,filename={self.disk},node-name=file',
                   '--blockdev', 'driver=raw,file=file,node-name=disk',
                   '--export', 'type=vhost-user-blk,id=export,node-name=disk,writable=on,'
                   f'addr.type=unix,addr.path={self.socket},num-queues={DISK_QUEUES}',
                   '--pidfile', str(ready)]
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL)
        # It writes this when it serves.
        deadline = time.monotonic() + START_TIMEOUT_S
        while not ready.exists():
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.close()
                raise Failure(f'{STORAGE_DAEMON} does not start')
            time.sleep(0.02)

    def close(self) -> None:
        """End it, however it is."""
        self.process.terminate()
        try:
            self.process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def bench(socket: Path, requests: int, *options: str) -> subprocess.Popen[str]:
    """svq-bench as the driver of the disk behind `socket`."""
    return subprocess.Popen([BUILD / 'svq-bench', 'blk', '--socket-path', socket, '--json',
                             '--requests', str(requests), '--request-size', str(REQUEST_BYTES),
                             *options], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, text=True)


def run_bench(socket: Path, requests: int, *options: str) -> str:
    """Let it run; no request may be lost, fail, or read what was not written."""
    process = bench(socket, requests, *options)
    output, errors = process.communicate(timeout=RUN_TIMEOUT_S)
    words = f'{output}{errors}'
    check(process.returncode == 0, f'status {process.returncode}\n{words}')
    report = json.loads(output)
    check(report['errors'] == 0, words)
    for queue in report['queues']:
        # Each request that writes has one that reads; some blocks are read once more.
        check(queue['buffers'] > 2 * requests, words)
    return f'{report["buffers"]} requests, {report["ns_per_buffer"] / 1000:.1f} us each'


def directly(directory: Path, requests: int, *options: str) -> str:
    """One test case without svqd."""
    storage = StorageDaemon(directory)
    try:
        return run_bench(storage.socket, requests, *options)
    finally:
        storage.close()


def through_svqd(directory: Path, requests: int, *options: str) -> str:
    """One test case."""
    storage = StorageDaemon(directory)
    socket = directory / 'vm.sock'
    svqd = None
    try:
        svqd = Svqd(['-object', 'iothread,id=io0',
                     '-chardev', f'socket,id=vm,path={socket},server=on',
                     '-chardev', f'socket,id=disk,path={storage.socket}',
                     '-backend', 'vhost-user,id=dev,chardev=disk',
                     '-device', 'svq,id=disk0,chardev=vm,backend=dev,iothread=io0'],
                    directory / 'svqd.log')
        svqd.wait_listening(socket)
        remark = run_bench(socket, requests, *options)
        status = svqd.close()
        check(status == 0, f'svqd ended with status {status}:\n{svqd.log_tail()}')
        return remark
    finally:
        if svqd and svqd.process.poll() is None:
            svqd.process.kill()
            svqd.process.wait()
        storage.close()


def foreign_writes(directory: Path) -> str:
    """Something else writes all over the disk, until svq-bench has seen it."""
    storage = StorageDaemon(directory)
    process = None
    try:
        process = bench(storage.socket, 50_000)
        deadline = time.monotonic() + RUN_TIMEOUT_S
        with open(storage.disk, 'r+b', buffering=0) as disk:
            while process.poll() is None:
                check(time.monotonic() < deadline, 'svq-bench does not end')
                disk.seek(random.randrange(DISK_BYTES // REQUEST_BYTES) * REQUEST_BYTES)
                disk.write(bytes(REQUEST_BYTES))
        report = json.loads(process.stdout.read())  # type: ignore[union-attr]
    finally:
        if process:
            process.kill()
            process.communicate()
        storage.close()
    check(process.returncode == 1, f'status {process.returncode}')
    check(report['corrupted'] > 0 and report['errors'] == report['corrupted'], str(report))
    return f'{report["corrupted"]} of {report["buffers"]} requests read what was not written'


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or '').partition('\n')[0])
    parser.add_argument('--requests', type=int, default=10_000,
                        help='that write, for each queue [%(default)s]')
    options = parser.parse_args()
    requests = options.requests

    if not shutil.which(STORAGE_DAEMON):
        return tap.skip_all(f'{STORAGE_DAEMON} is not installed (scripts/bootstrap installs it)')
    with tempfile.TemporaryDirectory(prefix='svq-bench-blk-') as name:
        directory = Path(name)
        cases: list[tap.Case] = [
            ('directly', lambda: directly(directory, requests)),
            ('directly, 2 queues, indirect, 4 descriptors of data', lambda: directly(
                directory, requests, '--queues', '2', '--indirect', '--descriptors', '4')),
            ('foreign writes are seen', lambda: foreign_writes(directory)),
        ]
        for form in FORMATS:
            cases += [
                (f'{form} > split', lambda form=form: through_svqd(
                    directory, requests, '--format', form)),
                (f'{form} > split, 2 queues, 4 descriptors of data', lambda form=form: through_svqd(
                    directory, requests, '--format', form, '--queues', '2', '--descriptors', '4')),
                (f'{form} > split, indirect, one at a time', lambda form=form: through_svqd(
                    directory, requests // 10, '--format', form, '--indirect', '--depth', '1')),
            ]
        return tap.run(cases)


if __name__ == '__main__':
    sys.exit(main())
