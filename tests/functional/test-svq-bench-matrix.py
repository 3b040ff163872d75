#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Every byte and the order of what goes through svqd, in every format pair and feature set.

How it works: svq-bench is the guest's driver, svqd's own loopback device returns on each queue pair
what is sent there; svq-bench makes every packet of its number and compares all of it when it comes
back.  svqd is started once for each shadow side: its format, indirect descriptors and event index,
which the guest's driver then has as well.
"""

from __future__ import annotations

import argparse
import itertools
import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import tap
from svqd import BUILD, Svqd
from tap import check

PAIRS = 2
RUN_TIMEOUT_S = 60
FORMATS = ('split', 'packed')
DESCRIPTORS = (1, 2, 5)
SWITCHES = 200


def on_off(value: bool) -> str:
    """As options have it."""
    return 'on' if value else 'off'


@dataclass(frozen=True)
class Shadow:
    """What svqd is told of its device side."""
    format: str
    indirect: bool
    event_idx: bool

    def options(self, socket: Path) -> list[str]:
        """svqd's command line."""
        device = ['svq,id=net0,chardev=vm,backend=dev', f'packed={on_off(self.format == "packed")}',
                  f'indirect_desc={on_off(self.indirect)}', f'event_idx={on_off(self.event_idx)}',
                  'iothread-vq-mapping.0.iothread=io0', 'iothread-vq-mapping.1.iothread=io1']
        return ['-object', 'iothread,id=io0', '-object', 'iothread,id=io1',
                '-chardev', f'socket,id=vm,path={socket},server=on',
                '-backend', f'loopback,id=dev,queue-pairs={PAIRS}', '-device', ','.join(device)]


class Daemon:
    """One svqd at a time: as long as the cases ask for the same shadow side it stays."""

    def __init__(self, directory: Path):
        self.directory = directory
        self.socket = directory / 'vm.sock'
        self.svqd: Svqd | None = None

    def start(self, shadow: Shadow) -> Svqd:
        """svqd with this shadow side; one that died is replaced."""
        if self.svqd is None or self.svqd.process.poll() is not None:
            self.svqd = Svqd(shadow.options(self.socket), self.directory / 'svqd.log')
            self.svqd.wait_listening(self.socket)
        return self.svqd

    def stop(self) -> str:
        """The last test case of a shadow side: svqd lived through all and ends in peace."""
        svqd, self.svqd = self.svqd, None
        check(svqd is not None, 'svqd was never started')
        assert svqd
        check(svqd.process.poll() is None, f'svqd had ended already:\n{svqd.log_tail()}')
        status = svqd.close()
        check(status == 0, f'svqd ended with status {status}:\n{svqd.log_tail()}')
        return ''

    def kill(self) -> None:
        """End svqd if a case left it behind."""
        if self.svqd and self.svqd.process.poll() is None:
            self.svqd.process.kill()
            self.svqd.process.wait()


def run_bench(daemon: Daemon, shadow: Shadow, *options: str) -> dict:
    """Let svq-bench drive all pairs; what it counted, which includes no error."""
    svqd = daemon.start(shadow)
    command = [BUILD / 'svq-bench', 'vhost-user', '--socket-path', daemon.socket, '--json',
               '--queue-pairs', str(PAIRS), *options]
    bench = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                           stderr=subprocess.PIPE, text=True, timeout=RUN_TIMEOUT_S, check=False)
    words = f'{bench.stdout}{bench.stderr}'
    check(bench.returncode == 0, f'status {bench.returncode}\n{words}\n{svqd.log_tail()}')
    report = json.loads(bench.stdout)
    check(report['errors'] == 0, words)
    return report


def transfer(daemon: Daemon, guest: str, shadow: Shadow, descriptors: int, buffers: int,
             *options: str) -> str:
    """One test case: `buffers` on each pair, there and back."""
    indirect = ['--indirect'] if shadow.indirect else []
    report = run_bench(daemon, shadow, '--format', guest, '--descriptors', str(descriptors),
                       '--buffers', str(buffers), '--event-idx', on_off(shadow.event_idx),
                       *indirect, *options)
    for pair in report['queues']:
        check(pair['buffers'] == buffers, f'{pair["buffers"]} of {buffers} buffers: {report}')
    return f'{report["mpps"]:.2f} Mpps'


def log_switches(daemon: Daemon, guest: str, shadow: Shadow) -> str:
    """One test case: dirty logging begins and ends while packets pass."""
    report = run_bench(daemon, shadow, '--format', guest, '--udp', '--packet-size', '1500',
                       '--switches', str(SWITCHES), '--duration', '1')
    switches = report['switches']
    check(switches['n'] == SWITCHES, f'{switches["n"]} of {SWITCHES} switches')
    check(switches['pages'] > 0, 'no page was written while logging was on')
    return (f'{SWITCHES} switches, p50 {switches["p50_ns"] / 1000:.0f} us, '
            f'{switches["pages"]} pages in the log')


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or '').partition('\n')[0])
    parser.add_argument('--buffers', type=int, default=50_000, help='of each pair [%(default)s]')
    options = parser.parse_args()

    with tempfile.TemporaryDirectory(prefix='svq-bench-matrix-') as name:
        daemon = Daemon(Path(name))
        cases: list[tap.Case] = []
        for shadow in itertools.starmap(Shadow, itertools.product(FORMATS, (False, True),
                                                                  (False, True))):
            for guest, descriptors in itertools.product(FORMATS, DESCRIPTORS):
                title = (f'{guest} > {shadow.format}, {descriptors} descriptors, indirect '
                         f'{on_off(shadow.indirect)}, event index {on_off(shadow.event_idx)}')
                cases.append((title, lambda guest=guest, shadow=shadow, descriptors=descriptors:
                              transfer(daemon, guest, shadow, descriptors, options.buffers)))
            form = shadow.format
            if shadow == Shadow(form, indirect=False, event_idx=True):
                cases.append((f'{form} > {form}, UDP, 8 packets under way', lambda shadow=shadow:
                              transfer(daemon, shadow.format, shadow, 2, options.buffers, '--udp',
                                       '--window', '8')))
                cases.append((f'{form} > {form}, {SWITCHES} switches of dirty logging',
                              lambda shadow=shadow: log_switches(daemon, shadow.format, shadow)))
            cases.append((f'svqd ends: {shadow.format}, indirect {on_off(shadow.indirect)}, '
                          f'event index {on_off(shadow.event_idx)}', daemon.stop))
        try:
            return tap.run(cases)
        finally:
            daemon.kill()


if __name__ == '__main__':
    sys.exit(main())
