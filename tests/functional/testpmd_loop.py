# SPDX-License-Identifier: BSD-3-Clause
"""Two testpmds that send each other what they get, with svqd between them or nothing.

How it works: the front end is DPDK's virtio driver in user space (virtio-user), the back end its
vhost-user device (net_vhost).  Both forward in mode io: a burst that was received is sent as it is.
The front end sends some bursts first, and those go round.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

import tap
import testpmd
from svqd import Svqd
from tap import check
from testpmd import Testpmd


@dataclass(frozen=True)
class Guest:
    """How the front end drives its rings."""
    packed: bool
    in_order: bool

    @property
    def format(self) -> str:
        """The format of its rings."""
        return 'packed' if self.packed else 'split'

    def __str__(self) -> str:
        return self.format + (' in_order' if self.in_order else '')


GUESTS = tuple(Guest(packed, in_order) for in_order in (False, True) for packed in (False, True))
SHADOWS = ('split', 'packed')


@dataclass(frozen=True)
class Setting:
    """What the loops of a comparison have in common."""
    pairs: int
    ring_size: int
    front_cpu: int
    back_cpu: int
    iothread_options: str = ''  # of svqd's: more properties, ',name=value'...
    iothreads: int = 1          # that take turns, queue pair by queue pair
    build: Path | None = None   # whose svqd, if not that of $SVQD_BUILD


@dataclass(frozen=True)
class Usage:
    """What the threads that move packets have had of the CPUs."""
    user_s: float = 0
    system_s: float = 0
    voluntary_switches: int = 0     # they slept
    involuntary_switches: int = 0   # others got their CPU

    def __add__(self, other: Usage) -> Usage:
        return Usage(self.user_s + other.user_s, self.system_s + other.system_s,
                     self.voluntary_switches + other.voluntary_switches,
                     self.involuntary_switches + other.involuntary_switches)

    def __sub__(self, other: Usage) -> Usage:
        return Usage(self.user_s - other.user_s, self.system_s - other.system_s,
                     self.voluntary_switches - other.voluntary_switches,
                     self.involuntary_switches - other.involuntary_switches)


def thread_usage(pid: int, names: str) -> Usage:
    """Of the threads of a process whose names match."""
    usage = Usage()
    for task in Path(f'/proc/{pid}/task').iterdir():
        if re.match(names, (task / 'comm').read_text()):
            # proc(5): fields 14 and 15, counted behind the name in parentheses
            stat = (task / 'stat').read_text().rpartition(')')[2].split()
            status = (task / 'status').read_text()
            switches = re.findall(r'voluntary_ctxt_switches:\s*(\d+)', status)
            tick_s = 1 / os.sysconf('SC_CLK_TCK')
            usage += Usage(int(stat[11]) * tick_s, int(stat[12]) * tick_s, *map(int, switches))
    return usage


class Loop:
    """A front end, a back end, and svqd in between unless `shadow` is None."""

    def __init__(self, directory: Path, setting: Setting, guest: Guest, shadow: str | None):
        self.setting = setting
        self.guest = guest
        self.shadow = shadow
        self.processes: list[Testpmd | Svqd] = []
        device_socket = directory / 'device.sock'
        guest_socket = directory / 'guest.sock' if shadow else device_socket
        try:
            self._start(directory, device_socket, guest_socket)
        except Exception:
            self.show_logs()
            self.close()
            raise

    def _start(self, directory: Path, device_socket: Path, guest_socket: Path) -> None:
        pairs, ring_size = self.setting.pairs, self.setting.ring_size
        self.back = testpmd.back_end(device_socket, pairs, ring_size, self.setting.back_cpu,
                                     directory / 'back.log')
        self.processes.append(self.back)
        self.back.wait_ready()
        if self.shadow:
            build = {'build': self.setting.build} if self.setting.build else {}
            self.svqd = Svqd(self._svqd_arguments(guest_socket, device_socket),
                             directory / 'svqd.log', **build)
            self.processes.append(self.svqd)
            self.svqd.wait_listening(guest_socket)
        self.front = testpmd.front_end(guest_socket, pairs, ring_size, self.setting.front_cpu,
                                       directory / 'front.log', packed=self.guest.packed,
                                       in_order=self.guest.in_order)
        self.processes.append(self.front)
        self.front.wait_ready()
        self.back.wait_connected()

    def _svqd_arguments(self, guest_socket: Path, device_socket: Path) -> list[str]:
        device = ['svq,id=net0,chardev=vm,backend=dev', f'packed={on_off(self.shadow == "packed")}',
                  f'guest-packed={on_off(self.guest.packed)}',
                  f'guest-in_order={on_off(self.guest.in_order)}']
        arguments = []
        for number in range(self.setting.iothreads):
            arguments += ['-object', f'iothread,id=io{number}{self.setting.iothread_options}']
            device.append(f'iothread-vq-mapping.{number}.iothread=io{number}')
        return arguments + [
            '-chardev', f'socket,id=vm,path={guest_socket},server=on',
            '-chardev', f'socket,id=dp,path={device_socket},reconnect-ms=100',
            '-backend', 'vhost-user,id=dev,chardev=dp', '-device', ','.join(device)]

    def start(self, first_bursts: int) -> None:
        """Forward; `first_bursts` more bursts go round on each queue."""
        self.back.start()
        self.front.start(first_bursts)

    def stop(self) -> None:
        """Stand still: what goes round stays where it is."""
        self.front.stop()
        self.back.stop()

    def usage(self) -> dict[str, Usage]:
        """Of the front end, the back end and svqd."""
        usage = {name: thread_usage(end.process.pid, r'.*worker-?1$')
                 for name, end in (('front', self.front), ('back', self.back))}
        if self.shadow:
            usage['svqd'] = thread_usage(self.svqd.process.pid, 'IO ')
        return usage

    def check_svqd(self) -> None:
        """Fail unless svqd works the rings in the formats that are asked for."""
        for queue in self.svqd.queue_stats(2 * self.setting.pairs):
            check(queue.state == 'running' and queue.errors == 0, f'not well: {queue}')
            check((queue.guest, queue.shadow) == (self.guest.format, self.shadow),
                  f'in other formats than {self.guest.format}>{self.shadow}: {queue}')

    def show_logs(self) -> None:
        """Print the end of each process's log."""
        for process in self.processes:
            tap.comment(f'---- {process.log.name}\n{process.log_tail()}')

    def close(self) -> None:
        """End the processes: who connects before who listens, so that nobody loses its peer."""
        statuses = [process.close() for process in reversed(self.processes)]
        self.processes = []
        check(not any(statuses), f'exit statuses, front end first: {statuses}')


def on_off(value: bool) -> str:
    """A truth value in the manner of svqd's options."""
    return 'on' if value else 'off'


def cpu_pair(text: str) -> tuple[int, int]:
    """Two CPU numbers."""
    front, back = text.split(',')
    return int(front), int(back)
