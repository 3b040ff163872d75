# SPDX-License-Identifier: BSD-3-Clause
"""A machine whose kernel has vDPA devices, and our programs running in it.

How it works: QEMU emulates a machine that boots Debian's kernel (vdpa_kernel) into an initramfs
with our programs and their libraries.  The test gives it one shell script after the other, and
gets each one's status and output; a boot takes seconds, so the cases of a test share one.
Scripts, their outputs, logs and the kernel's messages lie in a folder that both sides have (9p),
so that they are there to be shown when the machine is not.  Nothing else of this machine is
visible inside.

What has to be known of such machines:

* vp_vdpa needs an IOMMU: without one its device file is there, but cannot be opened.
* The emulated IOMMU must come before the devices that it is for.
* With interrupt remapping the kernel's test of its timer fails on a busy machine, and panics:
  `no_timer_check`.  And what a watchdog would find then is no fault: `nowatchdog`.
* A virtio-net-pci has doorbells that can be mapped with `page-per-vq` only.
* A vDPA device goes to the driver that was there first; virtio_vdpa is not loaded.
"""

from __future__ import annotations

import contextlib
import functools
import os
import re
import shlex
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import debian
import tap
import vdpa_kernel
from guest import Guest, GuestError
from initramfs import Initramfs
from svqd import BUILD

QEMU = os.environ.get('QEMU_SYSTEM_X86_64', 'qemu-system-x86_64')
INIT = Path(__file__).parent / 'vdpa' / 'init'
MODULES = ('vdpa_sim_net', 'vdpa_sim_blk', 'vp_vdpa', 'vduse', 'vhost_vdpa', '9p', '9pnet_virtio')
# A mapping of memory that is scattered takes an entry for each page: the usual 2048 are 8 MiB.
# The simulator, where it reaches for pages, drops all mappings when they are too many, and says
# nothing.
MODULE_PARAMETERS = {'vhost_vdpa': 'max_iotlb_entries=131072',
                     'vdpa_sim': 'max_iotlb_entries=131072'}
OWN_PROGRAMS = ('svqd', 'svq-bench')
PROGRAMS = ('vdpa', 'strace')
KERNEL_PARAMETERS = ('console=ttyS0 quiet panic=-1 mitigations=off tsc=reliable '
                     'clocksource=acpi_pm no_timer_check nowatchdog ipv6.disable=1')
MEMORY_MB = 768
CPUS = 2
JOB_TIMEOUT_S = 30
# Beyond a job's own time: for its shell to end it, and for a busy machine to say so.
GRACE_S = 30
END_TIMEOUT_S = 30.0
POLL_S = 0.05
LOG_LINES = 60
KERNEL_COMPLAINT = (r'.*(?:BUG:|WARNING:|Oops|general protection|DMAR: \[DMA|'
                    r'blocked for more than).*')

# A script that gives the machine's virtio-net-pci to vp_vdpa, and prints its address.
PCI_BIND = """\
for device in /sys/bus/pci/devices/*; do
    [ "$(cat $device/vendor) $(cat $device/device)" = '0x1af4 0x1041' ] || continue
    address=${device##*/}
    echo vp-vdpa >$device/driver_override
    [ ! -e $device/driver ] || echo $address >$device/driver/unbind
    echo $address >/sys/bus/pci/drivers_probe
    echo $address
done
"""


class VmError(GuestError):
    """A program in the machine did not do what it should."""


class VdpaVm(Guest):
    """One machine."""

    def __init__(self, directory: Path, *, options: Sequence[str] = (), iommu: bool = False,
                 wrapper: Sequence[str] = (), programs: Iterable[Path] = (),
                 files: Iterable[Path] = ()):
        """`directory` is empty and the test's own; `options` are more of QEMU's; `wrapper` is a
        command that runs it; `programs` are more that the machine has in its path, `files` more
        that it has in the same places as this one."""
        self.share = directory / 'share'
        self.share.mkdir()
        self._jobs = 0
        self._processes: list[str] = []
        image = write_initramfs(directory / 'initramfs', programs, files)
        super().__init__([*wrapper, *command_line(image, self.share, iommu), *options],
                         self.share / 'console.log', {})
        self.up_after_s = self.wait_up()

    def try_run(self, script: str, timeout_s: int = JOB_TIMEOUT_S) -> tuple[int, str]:
        """Run a script of busybox's shell; its status, and what it printed."""
        self._jobs += 1
        job = f'job{self._jobs}'
        (self.share / job).write_text(script + '\n')
        self.send(f'{timeout_s} {job}')
        status = int(self.wait_for(rf'{job} status (\d+)', timeout_s + GRACE_S)[1])
        return status, (self.share / f'{job}.out').read_text(errors='replace')

    def run(self, script: str, timeout_s: int = JOB_TIMEOUT_S) -> str:
        """Run a script that has to end well; what it printed."""
        status, output = self.try_run(script, timeout_s)
        if status:
            raise VmError(f'status {status} of:\n{script}\n{output}')
        return output

    def start(self, name: str, command: Sequence[object], prepare: str = ':') -> VmProcess:
        """Start a program that goes on when the script ends.  `prepare` is what its shell does
        before."""
        words = ' '.join(shlex.quote(str(word)) for word in command)
        script = f'echo $$ >{name}.pid; {prepare}; exec {words}'
        (self.share / f'{name}.status').unlink(missing_ok=True)
        self.run(f'(sh -c {shlex.quote(script)} >{name}.log 2>&1 </dev/null\n'
                 f'echo $? >{name}.end; mv {name}.end {name}.status) >/dev/null 2>&1 &')
        self._processes.append(name)
        return VmProcess(self, name)

    def load_simulators(self, use_va: bool) -> None:
        """Load the simulators anew; `use_va`, their default: they reach for memory by its user's
        addresses, and only for shared mappings of files, else by locked pages."""
        self.run('rmmod vdpa_sim_net vdpa_sim_blk vdpa_sim || exit\n'
                 f'insmod /modules/vdpa_sim.ko {MODULE_PARAMETERS["vdpa_sim"]} '
                 f'use_va={int(use_va)} || exit\n'
                 'insmod /modules/vdpa_sim_net.ko && insmod /modules/vdpa_sim_blk.ko')

    def add_device(self, name: str, management: str, options: str = '') -> str:
        """Add a vDPA device; its device file."""
        return self.run(f'vdpa dev add name {name} mgmtdev {management} {options} || exit\n'
                        f'cd /sys/bus/vdpa/devices/{name} && '
                        'echo /dev/$(echo vhost-vdpa-*)').strip()

    @contextlib.contextmanager
    def device(self, name: str, management: str, options: str = '') -> Iterator[str]:
        """A vDPA device for the time of a `with`: its device file."""
        path = self.add_device(name, management, options)
        try:
            yield path
        finally:
            if self.process.poll() is None:
                self.kill_processes()  # who has it open would keep it from going
                self.run(f'vdpa dev del {name}')

    def wait_end(self, timeout_s: float = END_TIMEOUT_S) -> None:
        """End the machine in good order, which shows that its kernel still can."""
        self.send('')
        try:
            status = self.process.wait(timeout_s)
        except subprocess.TimeoutExpired as late:
            raise VmError(f'the machine still runs after {timeout_s:.0f} s') from late
        if status:
            raise VmError(f'the machine ended with status {status}')

    def kill_processes(self) -> None:
        """End what still runs of what was started."""
        left, self._processes = [name for name in self._processes
                                 if not (self.share / f'{name}.status').exists()], []
        for name in left:
            self.run(f'kill -9 $(cat {name}.pid)\n'
                     f'until [ -e {name}.status ]; do usleep 50000; done')

    def logs(self) -> str:
        """The ends of all logs; of the kernel's, the warnings."""
        text = ''
        for log in sorted(self.share.glob('*.log')):
            lines = log.read_text(errors='replace').splitlines()
            if log.name == 'kernel.log':
                lines = [line for line in lines if re.match('[0-4],', line)]
            text += '\n'.join([f'---- {log.name}', *lines[-LOG_LINES:], ''])
        return text


class VmProcess:
    """A program that runs in the machine."""

    def __init__(self, vm: VdpaVm, name: str):
        self.name = name
        self._vm = vm
        self._status = vm.share / f'{name}.status'
        self._log = vm.share / f'{name}.log'

    @property
    def log(self) -> str:
        """What it has printed."""
        return self._log.read_text(errors='replace') if self._log.exists() else ''

    @property
    def status(self) -> int | None:
        """How it ended; None: it runs."""
        return int(self._status.read_text()) if self._status.exists() else None

    def wait_log(self, pattern: str, timeout_s: float = JOB_TIMEOUT_S,
                 start: int = 0) -> re.Match[str]:
        """Wait until it has printed a line that matches, behind the first `start` characters."""
        expression = re.compile(pattern, re.MULTILINE)
        deadline = time.monotonic() + timeout_s
        while True:
            ended = self.status is not None
            found = expression.search(self.log, start)
            if found:
                return found
            if ended or time.monotonic() > deadline:
                what = 'ended and' if ended else f'for {timeout_s:.0f} s'
                raise VmError(f'{self.name} {what} did not say {pattern!r}:\n{self.log[-2000:]}')
            time.sleep(POLL_S)

    def wait(self, timeout_s: float) -> int:
        """Wait for its end; its status."""
        deadline = time.monotonic() + timeout_s
        while self.status is None:
            if time.monotonic() > deadline:
                raise VmError(f'{self.name} has not ended after {timeout_s:.0f} s')
            time.sleep(POLL_S)
        return self.status

    def signal(self, name: str) -> None:
        """Send it a signal."""
        self._vm.run(f'kill -{name} $(cat {self.name}.pid)')

    def stop(self, timeout_s: float = END_TIMEOUT_S) -> None:
        """End it as a service manager does; it has to end well."""
        self.signal('TERM')
        status = self.wait(timeout_s)
        if status:
            raise VmError(f'{self.name} ended with status {status}:\n{self.log[-2000:]}')


def run_cases(cases: Sequence[tuple[str, Callable[[VdpaVm], str]]], **arguments) -> int:
    """Boot a machine, run TAP cases with it, end it; the exit status of the program.  The arguments
    are VdpaVm's."""
    reason = missing()
    if reason:
        return tap.skip_all(reason)
    with tempfile.TemporaryDirectory(prefix='svqd-vdpa-') as name:
        vm = VdpaVm(Path(name), **arguments)
        try:
            tap.comment(f'the machine was up after {vm.up_after_s:.1f} s')
            return tap.run([(name, functools.partial(_run_case, function, vm)) for name, function
                            in (*cases, ('the kernel has no complaint, and ends', _end))])
        finally:
            vm.close()


def _run_case(function: Callable[[VdpaVm], str], vm: VdpaVm) -> str:
    """Run a case, which leaves no program behind, and show the logs if it fails."""
    start = time.monotonic()
    try:
        remark = function(vm)
        return f'{remark}; {time.monotonic() - start:.1f} s'
    except Exception:
        tap.comment(vm.logs())
        raise
    finally:
        if vm.process.poll() is None:
            vm.kill_processes()


def _end(vm: VdpaVm) -> str:
    vm.wait_end()
    log = (vm.share / 'kernel.log').read_text(errors='replace')
    found = re.search(KERNEL_COMPLAINT, log)
    tap.check(not found, f'the kernel says {found and found[0]!r}')
    return f'the kernel said {len(log.splitlines())} lines'


def start_svqd(vm: VdpaVm, arguments: Sequence[str], sockets: Sequence[str], name: str = 'svqd',
               prepare: str = ':', wrapper: Sequence[str] = ()) -> VmProcess:
    """svqd in the machine, which listens on `sockets`; `wrapper` is a program to run it with."""
    vm.run(f'rm -f {" ".join(sockets)}')  # of one that was killed
    process = vm.start(name, [*wrapper, 'svqd', *arguments], prepare)
    waits = ' && '.join(f'[ -S {socket} ]' for socket in sockets)
    vm.run(f'until {waits}; do [ ! -e {name}.status ] || exit 1; usleep 50000; done')
    return process


def write_initramfs(path: Path, programs: Iterable[Path], files: Iterable[Path]) -> Path:
    """An initramfs with our programs, `programs` and `files`; the same `path`."""
    image = Initramfs()
    for program in (*(BUILD / name for name in OWN_PROGRAMS), *map(debian.program, PROGRAMS),
                    *programs):
        image.add_program(program)
    for file in files:
        image.add_file(str(file).lstrip('/'), file.read_bytes())
    image.add_modules(vdpa_kernel.kernel(), MODULES, MODULE_PARAMETERS)
    image.add_file('init', INIT.read_bytes(), executable=True)
    return image.write(path)


def command_line(initramfs: Path, share: Path, iommu: bool) -> list[str]:
    """QEMU's command line; the console is on its standard input and output."""
    devices = ['-device', 'intel-iommu,intremap=on,eim=off,device-iotlb=on'] if iommu else []
    return [
        QEMU, '-accel', 'tcg,thread=multi', '-machine', 'q35', '-cpu', 'max', '-smp', str(CPUS),
        '-m', f'{MEMORY_MB}M', '-nodefaults', '-no-user-config', '-no-reboot', '-display', 'none',
        '-serial', 'stdio', *devices,
        '-virtfs', f'local,path={share},mount_tag=share,security_model=none,multidevs=remap',
        '-kernel', str(vdpa_kernel.kernel() / 'vmlinuz'), '-initrd', str(initramfs),
        '-append', KERNEL_PARAMETERS + (' intel_iommu=on' if iommu else '')]


def missing() -> str | None:
    """Why there can be no machine here, or None."""
    try:
        for name in (QEMU, *PROGRAMS):
            debian.program(name)
        vdpa_kernel.kernel()
    except debian.ImageError as error:
        return re.sub(r'\s+', ' ', str(error))
    return None
