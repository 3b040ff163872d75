# SPDX-License-Identifier: BSD-3-Clause
"""A guest that is migrated live from QEMU to QEMU, again and again, and verified after each time.

How it works: a Place is one QEMU with what is behind its network card: svqd with its built-in
device, svqd with DPDK's testpmd behind it, or testpmd alone, which is what the others are measured
against.  A MovingGuest boots in a first Place; each migration prepares a fresh one, moves the guest
there and ends the old one.  The guest runs memwalk (tests/guest), which tells on the console of
each echo that was answered, and verifies its memory when asked.  The Console joins what the guest
prints wherever it runs, so a line that was begun at the source may end at the destination.

The guest's clock stands still while nobody runs the guest.  What an outsider sees of that comes
from here: the time between the last echo from the source and the first from the destination, less
the time that there is between echoes anyway.
"""

from __future__ import annotations

import contextlib
import os
import re
import selectors
import socket
import subprocess
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import guest_image
import qemu_guest
import testpmd
from qmp import ANSWER_TIMEOUT_S, Qmp, QmpError
from svqd import QueueStats, Svqd

PAIRS = 2
RING_SIZE = 256
SVQD_LOOPBACK = 'svqd with its loopback device'
SVQD_TESTPMD = 'svqd with testpmd'
# The device works the guest's rings until QEMU logs what is written.
AUTO_LOOPBACK = f'{SVQD_LOOPBACK}, mode=auto'
AUTO_TESTPMD = f'{SVQD_TESTPMD}, mode=auto'
TESTPMD = 'testpmd alone'

# With fewer CPUs than threads an IOThread that polls takes the time of those it waits for.
IOTHREAD_OPTIONS = 'poll-max-ns=0'

# Not a multiple of 256 KiB: for memory that is, QEMU before 9.0 loses stores of an emulated CPU
# during a migration ("physmem: Fix migration dirty bitmap coherency with TCG memory access").
MEMORY_MB = 192 - 8 / 1024
WALK_MB = 96
PAGES_PER_MB = 256
UNREAD = 2000
ECHO_INTERVAL_S = 0.05

# Slow enough that the first pass over the memory takes a second, in which the device writes on.
PARAMETERS = {'max-bandwidth': 128 << 20, 'downtime-limit': 50}

ECHO = r'echo (?P<number>\d+) unread (?P<oldest>\d+)-(?P<next>\d+)$'
FIRST_PEER = '192.168.9.16'
SCRIPT = f"""\
ethtool -L eth0 combined {PAIRS}
for i in $(seq 16 31); do
    arp -s 192.168.9.$i 02:00:00:00:00:01
done
%s
exec memwalk {FIRST_PEER} {WALK_MB} {UNREAD}
"""

BOOT_TIMEOUT_S = 120.0
LOAD_TIMEOUT_S = 60.0
MIGRATION_TIMEOUT_S = 60.0
FIRST_ECHO_TIMEOUT_S = 20.0
VERIFY_TIMEOUT_S = 60.0
LAST_ECHO_S = 2.0
QUIT_TIMEOUT_S = 10.0


class MigrationError(RuntimeError):
    """A guest or a QEMU did not do what it should."""


def write_initramfs(path: Path, first: str = '') -> Path:
    """The initramfs of a guest that runs the command `first`, then memwalk."""
    return guest_image.write_initramfs(path, 'qemu', SCRIPT % first,
                                       [guest_image.program('memwalk')])


@dataclass(frozen=True)
class Line:
    """What the guest printed, when and in which place the end of it came."""
    time: float
    place: int
    text: str


class Console:
    """What one guest prints, wherever it runs."""

    def __init__(self, log: Path):
        self.lines: list[Line] = []
        self._log = open(log, 'wb')
        self._partial = b''
        self._changed = threading.Condition()
        self._selector = selectors.DefaultSelector()
        self._wake_read, self._wake_write = os.pipe()
        self._selector.register(self._wake_read, selectors.EVENT_READ, -1)
        self._thread = threading.Thread(target=self._copy, daemon=True)
        self._thread.start()

    def attach(self, stream: IO[bytes], place: int) -> None:
        """Read also from `stream`, after what comes from places with lower numbers, and close it
        at its end."""
        self._selector.register(stream, selectors.EVENT_READ, place)
        os.write(self._wake_write, b'+')

    def _copy(self) -> None:
        while True:
            # What the source printed was there before the destination could print anything.
            for key, _ in sorted(self._selector.select(), key=lambda ready: ready[0].data):
                data = os.read(key.fd, 65536)
                if key.data < 0:
                    if data == b'q':
                        return
                elif data:
                    self._add(data, key.data)
                else:
                    self._selector.unregister(key.fileobj)
                    key.fileobj.close()

    def _add(self, data: bytes, place: int) -> None:
        now = time.monotonic()
        self._log.write(data)
        self._log.flush()
        *lines, self._partial = (self._partial + data).split(b'\n')
        with self._changed:
            self.lines += [Line(now, place, line.decode(errors='replace').rstrip('\r'))
                           for line in lines]
            self._changed.notify_all()

    def wait_for(self, pattern: str, start: int, timeout_s: float,
                 place: int = 0) -> tuple[int, re.Match[str]]:
        """The first line from number `start` on that matches and is not from a place before
        `place`: its number and the match."""
        deadline = time.monotonic() + timeout_s
        with self._changed:
            while True:
                for number in range(start, len(self.lines)):
                    match = re.match(pattern, self.lines[number].text)
                    if match and self.lines[number].place >= place:
                        return number, match
                start = len(self.lines)
                left_s = deadline - time.monotonic()
                if left_s <= 0:
                    raise MigrationError(
                        f'the guest printed no {pattern!r} within {timeout_s:.0f} s')
                self._changed.wait(left_s)

    def tail(self, lines: int = 30) -> str:
        """The end of what the guest printed."""
        return '\n'.join(line.text for line in self.lines[-lines:])

    def close(self) -> None:
        """Read no more."""
        os.write(self._wake_write, b'q')
        self._thread.join()
        self._selector.close()
        os.close(self._wake_read)
        os.close(self._wake_write)
        self._log.close()


class Place:
    """One QEMU, and what is behind its network card."""

    def __init__(self, number: int, directory: Path, behind: str, *, packed: bool,
                 initramfs: Path, incoming: bool):
        self.number = number
        self.directory = directory
        self.svqd: Svqd | None = None
        self.testpmd: testpmd.Testpmd | None = None
        self.qemu: subprocess.Popen | None = None
        self._qmp: Qmp | None = None
        directory.mkdir()
        try:
            device = self._start_device(behind)
            self._start_qemu(device, packed, initramfs, incoming)
        except Exception:
            with contextlib.suppress(MigrationError):
                self.close()
            if self.qemu and self.qemu.stdout:
                self.qemu.stdout.close()
            raise

    @property
    def qmp(self) -> Qmp:
        """QEMU's monitor."""
        assert self._qmp
        return self._qmp

    def _start_device(self, behind: str) -> Path:
        """What QEMU connects to."""
        device = self.directory / 'device.sock'
        built_in = behind in (SVQD_LOOPBACK, AUTO_LOOPBACK)
        if not built_in:
            cpus = sorted(os.sched_getaffinity(0))
            self.testpmd = testpmd.back_end(device, PAIRS, RING_SIZE,
                                            cpus[self.number % len(cpus)],
                                            self.directory / 'testpmd.log')
            self.testpmd.wait_ready()
            self.testpmd.command('set fwd icmpecho')
            self.testpmd.start()
        if behind == TESTPMD:
            return device
        guest = self.directory / 'guest.sock'
        mode = 'auto' if behind in (AUTO_LOOPBACK, AUTO_TESTPMD) else 'shadow'
        self.svqd = Svqd(svqd_arguments(guest, None if built_in else device, mode),
                         self.directory / 'svqd.log')
        self.svqd.wait_listening(guest)
        return guest

    def _start_qemu(self, device: Path, packed: bool, initramfs: Path, incoming: bool) -> None:
        monitor = self.directory / 'qmp.sock'
        command = [
            *qemu_guest.command_line(device, initramfs, PAIRS, packed, {}, MEMORY_MB),
            # One CPU: two emulated ones would leave nothing of a small machine to the others.
            '-smp', '1', '-qmp', f'unix:{monitor}', *(['-incoming', 'defer'] if incoming else [])]
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(monitor))
            listener.listen(1)
            listener.settimeout(ANSWER_TIMEOUT_S)
            with open(self.directory / 'qemu.log', 'wb') as log:
                self.qemu = subprocess.Popen(command, stdin=subprocess.PIPE,
                                             stdout=subprocess.PIPE, stderr=log)
            try:
                connection = listener.accept()[0]
            except TimeoutError as late:
                raise MigrationError(f'QEMU did not start:\n{self.log_tail()}') from late
        self._qmp = Qmp(connection)

    def log_tail(self) -> str:
        """The end of what each process said."""
        return '\n'.join(
            f'---- {log.parent.name}/{log.name}\n{log.read_text(errors="replace")[-2000:]}'
            for log in sorted(self.directory.glob('*.log')))

    def close(self) -> None:
        """End it all, who connects before who listens."""
        statuses = {}
        if self._qmp:
            with contextlib.suppress(QmpError, OSError):
                self._qmp('quit')
            self._qmp.close()
        if self.qemu:
            statuses['QEMU'] = _end(self.qemu)
        if self.svqd:
            statuses['svqd'] = self.svqd.close()
        if self.testpmd:
            statuses['testpmd'] = self.testpmd.close()
        if any(statuses.values()):
            raise MigrationError(f'exit statuses: {statuses}\n{self.log_tail()}')


def svqd_arguments(guest: Path, device: Path | None, mode: str) -> list[str]:
    """svqd between the sockets `guest` and `device`, or with a built-in device that answers."""
    if device:
        backend = ['-chardev', f'socket,id=dp,path={device},reconnect-ms=100',
                   '-backend', 'vhost-user,id=dev,chardev=dp']
    else:
        backend = ['-backend', f'loopback,id=dev,queue-pairs={PAIRS},icmp-echo=on']
    mapping = ''
    arguments = []
    for pair in range(PAIRS):
        arguments += ['-object', f'iothread,id=io{pair},{IOTHREAD_OPTIONS}']
        mapping += f',iothread-vq-mapping.{pair}.iothread=io{pair}'
    return [*arguments, *backend, '-chardev', f'socket,id=vm,path={guest},server=on',
            '-device', f'svq,id=net0,chardev=vm,backend=dev,mode={mode}{mapping}']


@dataclass(frozen=True)
class Migration:
    """One migration, in numbers."""
    downtime_ms: int  # QEMU's word: from the stop at the source until all is sent
    gap_ms: float  # the outsider's word: see above
    total_ms: int
    passes: int  # over the guest's memory
    received: int  # datagrams that the source received meanwhile and the destination had to read
    switch_us: int | None = None  # mode=auto: until the source's device was shadowed


@dataclass(frozen=True)
class Verdict:
    """What the guest found when it verified itself, and which of its echoes we saw."""
    pages: int
    pages_written: int
    pages_bad: int
    unread: int
    datagrams: int
    datagrams_bad: int
    datagrams_lost: int
    datagrams_twice: int
    echoes: int
    echoes_lost: tuple[int, ...]
    complaints: tuple[str, ...]

    def fault(self, may_lose: int = 0) -> str:
        """What is wrong, or nothing; a device may lose so many datagrams."""
        faults = list(self.complaints)
        if self.pages != WALK_MB * PAGES_PER_MB or self.pages_bad:
            faults.append(f'{self.pages_bad} of {self.pages} pages are not what was written')
        if self.datagrams_bad or self.datagrams_lost > may_lose or self.datagrams_twice:
            faults.append(f'of {self.datagrams} datagrams {self.datagrams_bad} are not what was '
                          f'sent, {self.datagrams_lost} are lost, {self.datagrams_twice} came '
                          'twice')
        if self.echoes_lost:
            faults.append(f'echoes are lost: {self.echoes_lost}')
        return '\n'.join(faults)


class MovingGuest:
    """A guest from its boot on, wherever it is."""

    def __init__(self, directory: Path, behind: str, packed: bool, initramfs: Path):
        self.directory = directory
        self.behind = behind
        self.packed = packed
        self.initramfs = initramfs
        self._rounds = 0
        self._places = 0
        self.console = Console(directory / 'console.log')
        try:
            self.place = self._new_place(incoming=False)
        except Exception:
            self.console.close()
            raise

    def _new_place(self, incoming: bool) -> Place:
        place = Place(self._places, self.directory / f'place{self._places}', self.behind,
                      packed=self.packed, initramfs=self.initramfs, incoming=incoming)
        assert place.qemu and place.qemu.stdout
        self.console.attach(place.qemu.stdout, place.number)
        self._places += 1
        return place

    def wait_booted(self) -> None:
        """Wait until memwalk runs."""
        self.console.wait_for('ready$', 0, BOOT_TIMEOUT_S)

    def wait_loaded(self) -> None:
        """Wait until as many datagrams wait unread in the guest as shall do so."""
        start = len(self.console.lines)
        deadline = time.monotonic() + LOAD_TIMEOUT_S
        while True:
            start, line = self.console.wait_for(ECHO, start, FIRST_ECHO_TIMEOUT_S)
            start += 1
            if int(line['next']) - int(line['oldest']) >= UNREAD:
                return
            if time.monotonic() > deadline:
                raise MigrationError(f'no {UNREAD} datagrams wait in the guest: {line[0]}')

    def migrate(self) -> Migration:
        """Move to a fresh place; the old one ends."""
        source, destination = self.place, self._new_place(incoming=True)
        try:
            return self._migrate(source, destination)
        except (MigrationError, QmpError) as error:
            raise MigrationError(f'{error}\n{source.log_tail()}') from error
        finally:
            self.place = destination
            source.close()

    def _migrate(self, source: Place, destination: Place) -> Migration:
        uri = f'unix:{destination.directory / "migration.sock"}'
        destination.qmp('migrate-incoming', uri=uri)
        source.qmp('migrate-set-capabilities',
                   capabilities=[{'capability': 'events', 'state': True}])
        source.qmp('migrate-set-parameters', **PARAMETERS)
        start, before = self.console.wait_for(ECHO, len(self.console.lines), FIRST_ECHO_TIMEOUT_S)
        source.qmp('migrate', uri=uri)
        status = ''
        while status != 'completed':
            status = source.qmp.wait_event('MIGRATION', MIGRATION_TIMEOUT_S)['status']
            if status in ('failed', 'cancelled'):
                report = source.qmp('query-migrate')
                raise MigrationError(f'migration {status}: {report.get("error-desc", "")}')
        destination.qmp.wait_event('RESUME', MIGRATION_TIMEOUT_S)
        self.console.wait_for(ECHO, start, FIRST_ECHO_TIMEOUT_S, destination.number)
        return self._measure(source, int(before['next']))

    def _measure(self, source: Place, sent_before: int) -> Migration:
        echoes = self._echoes()
        after = next(i for i, (line, _) in enumerate(echoes) if line.place > source.number)
        (last_line, last), (first_line, first) = echoes[after - 1], echoes[after]
        expected_s = ECHO_INTERVAL_S * (int(first['number']) - int(last['number']))
        report = source.qmp('query-migrate')
        return Migration(
            downtime_ms=report['downtime'],
            gap_ms=1000 * (first_line.time - last_line.time - expected_s),
            total_ms=report['total-time'],
            passes=report['ram']['dirty-sync-count'],
            received=int(last['next']) - max(int(last['oldest']), sent_before))

    def _echoes(self) -> list[tuple[Line, re.Match[str]]]:
        return [(line, match) for line in self.console.lines
                if (match := re.match(ECHO, line.text))]

    def verify(self) -> Verdict:
        """Let the guest verify itself; then it goes on."""
        assert self.place.qemu and self.place.qemu.stdin
        self._rounds += 1
        start = len(self.console.lines)
        self.place.qemu.stdin.write(f'verify {self._rounds}\n'.encode())
        self.place.qemu.stdin.flush()
        _, answer = self.console.wait_for(f'verified {self._rounds} (.*)', start, VERIFY_TIMEOUT_S)
        words = dict(word.split('=') for word in answer[1].split())
        counters = {key.replace('-', '_'): int(value) for key, value in words.items()}
        echoes, lost = self._wait_echoes()
        return Verdict(**counters, echoes=echoes, echoes_lost=lost, complaints=tuple(
            line.text for line in self.console.lines if line.text.startswith('bad')))

    def _wait_echoes(self) -> tuple[int, tuple[int, ...]]:
        """How many echoes were answered since the start, and the numbers of those that were not."""
        deadline = time.monotonic() + LAST_ECHO_S
        while True:
            numbers = {int(match['number']) for _, match in self._echoes()}
            lost = sorted(set(range(max(numbers, default=0))) - numbers)
            if not lost or time.monotonic() > deadline:
                return len(numbers), tuple(lost)
            time.sleep(ECHO_INTERVAL_S)

    def queue_stats(self) -> list[QueueStats]:
        """svqd's counters of the queues where the guest is."""
        assert self.place.svqd
        return self.place.svqd.queue_stats(2 * PAIRS)

    def close(self) -> None:
        """End it, wherever it is."""
        try:
            self.place.close()
        finally:
            self.console.close()


def _end(process: subprocess.Popen) -> int:
    """Wait for a process that was told to end; its exit status."""
    if process.stdin:
        process.stdin.close()
    try:
        return process.wait(QUIT_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()
