#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""scripts/bench and scripts/bench-plots: what they run, what they make of it, and what they say.

How it works: programs that print numbers known beforehand stand in for svq-bench, so that medians,
ratios and verdicts are known exactly.  Then the real ones run for a moment, to see that the suite
and they still understand each other; what they measure is not looked at.
"""

from __future__ import annotations

import itertools
import json
import math
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import tap
from svqd import BUILD
from tap import check

SOURCE = Path(__file__).resolve().parents[2]
TIMEOUT_S = 100
OURS = (30.0, 10.0, 20.0)       # ns, round by round
NAIVE = (90.0, 100.0, 800.0)
FORMATS = ('split', 'packed')
SVG = '{http://www.w3.org/2000/svg}'
# Says which engine it is in a log, and prints the next of its numbers, after the last the first.
FAKE = '''#!{python}
import json, pathlib, sys
log = pathlib.Path({log!r})
mine = log.read_text().split().count({name!r}) if log.exists() else 0
with log.open('a') as file:
    print({name!r}, file=file)
values = {values!r}
print(json.dumps({{'ns_per_buffer': values[mine % len(values)], 'buffers': 1, 'errors': 0}}))
'''


def make_fake(program: Path, name: str, values: tuple[float, ...], log: Path) -> None:
    """A program that prints `values` in turn."""
    program.parent.mkdir(parents=True, exist_ok=True)
    program.write_text(FAKE.format(python=sys.executable, log=str(log), name=name, values=values))
    program.chmod(0o755)


def fake_build(directory: Path) -> Path:
    """A build with both engines.  Returns their log."""
    log = directory / 'log'
    make_fake(directory / 'svq-bench', 'ours', OURS, log)
    make_fake(directory / 'tests/bench/svq-bench-naive', 'naive', NAIVE, log)
    return log


def run_bench(build: Path, output: Path, *options: str, status: int = 0) -> tuple[str, dict]:
    """What it prints, and results.json."""
    done = subprocess.run([SOURCE / 'scripts/bench', f'--build={build}', f'--output={output}',
                           *options], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True, timeout=TIMEOUT_S, check=False)
    words = f'{done.stdout}{done.stderr}'
    check(done.returncode == status, f'status {done.returncode}\n{words}')
    return words, json.loads((output / 'results.json').read_text())


def find(results: dict, name: str) -> dict:
    """The figure of that name."""
    found = [figure for figure in results['figures'] if figure['name'] == name]
    check(len(found) == 1, f'{len(found)} figures are called {name}')
    return found[0]


def check_figure(figure: dict, rounds: int) -> None:
    """Whether its numbers are made of one another as they should be."""
    ours = figure['ours']
    for series in [ours, *figure['baselines'].values()]:
        check(len(series['rounds']) == rounds, f'{figure["name"]}: {series}')
        check(series['median'] == statistics.median(series['rounds']) and
              series['min'] == min(series['rounds']) and series['max'] == max(series['rounds']),
              f'{figure["name"]}: {series}')
    for baseline in figure['baselines'].values():
        check(baseline['ratio'] is None or
              math.isclose(baseline['ratio'], ours['median'] / baseline['median']),
              f'{figure["name"]}: {baseline}')
    limit = figure['limit']
    if limit:
        bound = limit['value'] + sum(times * figure['baselines'][name]['median']
                                     for name, times in limit['of'].items())
        held = ours['median'] >= bound if limit['at_least'] else ours['median'] <= bound
        check(math.isclose(bound, limit['bound']) and figure['holds'] is held,
              f'{figure["name"]}: {limit}, {figure["holds"]}')


def medians_of_alternating_rounds(directory: Path) -> str:
    """One test case: exact numbers, and the order of the runs."""
    log = fake_build(directory / 'build')
    words, results = run_bench(directory / 'build', directory / 'out', '--only=time', '--rounds=3',
                               '--match=split → split, 1 descriptor')
    check(len(results['figures']) == 1, words)
    figure = find(results, 'split → split, 1 descriptor')
    check(figure['ours'] == {'median': 20.0, 'min': 10.0, 'max': 30.0, 'rounds': list(OURS)},
          str(figure))
    check(figure['baselines']['naive']['median'] == 100.0 and
          figure['baselines']['naive']['ratio'] == 0.2 and figure['holds'] is None, str(figure))
    check(log.read_text().split() == ['ours', 'naive'] * 3, log.read_text())
    check('20.0 ns' in words and '10.0–30.0' in words and '0.20' in words, words)
    return ''


def verdict_by_the_limit(directory: Path) -> str:
    """One test case: 1.3 times what 8 ranges take; here ours is what the fake prints next."""
    fake_build(directory / 'build')
    name = 'split → split, 1024 ranges'
    options = ('--only=time', f'--match={name}', '--rounds=1')
    words, results = run_bench(directory / 'build', directory / 'out', *options)
    figure = find(results, name)
    check_figure(figure, 1)
    check(figure['ours']['median'] == 30.0 and figure['limit']['bound'] == 13.0 and
          figure['holds'] is False and 'DOES NOT HOLD' in words, f'{words}{figure}')
    (directory / 'build/log').unlink()
    run_bench(directory / 'build', directory / 'out', *options, '--strict', status=1)
    # The next values are 10 and, for 8 ranges, 20... after one more run.
    (directory / 'build/log').write_text('ours\n')
    words, results = run_bench(directory / 'build', directory / 'out', *options, '--strict')
    check(find(results, name)['holds'] is True and '1 hold' in words, words)
    return ''


def earlier_build_is_a_baseline(directory: Path) -> str:
    """One test case: --baseline."""
    fake_build(directory / 'build')
    make_fake(directory / 'old/svq-bench', 'earlier', (40.0,), directory / 'build/log')
    options = ('--only=time', '--match=split → split, 1 descriptor', '--rounds=3')
    _, results = run_bench(directory / 'build', directory / 'out', *options,
                           f'--baseline={directory / "old"}')
    baselines = results['figures'][0]['baselines']
    check(baselines['earlier']['ratio'] == 0.5 and 'naive' in baselines, str(baselines))
    # One that knows less than ours is left out.
    (directory / 'old/svq-bench').write_text('#!/bin/sh\necho "Unknown option --new" >&2; exit 1\n')
    _, results = run_bench(directory / 'build', directory / 'out', *options,
                           f'--baseline={directory / "old"}')
    check(set(results['figures'][0]['baselines']) == {'naive'}, str(results['figures'][0]))
    return ''


def missing_is_said_and_wrong_fails(directory: Path) -> str:
    """One test case: a program that is not there is no failure; one that fails is."""
    fake_build(directory / 'build')
    words, results = run_bench(directory / 'build', directory / 'out', '--only=idle', '--quick')
    check('queues-bench is not built' in words and
          all(figure['ours'] is None and figure['unavailable'] for figure in results['figures']),
          words)
    (directory / 'build/svq-bench').write_text('#!/bin/sh\necho "no memory" >&2; exit 1\n')
    words, results = run_bench(directory / 'build', directory / 'out', '--only=time', '--quick',
                               '--match=1 descriptor', status=1)
    check('FAILED' in words and 'no memory' in words and
          all(figure['failed'] for figure in results['figures']), words)
    return ''


def real_programs(directory: Path) -> str:
    """One test case: all that svq-bench is asked for it can do."""
    cpus = len(os.sched_getaffinity(0))
    words, results = run_bench(BUILD, directory / 'out', '--quick',
                               '--only=machine,time,two-cores,latency,flood,queues')
    groups = {figure['group'] for figure in results['figures'] if figure['ours']}
    wanted = {'time', 'queues'}
    if cpus > 1:
        wanted |= {'machine', 'two-cores', 'latency', 'flood'}
    check(groups == wanted, f'{groups}\n{words}')
    check(results['format'] == 1 and results['machine']['cpus'] == cpus and
          results['machine']['compiler'] and results['rounds'] == 3, str(results['machine']))
    for figure in results['figures']:
        check(figure['name'] in words, f'{figure["name"]} is not in the table')
        if figure['ours']:
            check_figure(figure, 3)
        if figure['group'] == 'time':
            check('naive' in figure['baselines'], str(figure))
    return f'{len(results["figures"])} figures'


def counted_instructions(directory: Path) -> str:
    """One test case: callgrind, each round with another seed."""
    if not shutil.which('valgrind'):
        raise tap.Skip('valgrind is not installed (scripts/bootstrap installs it)')
    words, results = run_bench(BUILD, directory / 'out', '--quick', '--only=instructions',
                               '--match=split → split, 1 descriptor')
    figure = find(results, 'split → split, 1 descriptor')
    check(figure['ours'] is not None, words)
    check_figure(figure, 3)
    naive = figure['baselines']['naive']['median']
    check(figure['ours']['median'] < naive, f'{figure["ours"]["median"]}, naive {naive}')
    return f'{figure["ours"]["median"]:.1f} instructions, naive {naive:.1f}'


def both_engines_forward_and_log(_: Path) -> str:
    """One test case: what is compared is right; svq-bench looks at every buffer."""
    programs = (BUILD / 'svq-bench', BUILD / 'tests/bench/svq-bench-naive')
    settings = (('engine', '--ranges', '1024', '--dirty-log', '--written', 'all'),
                ('engine', '--descriptors', '3', '--dirty-log', '--buffer-size', '5000'),
                ('engine', '--in-order', '--indirect', '--written', 'none'),
                ('threads', '--descriptors', '3', '--queue-size', '16'))
    for program, setting, guest, shadow in itertools.product(programs, settings, *[FORMATS] * 2):
        done = subprocess.run([program, *setting, '--guest', guest, '--shadow', shadow, '--json',
                               '--buffers', '5000'], stdin=subprocess.DEVNULL, text=True,
                              stdout=subprocess.PIPE, timeout=TIMEOUT_S, check=False)
        words = f'{program.name} {setting} {guest} > {shadow}: {done.stdout}'
        check(done.returncode == 0, words)
        report = json.loads(done.stdout)
        check(report['buffers'] == 5000 and report['errors'] == 0, words)
    return ''


def plots_are_drawn(directory: Path) -> str:
    """One test case: of fake results."""
    fake_build(directory / 'build')
    run_bench(directory / 'build', directory / 'out', '--only=time', '--rounds=3')
    subprocess.run([SOURCE / 'scripts/bench-plots', f'--input={directory / "out"}',
                    f'--output={directory / "plots"}'], stdin=subprocess.DEVNULL, check=True,
                   stderr=subprocess.PIPE, timeout=TIMEOUT_S)
    files = {path.name for path in (directory / 'plots').iterdir()}
    check(files == {'burst.svg', 'ranges.svg', 'results.txt'}, str(files))
    for name in ('burst.svg', 'ranges.svg'):
        root = ElementTree.parse(directory / 'plots' / name).getroot()
        check(root.tag == f'{SVG}svg', root.tag)
        # Two engines, two formats, four places.
        check(len(root.findall(f'{SVG}polyline')) == 4 and len(root.findall(f'{SVG}circle')) == 16,
              name)
        texts = [element.text for element in root.findall(f'{SVG}text')]
        check('split, ours' in texts and 'packed, naive' in texts, str(texts))
    return ''


def in_directory(function: Callable[[Path], str]) -> tap.Case:
    """A test case with a folder of its own."""
    def case() -> str:
        with tempfile.TemporaryDirectory(prefix='bench-suite-') as name:
            return function(Path(name))
    return function.__name__.replace('_', ' '), case


if __name__ == '__main__':
    sys.exit(tap.run([in_directory(function) for function in (
        medians_of_alternating_rounds, verdict_by_the_limit, earlier_build_is_a_baseline,
        missing_is_said_and_wrong_fails, plots_are_drawn,
        both_engines_forward_and_log, real_programs, counted_instructions)]))
