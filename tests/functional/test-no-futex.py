#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""While millions of buffers flow through svqd, its IOThreads make no futex call.

How it works: a lock that is never contended makes no system call, one that is contended makes futex
calls, and two IOThreads and the main thread contend for any lock that a buffer would need.  strace
stamps the futex calls of every thread of svqd.  Starting and stopping queues may need some, so two
looks at svqd's own counters mark a window well inside the traffic: it must hold the buffers, and no
futex call of an IOThread.  That strace saw the IOThreads at all is shown by their ends in its log.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import tap
from svqd import BUILD, Svqd, IOThread
from tap import check

PAIRS = 2
TRAFFIC_TIMEOUT_S = 20


class Traffic:
    """svqd with a loopback device under strace, and svq-bench that sends through it."""

    def __init__(self, directory: Path, packed: bool, seconds: int):
        self.trace = directory / 'trace'
        socket = directory / 'vm.sock'
        # -D: strace is the child and svqd the process that we started.  With --seccomp-bpf the
        # calls that are not traced cost nothing, so the traffic runs at its usual pace.
        strace = ('strace', '-D', '-f', '--seccomp-bpf', '-ttt', '-e', 'trace=futex',
                  '-o', str(self.trace))
        device = ['svq,id=net0,chardev=vm,backend=dev', f'packed={"on" if packed else "off"}',
                  'iothread-vq-mapping.0.iothread=io0', 'iothread-vq-mapping.1.iothread=io1']
        self.svqd = Svqd(['-object', 'iothread,id=io0', '-object', 'iothread,id=io1',
                          '-chardev', f'socket,id=vm,path={socket},server=on',
                          '-backend', f'loopback,id=dev,queue-pairs={PAIRS}',
                          '-device', ','.join(device)], directory / 'svqd.log', strace)
        self.svqd.wait_listening(socket)
        self.bench = subprocess.Popen(
            [BUILD / 'svq-bench', 'vhost-user', '--socket-path', socket,
             '--queue-pairs', str(PAIRS), '--format', 'packed' if packed else 'split',
             '--duration', str(seconds), '--json'],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def buffers(self) -> int:
        """What svqd gave back to its guest so far, all queues together."""
        return sum(queue.returned for queue in self.svqd.queue_stats(2 * PAIRS))

    def wait_flowing(self) -> None:
        """Wait until the first buffers went through."""
        deadline = time.monotonic() + TRAFFIC_TIMEOUT_S
        while self.buffers() < 1000:
            check(self.bench.poll() is None, 'svq-bench ended before its traffic flowed')
            check(time.monotonic() < deadline, f'no traffic after {TRAFFIC_TIMEOUT_S} s')
            time.sleep(0.05)

    def finish(self) -> str:
        """Wait for svq-bench, end svqd; what strace wrote."""
        output, _ = self.bench.communicate(timeout=60)
        check(self.bench.returncode == 0, f'svq-bench failed:\n{output}')
        pid = self.svqd.process.pid
        check(self.svqd.close() == 0, f'svqd failed:\n{self.svqd.log_tail()}')
        deadline = time.monotonic() + 10
        while not re.search(rf'^{pid} .*exited with', self.trace.read_text(), re.MULTILINE):
            check(time.monotonic() < deadline, 'strace did not finish its log')
            time.sleep(0.05)
        return self.trace.read_text()

    def close(self) -> None:
        """End what still runs."""
        for process in (self.bench, self.svqd.process):
            if process.poll() is None:
                process.kill()
                process.wait()


def calls_between(trace: str, thread: IOThread, start: float, end: float) -> list[str]:
    """The futex calls of a thread in a span of time."""
    lines = re.findall(rf'^{thread.tid} +(\d+\.\d+) (.*futex.*)', trace, re.MULTILINE)
    return [call for stamp, call in lines if start <= float(stamp) <= end]


def no_futex(packed: bool, options: argparse.Namespace) -> str:
    """One test case."""
    with tempfile.TemporaryDirectory(prefix='svqd-futex-') as name:
        traffic = Traffic(Path(name), packed, options.duration)
        try:
            traffic.wait_flowing()
            start, first = time.time(), traffic.buffers()
            while time.time() - start < options.duration / 2:
                time.sleep(0.1)
            check(traffic.bench.poll() is None, 'svq-bench ended early')
            buffers, end = traffic.buffers() - first, time.time()
            threads = [thread for thread in traffic.svqd.iothreads() if thread.id in ('io0', 'io1')]
            trace = traffic.finish()
        finally:
            traffic.close()
    check(len(threads) == 2, f'IOThreads: {threads}')
    check(buffers >= options.buffers, f'only {buffers} buffers in {end - start:.1f} s')
    for thread in threads:
        check(f'\n{thread.tid} ' in trace, f'strace did not see {thread}')
        calls = calls_between(trace, thread, start, end)
        check(not calls, f'{len(calls)} futex calls of {thread}, such as {calls[:3]}')
    return f'{buffers} buffers in {end - start:.1f} s, no futex call'


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or '').partition('\n')[0])
    parser.add_argument('--buffers', type=int, default=10_000_000,
                        help='buffers that must flow while we look [%(default)s]')
    parser.add_argument('--duration', type=int, default=20,
                        help='seconds of traffic; half of them are looked at [%(default)s]')
    options = parser.parse_args()
    if not shutil.which('strace'):
        return tap.skip_all('strace is missing; scripts/bootstrap check installs it')
    return tap.run([(f'{name} rings', lambda packed=packed: no_futex(packed, options))
                    for name, packed in (('split', False), ('packed', True))])


if __name__ == '__main__':
    sys.exit(main())
