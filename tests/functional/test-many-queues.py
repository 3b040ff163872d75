#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Many queues in one svqd: idle they take no processor time, little memory, and some of them are
stopped and started while the others go on.

How it works: svqd has several loopback devices whose queues share two IOThreads, and begins with a
soft limit of open files that is far too low for them.  A front end of our own starts all queues.
Limits are on what the kernel counts for svqd, processor time, memory, sleeps and descriptors; how
long things take is printed.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import sys
import tempfile
import time
from pathlib import Path

import tap
from svqd import Svqd
from tap import check
from vhost_user import Vmm

IOTHREADS = 2
PAIRS = 64                  # of a device
SOFT_FILES = 256            # that svqd is started with
FILES_PER_QUEUE = 6         # that svqd, or we, may take
IDLE_PERCENT = 1.0          # of a processor, all queues together
QUEUE_KIB = 64              # memory of its own that a queue may take, rings aside
QUEUE_SWITCHES = 12         # times that a thread of svqd may sleep to stop and start one queue
RESTART_LIMIT_S = 20


class Rig:
    """svqd with several devices, and a VMM at each."""

    def __init__(self, directory: Path, devices: int, packed: bool):
        sockets = [directory / f'vm{i}.sock' for i in range(devices)]
        arguments = []
        for i in range(IOTHREADS):
            arguments += ['-object', f'iothread,id=io{i}']
        for i, socket in enumerate(sockets):
            device = [f'svq,id=net{i},chardev=vm{i},backend=dev{i}',
                      f'packed={"on" if packed else "off"}']
            device += [f'iothread-vq-mapping.{j}.iothread=io{j}' for j in range(IOTHREADS)]
            arguments += ['-chardev', f'socket,id=vm{i},path={socket},server=on',
                          '-backend', f'loopback,id=dev{i},queue-pairs={PAIRS}',
                          '-device', ','.join(device)]
        self.vmms: list[Vmm] = []
        self.svqd = start_with_few_files(arguments, directory / 'svqd.log')
        self.proc = Path(f'/proc/{self.svqd.process.pid}')
        try:
            for socket in sockets:
                self.svqd.wait_listening(socket)
            self.idle_kib = self.own_kib()
            self.vmms = [Vmm(socket, 2 * PAIRS) for socket in sockets]
            for vmm in self.vmms:
                vmm.start()
            self.echo_all()
        except BaseException:
            self.kill()
            raise

    def echo_all(self) -> None:
        """A packet goes through each pair."""
        for vmm in self.vmms:
            for pair in range(PAIRS):
                vmm.echo(pair)

    def own_kib(self) -> int:
        """Resident memory that svqd shares with nobody: neither rings nor the guest's memory."""
        return self._status('RssAnon:')

    def switches(self) -> int:
        """How often its threads have slept so far."""
        return sum(field(task / 'status', 'voluntary_ctxt_switches:')
                   for task in (self.proc / 'task').iterdir())

    def _status(self, name: str) -> int:
        return field(self.proc / 'status', name)

    def cpu_seconds(self) -> float:
        """Processor time of all its threads."""
        # proc(5): fields 14 and 15, counted behind the name in parentheses
        stat = (self.proc / 'stat').read_text().rpartition(')')[2].split()
        return (int(stat[11]) + int(stat[12])) / os.sysconf('SC_CLK_TCK')

    def files(self) -> int:
        """Its open descriptors."""
        return len(list((self.proc / 'fd').iterdir()))

    def kill(self) -> None:
        """End all that still runs."""
        for vmm in self.vmms:
            vmm.close()
        self.vmms = []
        if self.svqd.process.poll() is None:
            self.svqd.process.kill()
            self.svqd.process.wait()

    def finish(self) -> None:
        """End svqd, which must have nothing to complain of."""
        status = self.svqd.close()
        check(status == 0 and 'broken' not in self.svqd.log.read_text(),
              f'svqd ended with status {status}:\n{self.svqd.log_tail()}')


def field(path: Path, name: str) -> int:
    """The number behind `name` in a file of /proc."""
    return next(int(line.split()[1]) for line in path.read_text().splitlines()
                if line.startswith(name))


def start_with_few_files(arguments: list[str], log: Path) -> Svqd:
    """svqd, which inherits our soft limit of open files."""
    # meson has malloc() fill what it returns: then all of that is resident, used or not.
    os.environ.pop('MALLOC_PERTURB_', None)
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (SOFT_FILES, limits[1]))
    try:
        return Svqd(arguments, log)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def check_idle(rig: Rig, seconds: float) -> str:
    """Nothing happens for a while."""
    start, cpu = time.monotonic(), rig.cpu_seconds()
    time.sleep(seconds)
    percent = 100 * (rig.cpu_seconds() - cpu) / (time.monotonic() - start)
    check(percent < IDLE_PERCENT, f'idle, svqd takes {percent:.2f}% of a processor')
    return f'idle: {percent:.2f}% of a processor'


def check_memory(rig: Rig, when: str) -> str:
    """What svqd has grown by since it began to listen."""
    queues = len(rig.vmms) * 2 * PAIRS
    kib = (rig.own_kib() - rig.idle_kib) / queues
    check(kib < QUEUE_KIB, f'{kib:.1f} KiB of memory for a queue, {when}')
    return f'memory of its own for a queue, {when}: {kib:.1f} KiB'


def restart(rig: Rig, vmms: list[Vmm]) -> tuple[float, float]:
    """Stop and start all queues of some devices, till a packet goes through the last; ms each."""
    start = time.monotonic()
    for vmm in vmms:
        vmm.stop()
    stopped = time.monotonic()
    for vmm in vmms:
        vmm.start()
    vmms[-1].echo(PAIRS - 1)
    end = time.monotonic()
    check(end - start < RESTART_LIMIT_S, f'stop and start take {end - start:.1f} s')
    return 1000 * (stopped - start), 1000 * (end - stopped)


def check_restarts(rig: Rig, queues: int, rounds: int) -> str:
    """Some queues are stopped and started a few times, while the others are idle."""
    vmms = rig.vmms[:queues // (2 * PAIRS)]
    files, switches = rig.files(), rig.switches()
    times = [restart(rig, vmms) for _ in range(rounds)]
    switched = (rig.switches() - switches) / (rounds * queues)
    check(rig.files() == files, f'{rig.files()} descriptors are open, before it were {files}')
    check(switched < QUEUE_SWITCHES, f'{switched:.1f} sleeps to stop and start a queue')
    rig.echo_all()
    stop, start = (statistics.median(column) for column in zip(*times))
    return (f'{queues} queues: stopped in {stop:.1f} ms, started in {start:.1f} ms, '
            f'{switched:.1f} sleeps each')


def many_queues(packed: bool, options: argparse.Namespace) -> str:
    """One test case."""
    with tempfile.TemporaryDirectory(prefix='svqd-many-') as name:
        rig = Rig(Path(name), options.queues // (2 * PAIRS), packed)
        try:
            said = [check_memory(rig, 'started'), check_idle(rig, options.seconds),
                    check_restarts(rig, options.restarts, options.rounds),
                    check_memory(rig, 'started again')]
            rig.finish()
        finally:
            rig.kill()
    return '\n'.join(said)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or '').partition('\n')[0])
    parser.add_argument('--queues', type=int, default=1024,
                        help=f'a multiple of {2 * PAIRS} [%(default)s]')
    parser.add_argument('--restarts', type=int, default=256,
                        help='of these, how many are stopped and started [%(default)s]')
    parser.add_argument('--rounds', type=int, default=5, help='how often they are [%(default)s]')
    parser.add_argument('--seconds', type=float, default=3, help='to be idle [%(default)s]')
    options = parser.parse_args()
    needed = FILES_PER_QUEUE * options.queues + 100
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if hard != resource.RLIM_INFINITY and hard < needed:
        return tap.skip_all(f'needs {needed} open files, the hard limit is {hard}; raise it')
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return tap.run([(f'{options.queues} queues, {name} shadow rings',
                     lambda packed=packed: many_queues(packed, options))
                    for name, packed in (('split', False), ('packed', True))])


if __name__ == '__main__':
    sys.exit(main())
