#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Every control command through svqd, and the state that they make, saved and loaded.

How it works: svq-bench is a guest's driver that sends commands and checks each answer; svqd knows
what state they make, and says so; its own loopback device knows all commands.  As a VMM
would in a migration, svq-bench takes the state from one svqd and brings it to another, whose device
is fresh.  What svqd then has, and what it sends on, must be the same.
"""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import tap
from svqd import BUILD, Svqd
from tap import check

PAIRS = 4
RUN_TIMEOUT_S = 60
BUFFERS = 20_000
FORMATS = ('split', 'packed')
KEY = '6d5a56da255b0ec24167253d43a38fb0d0ca2bcbae7b30b477cb2da38030f20c6a42b73bbeac01fa'

# Each command of the table, with the answer's bytes behind the ack if there are any; and what
# is wrong, with a ! before it.
COMMANDS = {
    f'MQ_VQ_PAIRS_SET {PAIRS}': '',
    'MAC_ADDR_SET 02:00:00:00:00:05': '',
    'RX_PROMISC off': '',
    'RX_ALLMULTI on': '',
    'RX_ALLUNI on': '',
    'RX_NOMULTI off': '',
    'RX_NOUNI off': '',
    'RX_NOBCAST on': '',
    'MAC_TABLE_SET 02:00:00:00:00:01 / 33:33:00:00:00:01 33:33:00:00:00:02': '',
    'VLAN_ADD 5': '',
    'VLAN_ADD 0': '',
    'VLAN_ADD 4095': '',
    'VLAN_DEL 5': '',
    'ANNOUNCE_ACK': '',
    f'MQ_RSS_CONFIG types=0x3f unclassified=0 table=0,1,2,3 transmit={PAIRS} key={KEY}': '',
    f'MQ_HASH_CONFIG types=0x3f key={KEY}': '',
    'GUEST_OFFLOADS_SET 0x2': '',
    'NOTF_COAL_TX_SET packets=5 usecs=6': '',
    'NOTF_COAL_RX_SET packets=50 usecs=60': '',
    'NOTF_COAL_VQ_SET vq=1 packets=7 usecs=8': '',
    'NOTF_COAL_VQ_GET vq=1': '0700000008000000',
}
WRONG = (
    '!VLAN_ADD 4096', '!VLAN_ADD 65535', '!VLAN_DEL 4096',
    '!MQ_VQ_PAIRS_SET 0', f'!MQ_VQ_PAIRS_SET {PAIRS + 1}',
    f'!MQ_RSS_CONFIG types=0x3f unclassified=0 table=0,1,2 transmit=1 key={KEY}',
    f'!MQ_RSS_CONFIG types=0x3f unclassified=0 table=0,{PAIRS} transmit=1 key={KEY}',
    '!GUEST_OFFLOADS_SET 0x1', f'!NOTF_COAL_VQ_SET vq={2 * PAIRS} packets=1 usecs=1',
    # RX_PROMISC without its byte, and with two; addresses of 5 and 7 bytes; tables without the
    # second count, and with a count that no table has; VLAN_ADD with 1 byte; and so on.
    '!0000', '!00000000', '!01010200000001', '!010102000000000100', '!010000000000',
    '!0100ffffffff00000000', '!020005', '!0500ff', '!060001000000', '!0601',
    # No such class, no such commands.
    '!7f00', '!0006', '!0604',
)


class Daemon:
    """A fresh svqd, whose device is fresh, too."""

    def __init__(self, directory: Path, shadow: str, pairs: int = PAIRS):
        self.socket = directory / 'vm.sock'
        device = ','.join(['svq,id=net0,chardev=vm,backend=dev',
                           f'packed={"on" if shadow == "packed" else "off"}',
                           'iothread-vq-mapping.0.iothread=io0'])
        self.svqd = Svqd(['-object', 'iothread,id=io0',
                          '-chardev', f'socket,id=vm,path={self.socket},server=on',
                          '-backend', f'loopback,id=dev,queue-pairs={pairs}', '-device', device],
                         directory / 'svqd.log')

    def __enter__(self) -> Daemon:
        try:
            self.svqd.wait_listening(self.socket)
        except BaseException:
            self.svqd.process.kill()
            raise
        return self

    def __exit__(self, kind, *_):
        if kind:
            self.svqd.process.kill()
            self.svqd.process.wait()
            return
        check(self.svqd.process.poll() is None, f'svqd has ended:\n{self.svqd.log_tail()}')
        status = self.svqd.close()
        check(status == 0, f'svqd ended with status {status}:\n{self.svqd.log_tail()}')

    def bench(self, *options: str) -> subprocess.CompletedProcess:
        """svq-bench as the driver."""
        command = [BUILD / 'svq-bench', 'vhost-user', '--socket-path', self.socket, '--json',
                   *options]
        return subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, text=True, timeout=RUN_TIMEOUT_S, check=False)

    def run(self, *options: str) -> dict:
        """What it reports; nothing was wrong."""
        bench = self.bench(*options)
        check(bench.returncode == 0,
              f'status {bench.returncode}\n{bench.stdout}{bench.stderr}\n{self.svqd.log_tail()}')
        return json.loads(bench.stdout)

    def fail(self, words: str, *options: str) -> None:
        """It says `words`, and that something is wrong."""
        bench = self.bench(*options)
        check(bench.returncode == 1 and words in bench.stderr and bench.stderr.count('\n') == 1,
              f'status {bench.returncode}, not "{words}": {bench.stdout}{bench.stderr}')


def check_commands(report: dict, wanted: dict[str, str]) -> None:
    """Each was sent, in this order, and answered as it should be."""
    answered = report['control']['commands']
    check([command['command'] for command in answered] == list(wanted), str(answered))
    for command in answered:
        text = command['command']
        check(command['answer'] == ('ERR' if text[0] == '!' else 'OK'), str(command))
        check(command.get('result', '') == wanted[text], str(command))


def every_command(directory: Path, guest: str, shadow: str, *options: str) -> str:
    """One test case: all commands, then all wrong ones; the state goes on to another svqd."""
    first, second = directory / 'first.state', directory / 'second.state'
    wanted = COMMANDS | dict.fromkeys(WRONG, '')
    with Daemon(directory, shadow) as daemon:
        report = daemon.run('--format', guest, '--control', ';'.join(wanted), '--control-only',
                            '--save-state', str(first), *options)
        check_commands(report, wanted)
    with Daemon(directory, shadow) as daemon:
        daemon.run('--format', guest, '--control-only', '--load-state', str(first),
                   '--save-state', str(second), *options)
    check(first.read_bytes() == second.read_bytes(), 'what was loaded is not what is saved')
    slowest = max(command['ns'] for command in report['control']['commands'])
    return (f'{len(wanted)} commands, {report["control"]["ns"] / len(wanted) / 1000:.0f} us each, '
            f'at most {slowest / 1000:.0f} us; state of {first.stat().st_size} bytes')


def pipelined(directory: Path, guest: str, shadow: str) -> str:
    """One test case: as many in flight as the ring holds, each cut into pieces anywhere."""
    vlans = dict.fromkeys((f'VLAN_ADD {i}' for i in range(1, 501)), '')
    with Daemon(directory, shadow) as daemon:
        report = daemon.run('--format', guest, '--descriptors', '3', '--control', ';'.join(vlans),
                            '--control-pipelined', '--control-only')
        check_commands(report, vlans)
    return f'{len(vlans)} commands in {report["control"]["ns"] / 1000:.0f} us'


def then_packets(directory: Path, guest: str, shadow: str) -> str:
    """One test case: packets pass after the commands, and after a state was loaded."""
    state = directory / 'state'
    options = ('--format', guest, '--queue-pairs', '2', '--buffers', str(BUFFERS))
    with Daemon(directory, shadow) as daemon:
        report = daemon.run(*options, '--save-state', str(state),
                            '--control', 'RX_PROMISC on;NOTF_COAL_TX_SET packets=0 usecs=0')
        check(report['buffers'] == 2 * BUFFERS, str(report))
        commands = [command['command'] for command in report['control']['commands']]
        check(commands[0] == 'MQ_VQ_PAIRS_SET 2', str(commands))
    with Daemon(directory, shadow) as daemon:
        report = daemon.run(*options, '--load-state', str(state))
        check(report['buffers'] == 2 * BUFFERS and 'control' not in report, str(report))
    return f'{2 * BUFFERS} buffers, twice'


def damaged_state(directory: Path) -> str:
    """One test case: a state that is not whole is refused, and the next one is taken."""
    state, damaged = directory / 'state', directory / 'damaged'
    refused = f"--load-state '{damaged}': the back end does not take it; its log says why"
    with Daemon(directory, 'split') as daemon:
        daemon.run('--control', 'VLAN_ADD 7', '--control-only', '--save-state', str(state))
        whole = state.read_bytes()
        for data in (b'', whole[:-1], whole + b'\0', bytes([whole[0] ^ 1]) + whole[1:],
                     whole[:-1] + bytes([whole[-1] ^ 0x80])):
            damaged.write_bytes(data)
            daemon.fail(refused, '--load-state', str(damaged), '--control-only')
        damaged.write_bytes(bytes(256 * 1024 + 1))
        daemon.fail(refused, '--load-state', str(damaged), '--control-only')
        daemon.run('--load-state', str(state), '--control-only')
    return f'{len(whole)} bytes'


def ranges_and_lists(directory: Path) -> str:
    """One test case: a range of VLANs is so many commands, and each --control adds its own."""
    with Daemon(directory, 'split') as daemon:
        report = daemon.run('--control-only', '--control', 'VLAN_ADD 1-3; VLAN_DEL 2-2;',
                            '--control', '!VLAN_ADD 4096-4097')
        check_commands(report, dict.fromkeys((
            'VLAN_ADD 1', 'VLAN_ADD 2', 'VLAN_ADD 3', 'VLAN_DEL 2', '!VLAN_ADD 4096',
            '!VLAN_ADD 4097'), ''))
        for wrong in ('3-1', '1-', '-1', '1-65536', '1-2-3', '1- 2'):
            daemon.fail(f"'VLAN_ADD {wrong}' is not written like 'VLAN_ADD 5'",
                        '--control', f'VLAN_ADD {wrong}')
        daemon.fail("'VLAN 1-3' begins with no command", '--control', 'VLAN 1-3')
    return ''


def wrong_answers(directory: Path) -> str:
    """One test case: svq-bench tells an answer that was not expected, and misuse."""
    with Daemon(directory, 'split') as daemon:
        daemon.fail('!VLAN_ADD 5 is answered with OK', '--control', 'VLAN_ADD 4;!VLAN_ADD 5')
        daemon.fail('VLAN_ADD 4096 is answered with ERR', '--control', 'VLAN_ADD 4096')
        daemon.fail("--control: 'VLAN_ADD' is not written like 'VLAN_ADD 5'",
                    '--control', 'VLAN_ADD')
        for text in ('0', '000', '0g', '!'):
            body = text.lstrip('!')
            daemon.fail(f"--control: '{body}' begins with no command", '--control', text)
        for text in ('', ';', ' ; '):
            daemon.fail(f"--control: '{text}' is no command", '--control', text)
        daemon.fail("--control: ';' is no command", '--control', 'VLAN_ADD 5', '--control', ';')
        daemon.fail('--control-pipelined needs --control', '--control-pipelined')
        daemon.fail('no packets', '--control-only', '--buffers', '5')
        daemon.fail('--queue-pairs: ', '--queue-pairs', str(PAIRS + 1), '--control-only')
    with Daemon(directory, 'split', pairs=1) as daemon:
        for options in ((), ('--control-only', '--control', 'VLAN_ADD 5')):
            daemon.fail('--queue-pairs: the back end has 1, not 2\n', '--queue-pairs', '2',
                        *options)
    return ''


def wrong_files(directory: Path) -> str:
    """One test case: what cannot be read or written is told before there is a connection."""
    with Daemon(directory, 'split') as daemon:
        for option, path, why in (
                ('--load-state', '/nonexistent', 'No such file or directory'),
                ('--load-state', '', 'No such file or directory'),
                ('--load-state', str(directory), 'Is a directory'),
                ('--save-state', '/nonexistent/state', 'No such file or directory'),
                ('--save-state', '', 'No such file or directory'),
                ('--save-state', f'{daemon.socket}/state', 'Not a directory'),
                ('--save-state', str(directory), 'Is a directory')):
            daemon.fail(f"{option} '{path}': {why}\n", option, path, '--control-only',
                        '--socket-path', '/nonexistent/socket')
        # That it is full shows when it is written.
        daemon.fail("--save-state '/dev/full': No space left on device\n",
                    '--save-state', '/dev/full', '--control-only')
    return ''


def main() -> int:
    with tempfile.TemporaryDirectory(prefix='svq-bench-control-') as name:
        directory = Path(name)
        cases: list[tap.Case] = []
        for guest, shadow in itertools.product(FORMATS, FORMATS):
            cases += [
                (f'every command, {guest} before {shadow} rings',
                 lambda guest=guest, shadow=shadow: every_command(directory, guest, shadow)),
                (f'commands in flight, {guest} before {shadow} rings',
                 lambda guest=guest, shadow=shadow: pipelined(directory, guest, shadow)),
            ]
        cases += [
            ('every command in pieces', lambda: every_command(directory, 'split', 'packed',
                                                              '--descriptors', '7')),
            ('every command in an indirect table',
             lambda: every_command(directory, 'packed', 'split', '--indirect')),
            ('packets after commands', lambda: then_packets(directory, 'packed', 'split')),
            ('a state that is damaged', lambda: damaged_state(directory)),
            ('ranges of VLANs, and several lists', lambda: ranges_and_lists(directory)),
            ('files that are not there', lambda: wrong_files(directory)),
            ('wrong answers are told', lambda: wrong_answers(directory)),
        ]
        return tap.run(cases)


if __name__ == '__main__':
    sys.exit(main())
