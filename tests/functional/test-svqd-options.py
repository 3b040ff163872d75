#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""svqd's command line: wrong ones give one line and status 1 and leave nothing; right ones serve.

Usage: test-svqd-options.py SVQD.  Prints TAP.
"""

import json
import os
import select
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import time

LIMIT_S = 20.0
EXIT_LIMIT_S = 1.0

LOOPBACK = '-backend loopback,id=dev,queue-pairs=2'
VM = '-chardev socket,id=vm,path=@/vm.sock,server=on'
IO = '-object iothread,id=io0 -object iothread,id=io1'
DEVICE = f'{IO} {LOOPBACK} {VM} -device svq,id=net0,chardev=vm,backend=dev'
MAPPING = f'{DEVICE},iothread-vq-mapping'
LONG = 'x' * 200

# Command line ('@' is a scratch folder), the option to be named, a word of the remedy.
WRONG = [
    # the command line
    ('', '-device', 'nothing to serve'),
    ('-foo', '-foo', 'no such option'),
    ('foo', 'foo', 'no such option'),
    ('--help=x', '--help', 'takes no value'),
    ('-device', '-device', 'argument is missing'),
    (f'{LOOPBACK} --socket-path', '--socket-path', 'argument is missing'),
    (f'{LOOPBACK} --socket-path=@/vm.sock --fd=3', '--fd', 'give one'),
    ('--socket-path=@/vm.sock', '--socket-path', 'one -backend'),
    (f'{LOOPBACK} -backend loopback,id=two --socket-path=@/vm.sock', '--socket-path', 'one -backend'),
    (f'{DEVICE} --socket-path=@/other.sock', '--socket-path', 'give each -device a -chardev'),
    (f'{LOOPBACK} --socket-path=@/{LONG}', '--socket-path', 'shorter'),
    (f'{LOOPBACK} --socket-path=@/none/vm.sock', '--socket-path', '/none/vm.sock'),
    (f'{LOOPBACK} --fd=99', '--fd', 'no connected UNIX socket'),
    (f'{LOOPBACK} --fd=x', '--fd', 'must be a number'),
    # both notations
    (f'{DEVICE},packed', '-device', 'packed=VALUE'),
    (f'{DEVICE},a..b=x', '-device', 'NAME=VALUE'),
    (f'{MAPPING}.1.iothread=io0', '-device', "'iothread-vq-mapping.0' is missing"),
    (f"{VM} -device '{{\"driver\":'", '-device', 'not JSON'),
    (f"{LOOPBACK} {VM} -device '{{\"driver\":\"svq\",\"chardev\":7}}'", '-device svq', 'must be a text'),
    # types and ids
    ('-object thread,id=io0 -device svq', '-object', 'have: iothread'),
    ("-object '{\"id\":\"io0\"}' -device svq", '-object', 'qom-type'),
    ('-chardev pipe,id=vm -device svq', '-chardev', 'have: socket'),
    ('-backend tap,id=dev -device svq', '-backend', 'have: vhost-user, vhost-vdpa, loopback'),
    ('-device virtio-net-pci', '-device', 'have: svq'),
    (f'-object iothread {DEVICE}', '-object iothread', "'id' is missing"),
    (f'-object iothread,id=0io {DEVICE}', '-object iothread', 'must be a letter'),
    (f'-object iothread,id=io0 {DEVICE}', '-object iothread,id=io0', 'choose a different one'),
    # -object
    (f'-object iothread,id=io2,poll-max=1 {DEVICE}', '-object iothread,id=io2', 'have: poll-max-ns'),
    (f'-object iothread,id=io2,poll-max-ns=-1 {DEVICE}', '-object iothread,id=io2', 'from 0 to'),
    (f'-object iothread,id=io2,poll-weight=64 {DEVICE}', '-object iothread,id=io2', 'from 0 to 63'),
    (f'-object iothread,id=io2,cpu-affinity=1-0 {DEVICE}', '-object iothread,id=io2', 'CPU numbers'),
    (f'-object iothread,id=io2,cpu-affinity=1023 {DEVICE}', '-object iothread,id=io2', 'choose among'),
    # -chardev
    (f'-chardev socket,id=dp {DEVICE}', '-chardev socket,id=dp', "give 'path' or 'fd'"),
    (f'-chardev socket,id=dp,path=@/a,fd=0 {DEVICE}', '-chardev socket,id=dp', 'give one'),
    (f'-chardev socket,id=dp,path=@/a,reconnect=1,reconnect-ms=1 {DEVICE}', '-chardev socket,id=dp',
     'give one'),
    (f'-chardev socket,id=dp,path=@/a,server=on,reconnect=1 {DEVICE}', '-chardev socket,id=dp',
     'leave it out'),
    (f'-chardev socket,id=dp,path=@/a,server=maybe {DEVICE}', '-chardev socket,id=dp', 'on or off'),
    # -backend
    (f'-backend loopback,id=lo,queue-pairs=128 {DEVICE}', '-backend loopback,id=lo', 'from 1 to 127'),
    (f'-backend loopback,id=lo,icmp-echo=maybe {DEVICE}', '-backend loopback,id=lo', 'on or off'),
    (f'-backend loopback,id=lo,mtu=67 {DEVICE}', '-backend loopback,id=lo', 'from 68 to 65535'),
    (f'-backend loopback,id=lo,mac=01:00:00:00:00:00 {DEVICE}', '-backend loopback,id=lo', 'unicast'),
    (f'-backend loopback,id=lo,iothread=io7 {DEVICE}', '-backend loopback,id=lo', 'have: io0, io1'),
    (f'-backend vhost-user,id=vu {DEVICE}', '-backend vhost-user,id=vu', 'name a -chardev'),
    (f'-backend vhost-user,id=vu,chardev=dp {DEVICE}', '-backend vhost-user,id=vu', 'have: vm'),
    (f'-chardev socket,id=dp,path=@/gone -backend vhost-user,id=vu,chardev=dp {DEVICE}',
     '-backend vhost-user,id=vu', 'reconnect'),
    (f'-backend vhost-vdpa,id=vd {DEVICE}', '-backend vhost-vdpa,id=vd', "give 'vhostdev' or 'vhostfd'"),
    (f'-backend vhost-vdpa,id=vd,vhostdev=/dev/null,vhostfd=0 {DEVICE}', '-backend vhost-vdpa,id=vd', 'give one'),
    (f'-backend vhost-vdpa,id=vd,vhostdev=@/gone {DEVICE}', '-backend vhost-vdpa,id=vd', 'cannot open'),
    (f'-backend vhost-vdpa,id=vd,vhostdev=/dev/null {DEVICE}', '-backend vhost-vdpa,id=vd',
     '/dev/null is no vhost-vdpa device'),
    (f'-backend vhost-vdpa,id=vd,vhostfd=99 {DEVICE}', '-backend vhost-vdpa,id=vd', 'pass one that svqd inherits'),
    (f'-backend vhost-vdpa,id=vd,vhostfd=0 {DEVICE}', '-backend vhost-vdpa,id=vd', 'is no vhost-vdpa device'),
    (f'-backend vhost-vdpa,id=vd,vhostfd=x {DEVICE}', '-backend vhost-vdpa,id=vd', 'must be a number'),
    # -device
    (f'{LOOPBACK} {VM} -device svq,id=net0,chardev=vm', '-device svq,id=net0', 'name a -backend'),
    (f'{LOOPBACK} -device svq,id=net0,backend=dev', '-device svq,id=net0', 'name a -chardev'),
    (f'{VM} {LOOPBACK} -backend loopback,id=dp -device svq,id=net0,chardev=vm,backend=foo',
     '-device svq,id=net0', "'backend' names no -backend 'foo' (have: dev, dp)"),
    (f'{DEVICE} -chardev socket,id=v2,path=@/v2,server=on -device svq,chardev=v2,backend=dev',
     '-device svq', 'of its own'),
    (f'{DEVICE},packed=maybe', '-device svq,id=net0', 'auto, on or off'),
    (f'{DEVICE},queue-size=32769', '-device svq,id=net0', 'from 0 to 32768'),
    (f'{DEVICE},queue-size=100', '-device svq,id=net0', 'power of two'),
    (f'{DEVICE},inflight=@/none/net0', '-device svq,id=net0', '/none/net0'),
    (f'{DEVICE},inflight=/dev/null', '-device svq,id=net0', 'no regular file'),
    (f'{DEVICE},inflight=@/net0 -backend loopback,id=two -chardev socket,id=vm2,path=@/vm2.sock,server=on '
     '-device svq,id=net1,chardev=vm2,backend=two,inflight=@/net0', '-device svq,id=net1', 'is in use'),
    (f'{DEVICE},inflight=@/net0 -backend loopback,id=two -chardev socket,id=vm2,path=@/none/vm2.sock,server=on '
     '-device svq,id=net1,chardev=vm2,backend=two', '-device svq,id=net1', '/none/vm2.sock'),
    (f'{DEVICE},iothread=io9', '-device svq,id=net0', 'have: io0, io1'),
    (f'{MAPPING}.0.iothread=io0,iothread=io1', '-device svq,id=net0', 'give one'),
    (f'{MAPPING}.0.iothread=io9', '-device svq,id=net0', 'have: io0, io1'),
    (f'{MAPPING}.0.iothread=io0,iothread-vq-mapping.0.vqs.0=5', '-device svq,id=net0', 'name each'),
    (f'{MAPPING}.0.iothread=io0,iothread-vq-mapping.0.vqs.0=0', '-device svq,id=net0', 'name each'),
]

HELP = [
    ('--help', '-device'),
    ('-h', '-device'),
    ('-version', 'svqd '),
    ('-object help', 'iothread'),
    ('-backend ?', 'loopback'),
    ('-device svq,help', 'queue-size'),
]

RIGHT = [
    ('short form', f'{LOOPBACK} --socket-path=@/vm.sock'),
    ('one dash', f'{LOOPBACK} -socket-path @/vm.sock'),
    ('one IOThread', f'{DEVICE},iothread=io1'),
    ('a mapping without vqs', f'{MAPPING}.0.iothread=io0,iothread-vq-mapping.1.iothread=io1'),
    ('a mapping with vqs', f'{MAPPING}.0.iothread=io0,iothread-vq-mapping.0.vqs.0=0,'
     'iothread-vq-mapping.0.vqs.1=3,iothread-vq-mapping.1.iothread=io1,'
     'iothread-vq-mapping.1.vqs.0=1,iothread-vq-mapping.1.vqs.1=2'),
    ('a mapping of the control queue', f'{MAPPING}.0.iothread=io0,iothread-vq-mapping.0.vqs.0=4,'
     'iothread-vq-mapping.1.iothread=io1,iothread-vq-mapping.1.vqs.0=0,'
     'iothread-vq-mapping.1.vqs.1=1,iothread-vq-mapping.1.vqs.2=2,iothread-vq-mapping.1.vqs.3=3'),
    ('a device that answers', f'{LOOPBACK},icmp-echo=on --socket-path=@/vm.sock'),
    ('every kind in JSON', """
     -object '{"qom-type":"iothread","id":"io0","poll-max-ns":0,"cpu-affinity":[0]}'
     -chardev '{"backend":"socket","id":"vm","path":"@/vm.sock","server":true,"wait":false}'
     -backend '{"driver":"loopback","id":"dev","queue-pairs":2,"iothread":"io0"}'
     -device '{"driver":"svq","chardev":"vm","backend":"dev","packed":"on","queue-size":100,
               "iothread-vq-mapping":[{"iothread":"io0","vqs":[0,1,2,3]}]}'"""),
    ('devices before what they name', f'-device svq,chardev=vm,backend=dev,iothread=io0 {VM} {LOOPBACK} {IO}'),
    ('a peer that is not there yet', f'{VM} -chardev socket,id=dp,path=@/gone,reconnect-ms=50 '
     '-backend vhost-user,id=dev,chardev=dp -device svq,chardev=vm,backend=dev'),
    ('two devices', f'{DEVICE} -backend loopback,id=d2 -chardev socket,id=v2,path=@/v2.sock,server=on '
     '-device svq,id=net1,chardev=v2,backend=d2'),
]


class Tap:
    """Numbers and prints results."""

    def __init__(self):
        self.count = 0
        self.failed = 0

    def result(self, name, problem=None):
        self.count += 1
        self.failed += problem is not None
        print(f'{"ok" if problem is None else "not ok"} {self.count} - {name}', flush=True)
        if problem is not None:
            print(f'# {problem}', flush=True)


def arguments(line, folder):
    return [word.replace('@', folder) for word in shlex.split(line)]


def run(svqd, line, folder):
    return subprocess.run([svqd, *arguments(line, folder)], capture_output=True, text=True,
                          timeout=LIMIT_S, check=False, stdin=subprocess.DEVNULL)


def check_wrong(svqd, line, option, remedy):
    with tempfile.TemporaryDirectory() as folder:
        done = run(svqd, line, folder)
        left = os.listdir(folder)
    if done.returncode != 1:
        return f'status {done.returncode}'
    if done.stderr.count('\n') != 1 or not done.stderr.startswith('svqd: '):
        return f'not one line: {done.stderr!r}'
    if done.stdout:
        return f'stdout: {done.stdout!r}'
    if option not in done.stderr or remedy not in done.stderr:
        return f'{done.stderr!r} lacks {option!r} or {remedy!r}'
    return f'left behind: {left}' if left else None


def check_help(svqd, line, word):
    done = run(svqd, line, '/nonexistent')
    if done.returncode != 0 or done.stderr:
        return f'status {done.returncode}, {done.stderr!r}'
    return None if word in done.stdout else f'{done.stdout!r} lacks {word!r}'


def check_capabilities(svqd):
    done = run(svqd, '--print-capabilities', '/nonexistent')
    if done.returncode != 0 or done.stderr:
        return f'status {done.returncode}, {done.stderr!r}'
    capabilities = json.loads(done.stdout)
    return None if capabilities.get('type') == 'net' else f'{capabilities}'


def wait_for(condition):
    """Waits until condition() is true; false if that takes too long."""
    end = time.monotonic() + LIMIT_S
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True


def connects(path):
    with socket.socket(socket.AF_UNIX) as peer:
        try:
            peer.connect(path)
        except OSError:
            return False
    return True


def expected_sockets(words):
    """The paths below the scratch folder that the command line listens at."""
    text = ' '.join(words)
    return {name for name in ('vm.sock', 'v2.sock') if name in text}


def ends_well(process, number):
    start = time.monotonic()
    process.send_signal(number)
    _, errors = process.communicate(timeout=LIMIT_S)
    took = time.monotonic() - start
    if process.returncode != 0:
        return f'status {process.returncode}, {errors!r}'
    return f'took {took:.2f} s' if took > EXIT_LIMIT_S else None


def check_right(svqd, line, number):
    """svqd listens where it is told, and a signal ends it and leaves nothing."""
    with tempfile.TemporaryDirectory() as folder:
        words = arguments(line, folder)
        sockets = {os.path.join(folder, name) for name in expected_sockets(words)}
        with subprocess.Popen([svqd, *words], stderr=subprocess.PIPE, text=True,
                              stdin=subprocess.DEVNULL) as process:
            try:
                serves = wait_for(lambda: process.poll() is not None
                                  or all(connects(path) for path in sockets))
                if not serves or process.poll() is not None:
                    process.kill()
                    return f'does not serve: {process.communicate()[1]!r}'
                problem = ends_well(process, number)
            finally:
                process.kill()
        left = os.listdir(folder)
    return problem or (f'left behind: {left}' if left else None)


def check_fd(svqd):
    """--fd serves a connected socket that svqd inherits."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    get_features = (1).to_bytes(4, 'little') + (1).to_bytes(4, 'little') + bytes(4)
    words = arguments(f'{LOOPBACK} --fd={theirs.fileno()}', '/nonexistent')
    with ours, theirs, subprocess.Popen([svqd, *words], stderr=subprocess.PIPE, text=True,
                                        pass_fds=[theirs.fileno()]) as process:
        try:
            theirs.close()
            ours.settimeout(LIMIT_S)
            ours.sendall(get_features)
            reply = ours.recv(64)
            if len(reply) != 20:
                return f'reply of {len(reply)} bytes'
            return ends_well(process, signal.SIGTERM)
        except OSError as error:
            return f'no reply: {error}'
        finally:
            process.kill()


def read_lines(stream, count):
    """Up to that many lines, as many as come in time."""
    data = b''
    while data.count(b'\n') < count and select.select([stream], [], [], LIMIT_S)[0]:
        chunk = os.read(stream.fileno(), 65536)
        if not chunk:
            break
        data += chunk
    return data.decode().splitlines()


def check_stats(svqd):
    """SIGUSR1 prints a line for each virtqueue, and its IOThread: pairs take turns, then control."""
    with tempfile.TemporaryDirectory() as folder:
        words = arguments(f'{MAPPING}.0.iothread=io0,iothread-vq-mapping.1.iothread=io1', folder)
        with subprocess.Popen([svqd, *words], stderr=subprocess.PIPE, text=True,
                              stdin=subprocess.DEVNULL) as process:
            try:
                if not wait_for(lambda: connects(f'{folder}/vm.sock')):
                    return 'does not serve'
                process.send_signal(signal.SIGUSR1)
                table = [line.split() for line in read_lines(process.stderr, 6)]
                problem = ends_well(process, signal.SIGTERM)
            finally:
                process.kill()
    found = [(row[0], row[1], row[3]) for row in table[1:]]
    wanted = [('net0', '0', 'io0'), ('net0', '1', 'io0'), ('net0', '2', 'io1'), ('net0', '3', 'io1'),
              ('net0', '4', 'io0')]
    return problem or (None if found == wanted else f'{found}')


def main():
    svqd = os.path.abspath(sys.argv[1])
    tap = Tap()
    for line, option, remedy in WRONG:
        tap.result(f'wrong: {line[:100].replace("#", "")}', check_wrong(svqd, line, option, remedy))
    for line, word in HELP:
        tap.result(f'help: {line}', check_help(svqd, line, word))
    tap.result('prints its capabilities', check_capabilities(svqd))
    for name, line in RIGHT:
        tap.result(f'serves and ends: {name}', check_right(svqd, line, signal.SIGTERM))
    tap.result('serves and ends: SIGINT', check_right(svqd, RIGHT[0][1], signal.SIGINT))
    tap.result('serves and ends: --fd', check_fd(svqd))
    tap.result('SIGUSR1 prints the counters', check_stats(svqd))
    print(f'1..{tap.count}')
    return 1 if tap.failed else 0


if __name__ == '__main__':
    sys.exit(main())
