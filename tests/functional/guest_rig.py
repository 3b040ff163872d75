# SPDX-License-Identifier: BSD-3-Clause
"""A guest, svqd and a device that answers it, for the tests that boot Linux."""

from __future__ import annotations

import contextlib
import os
import re
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import TypeVar

import guest_image
import tap
import testpmd
from guest import Guest
from svqd import QueueStats, Svqd
from tap import check
from testpmd import Testpmd

Process = TypeVar('Process', Guest, Svqd, Testpmd)

PINGS = 10
PING_TIMEOUT_S = 20
RING_SIZE = 256

# Part of a guest's script.  One at a time, since busybox gives up a second after it sent the last.
PING = f"""\
for number in $(seq {PINGS}); do
    ping -c 1 -W {PING_TIMEOUT_S} 192.168.9.1 >/tmp/ping || exit
    sed -n "s/.* time=/GUEST: ping $number took /p" /tmp/ping
done
"""


class Rig:
    """svqd and what is around it, in a directory of its own; ends all of it on exit, and shows
    their logs if that is because of an exception."""

    def __init__(self, pairs: int):
        self.pairs = pairs
        self._directory = tempfile.TemporaryDirectory(prefix='svqd-guest-')
        self._processes: list[Guest | Svqd | Testpmd] = []
        self.guest_socket = self.path('guest.sock')

    def __enter__(self) -> Rig:
        return self

    def __exit__(self, error: type[BaseException] | None, _value: BaseException | None,
                 _trace: TracebackType | None) -> None:
        if error and error is not tap.Skip:
            for process in self._processes:
                tap.comment(f'---- {process.log.name}\n{process.log_tail()}')
        statuses: list[int] = []
        with contextlib.ExitStack() as ending:  # the last that was started ends first
            ending.callback(self._directory.cleanup)
            for process in self._processes:
                ending.callback(lambda process=process: statuses.append(process.close()))
        if not error:
            check(not any(statuses), f'exit statuses, guest first: {statuses}')

    def path(self, name: str) -> Path:
        """A file of this rig."""
        return Path(self._directory.name) / name

    def add(self, process: Process) -> Process:
        """Let a process that was started elsewhere end with the rig, and show its log."""
        self._processes.append(process)
        return process

    def start_testpmd(self) -> Testpmd:
        """A device in another process that does not forward yet: it would take a CPU."""
        cpu = max(os.sched_getaffinity(0))
        device = testpmd.back_end(self.path('device.sock'), self.pairs, RING_SIZE, cpu,
                                  self.path('testpmd.log'))
        self.add(device).wait_ready()
        return device

    def start_svqd(self, backend: str | None, options: str) -> Svqd:
        """svqd with an IOThread for each queue pair; `backend` None: testpmd."""
        device = 'svq,id=net0,chardev=vm,backend=dev' + options
        arguments = ['-chardev', f'socket,id=vm,path={self.guest_socket},server=on']
        for pair in range(self.pairs):
            # With fewer CPUs than threads one that polls takes the time of those it waits for.
            arguments += ['-object', f'iothread,id=io{pair},poll-max-ns=0']
            device += f',iothread-vq-mapping.{pair}.iothread=io{pair}'
        if backend is None:
            arguments += ['-chardev', f'socket,id=dp,path={self.path("device.sock")}']
            backend = 'vhost-user,chardev=dp'
        arguments += ['-backend', f'{backend},id=dev', '-device', device]
        svqd = Svqd(arguments, self.path('svqd.log'))
        self.add(svqd).wait_listening(self.guest_socket)
        return svqd

    def start_guest(self, create: Callable[[Path], Guest]) -> Guest:
        """A guest, made by `create` with the path of its log."""
        return self.add(create(self.path('guest.log')))

    def running_queues(self, svqd: Svqd, count: int) -> list[QueueStats]:
        """The counters of the first `count` queues, all of which are well."""
        queues = svqd.queue_stats(count)
        for queue in queues:
            check(queue.state == 'running' and queue.errors == 0, f'not well: {queue}')
        return queues


def on_off(value: bool) -> str:
    """A truth value in the manner of svqd's options."""
    return 'on' if value else 'off'


def forward(device: Testpmd, mode: str) -> None:
    """Let a stopped testpmd forward in `mode`."""
    device.command(f'set fwd {mode}')
    device.start()


def wait_pinged(guest: Guest) -> str:
    """Wait until each ping of PING was answered; how long they took, for a person."""
    times = sorted(float(guest.wait_for(rf'ping {number} took (\S+) ms', 2 * PING_TIMEOUT_S)[1])
                   for number in range(1, PINGS + 1))
    return f'ping took {times[0]:.1f} to {times[-1]:.1f} ms, median {times[PINGS // 2]:.1f} ms'


def missing(*needed: Callable[[], object]) -> str | None:
    """Why guests cannot be booted here, or None; `needed` look for what they need."""
    try:
        for look in needed:
            look()
    except guest_image.ImageError as error:
        return re.sub(r'\s+', ' ', str(error))
    return None
