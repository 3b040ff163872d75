# SPDX-License-Identifier: BSD-3-Clause
"""DPDK's testpmd as a peer: a virtio-user front end or a vhost back end that a test can command.

How it works: testpmd reads commands from a pipe and writes to a pty, because it buffers its output
in blocks when that is not a terminal.  One thread per process copies the output to a log; a command
is over when the next prompt appears.  What DPDK's other threads print in between, even in the
middle of a prompt, is taken out before looking.  Closing the pipe ends testpmd, so none outlives
its test.
"""

from __future__ import annotations

import os
import pty
import re
import subprocess
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

PROGRAM = os.environ.get('DPDK_TESTPMD', 'dpdk-testpmd')
PROMPT = 'testpmd> '
BURST = 32
ASYNC_OUTPUT = re.compile(r'\nPort 0: [a-z ]+ event\n|VHOST_CONFIG: .*\n')

START_TIMEOUT_S = 60.0
COMMAND_TIMEOUT_S = 60.0


class TestpmdError(RuntimeError):
    """testpmd did not do what it was told; the message ends with the tail of its log."""


@dataclass(frozen=True)
class PortStats:
    """Packets that the port's driver moved since the last clear(), by queue."""
    rx: tuple[int, ...]
    tx: tuple[int, ...]


@dataclass(frozen=True)
class ForwardStats:
    """What testpmd did between start and stop; 'dropped' is what it received and did not send."""
    rx: int
    tx: int
    dropped: int


class Testpmd:
    """One dpdk-testpmd process with one port, forwarding on one CPU."""

    def __init__(self, name: str, vdev: str, cpu: int, queues: int, ring_size: int,
                 log: Path):
        self.name = name
        self.queues = queues
        self.log = log
        self._output = ''
        self._changed = threading.Condition()
        # A runtime directory of its own: DPDK leaves files behind, and /run/dpdk needs root.
        self._runtime = tempfile.TemporaryDirectory(prefix='testpmd-', ignore_cleanup_errors=True)
        master, slave = pty.openpty()
        self.process = subprocess.Popen(
            self._command_line(vdev, cpu, ring_size), stdin=subprocess.PIPE, stdout=slave,
            stderr=slave, text=True, bufsize=1,
            env=os.environ | {'RUNTIME_DIRECTORY': self._runtime.name})
        os.close(slave)
        threading.Thread(target=self._copy_output, args=(master,), daemon=True).start()

    def _command_line(self, vdev: str, cpu: int, ring_size: int) -> list[str]:
        eal = [PROGRAM, '--lcores', f'0@{cpu},1@{cpu}', '--no-pci', '--no-huge', '-m', '512',
               '--no-shconf', '--no-telemetry', '--file-prefix', f'svqd-{self.name}-{os.getpid()}',
               '--vdev', vdev]
        app = ['-i', '--nb-cores=1', f'--rxq={self.queues}', f'--txq={self.queues}',
               f'--rxd={ring_size}', f'--txd={ring_size}', f'--burst={BURST}', '--txpkts=64',
               f'--total-num-mbufs={self.queues * (4 * ring_size + 2048)}', '--no-mlockall',
               '--no-flush-rx', '--forward-mode=io']
        return eal + ['--'] + app

    def _copy_output(self, master: int) -> None:
        with open(self.log, 'wb') as log:
            while True:
                try:
                    data = os.read(master, 65536)
                except OSError:  # EIO: the last holder of the slave side is gone
                    data = b''
                with self._changed:
                    if not data:
                        self._changed.notify_all()
                        os.close(master)
                        return
                    self._output += data.decode('latin1').replace('\r', '')
                    self._changed.notify_all()
                log.write(data)
                log.flush()

    def _wait_for(self, text: str, count: int, start: int, timeout_s: float) -> str:
        """The output from character `start` on, once it holds `text` `count` times."""
        deadline = time.monotonic() + timeout_s
        with self._changed:
            while True:
                output = self._output[start:]
                # A prompt may be cut in two by another thread's line, so look without those lines.
                if output.count(text) >= count:
                    return output
                output = ASYNC_OUTPUT.sub('', output)
                if output.count(text) >= count:
                    return output
                if self.process.poll() is not None:
                    raise TestpmdError(f'{self.name}: ended with status {self.process.returncode}')
                left_s = deadline - time.monotonic()
                if left_s <= 0:
                    raise TestpmdError(f'{self.name}: no {text!r} within {timeout_s:.0f} s')
                self._changed.wait(min(left_s, 1.0))

    def wait_ready(self) -> None:
        """Wait for the first prompt: the port is configured and started."""
        self._wait_for(PROMPT, 1, 0, START_TIMEOUT_S)
        self.command('set xstats-hide-zero on')

    def wait_connected(self) -> None:
        """For a back end: wait until the driver enabled every ring."""
        self._wait_for('queue state event', 2 * self.queues, 0, START_TIMEOUT_S)

    def command(self, text: str) -> str:
        """Run one command and return what it printed."""
        with self._changed:
            start = len(self._output)
        assert self.process.stdin
        self.process.stdin.write(text + '\n')
        self.process.stdin.flush()
        return self._wait_for(PROMPT, 1, start, COMMAND_TIMEOUT_S)

    def start(self, first_bursts: int = 0) -> None:
        """Start forwarding; send `first_bursts` bursts on each queue before."""
        self.command(f'start tx_first {first_bursts}' if first_bursts else 'start')

    def stop(self) -> ForwardStats:
        """Stop forwarding and return what it did since start()."""
        answer = self.command('stop')
        total = answer[answer.index('all ports'):]
        return ForwardStats(rx=_number(r'RX-packets:\s*(\d+)', total),
                            tx=_number(r'TX-packets:\s*(\d+)', total),
                            dropped=_number(r'TX-dropped:\s*(\d+)', total))

    def port_stats(self) -> PortStats:
        """The driver's counters of each queue."""
        answer = self.command('show port xstats 0')
        packets = {(match[1], int(match[2])): int(match[3]) for match in
                   re.finditer(r'\b(rx|tx)_q(\d+)_good_packets: (\d+)', answer)}
        return PortStats(*(tuple(packets.get((way, queue), 0) for queue in range(self.queues))
                           for way in ('rx', 'tx')))

    def receive_rate(self, seconds: float) -> float:
        """Packets a second that the port receives, by testpmd's own clock."""
        self.command('show port stats 0')
        time.sleep(seconds)
        return float(_number(r'Rx-pps:\s*(\d+)', self.command('show port stats 0')))

    def settled_port_stats(self, quiet_s: float = 0.3) -> PortStats:
        """The driver's counters once they have not moved for `quiet_s`."""
        deadline = time.monotonic() + COMMAND_TIMEOUT_S
        last = self.port_stats()
        while time.monotonic() < deadline:
            time.sleep(quiet_s)
            now = self.port_stats()
            if now == last:
                return now
            last = now
        raise TestpmdError(f'{self.name}: packets still move after {COMMAND_TIMEOUT_S:.0f} s')

    def close(self) -> int:
        """End the process, politely first; its exit status."""
        try:
            if self.process.poll() is None and self.process.stdin:
                self.process.stdin.write('quit\n')
                self.process.stdin.close()
            self.process.wait(10)
        except (OSError, subprocess.TimeoutExpired):
            self.process.kill()
            self.process.wait()
        self._runtime.cleanup()
        return self.process.returncode

    def log_tail(self, lines: int = 40) -> str:
        """The end of what the process printed."""
        with self._changed:
            return '\n'.join(self._output.splitlines()[-lines:])


def _number(pattern: str, text: str) -> int:
    match = re.search(pattern, text)
    if not match:
        raise TestpmdError(f'no {pattern!r} in:\n{text}')
    return int(match.group(1))


def back_end(socket: Path, queues: int, ring_size: int, cpu: int, log: Path) -> Testpmd:
    """A vhost-user device that listens on `socket`."""
    return Testpmd('back', f'net_vhost0,iface={socket},queues={queues},client=0', cpu, queues,
                   ring_size, log)


def front_end(socket: Path, queues: int, ring_size: int, cpu: int, log: Path, *, packed: bool,
              in_order: bool) -> Testpmd:
    """A virtio driver in user space that connects to `socket`."""
    vdev = (f'net_virtio_user0,path={socket},queues={queues},queue_size={ring_size},'
            f'packed_vq={packed:d},in_order={in_order:d},mrg_rxbuf=1')
    return Testpmd('front', vdev, cpu, queues, ring_size, log)
