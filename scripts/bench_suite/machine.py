# SPDX-License-Identifier: BSD-3-Clause
"""The machine that the figures come from: what it is, and which CPUs there are to measure on."""

from __future__ import annotations

import json
import os
import platform
import re
import shlex
import subprocess
from pathlib import Path

SYS_CPU = Path('/sys/devices/system/cpu')


def output_of(command: list[str]) -> str:
    """The first line that a command prints; nothing, if it cannot run."""
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.DEVNULL, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ''
    return done.stdout.partition('\n')[0].strip()


def first_siblings(cpus: list[int]) -> list[int]:
    """One CPU of each core."""
    seen: set[str] = set()
    first = []
    for cpu in cpus:
        try:
            core = (SYS_CPU / f'cpu{cpu}/topology/thread_siblings_list').read_text()
        except OSError:
            core = str(cpu)
        if core not in seen:
            seen.add(core)
            first.append(cpu)
    return first


def usable_cpus() -> list[int]:
    """The CPUs that we may use, a core's first thread before any second."""
    allowed = sorted(os.sched_getaffinity(0))
    first = first_siblings(allowed)
    return first + [cpu for cpu in allowed if cpu not in first]


def cpu_model() -> str:
    """As the kernel calls it."""
    try:
        found = re.search(r'^model name\s*: (.*)', Path('/proc/cpuinfo').read_text(), re.MULTILINE)
    except OSError:
        found = None
    return found[1] if found else platform.machine()


def compiler(build: Path) -> str:
    """What compiled `build`."""
    try:
        commands = json.loads((build / 'compile_commands.json').read_text())
        words = shlex.split(commands[0]['command'])
    except (OSError, ValueError, LookupError):
        return ''
    program = next((word for word in words if 'ccache' not in word), '')
    return output_of([program, '--version']) if program else ''


def build_options(build: Path) -> dict[str, object]:
    """The options of meson that make code fast or slow."""
    wanted = ('buildtype', 'optimization', 'b_sanitize', 'b_lto')
    try:
        options = json.loads((build / 'meson-info/intro-buildoptions.json').read_text())
    except (OSError, ValueError):
        return {}
    return {option['name']: option['value'] for option in options if option['name'] in wanted}


def describe(build: Path, source: Path) -> dict[str, object]:
    """All that somebody who compares figures of two machines wants to know."""
    cpus = usable_cpus()
    commit = output_of(['git', '-C', str(source), 'describe', '--always', '--dirty', '--abbrev=12'])
    return {
        'cpu': cpu_model(),
        'cpus': len(cpus),
        'cores': len(first_siblings(cpus)),
        'kernel': platform.release(),
        'compiler': compiler(build),
        'options': build_options(build),
        'commit': commit,
    }


def why_slow(machine: dict) -> str:
    """Why figures of this build mean little; nothing, if they do mean something."""
    options = machine['options']
    if options.get('b_sanitize', 'none') != 'none':
        return f'the build has sanitizers ({options["b_sanitize"]})'
    if options.get('optimization', '2') not in ('2', '3'):
        return f'the build is not optimized (optimization={options["optimization"]})'
    return ''
