# SPDX-License-Identifier: BSD-3-Clause
"""The Test Anything Protocol for tests in Python: a list of named cases, each a function."""

from __future__ import annotations

import signal
import sys
import traceback
from collections.abc import Callable

Case = tuple[str, Callable[[], str]]


class Failure(Exception):
    """The test saw what must not be; the message says what."""


class Skip(Exception):
    """The test cannot run here; the message says what is missing, for a person."""


def check(condition: bool, message: str) -> None:
    """Fail the running case with `message` unless `condition` holds."""
    if not condition:
        raise Failure(message)


def comment(text: str) -> None:
    """Print lines for people."""
    for line in text.splitlines():
        print(f'# {line}', flush=True)


def skip_all(reason: str) -> int:
    """Skip the whole program."""
    print(f'1..0 # SKIP {reason}')
    return 0


def run(cases: list[Case]) -> int:
    """Run the cases, each of which returns a remark to print; the exit status of the program."""
    # Ended by a time-out, a case still ends what it started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    print(f'1..{len(cases)}', flush=True)
    failed = 0
    for number, (name, function) in enumerate(cases, 1):
        try:
            comment(function())
            print(f'ok {number} - {name}', flush=True)
        except Skip as reason:
            print(f'ok {number} - {name} # SKIP {reason}', flush=True)
        except Failure as failure:
            comment(str(failure))
            print(f'not ok {number} - {name}', flush=True)
            failed += 1
        except Exception:  # pylint: disable=broad-except  # the other cases still run
            comment(traceback.format_exc())
            print(f'not ok {number} - {name}', flush=True)
            failed += 1
    return 1 if failed else 0
