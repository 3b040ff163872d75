# SPDX-License-Identifier: BSD-3-Clause
"""The groups of figures, by the names that --only takes."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from bench_suite import engine_groups, other_groups, thread_groups
from bench_suite.measure import Measured, Measurement
from bench_suite.suite import Suite

GROUPS: dict[str, Callable[[Suite], Iterator[Measurement] | Iterator[Measured]]] = {
    'machine': thread_groups.machine,
    'instructions': engine_groups.instructions,
    'time': engine_groups.time,
    'two-cores': thread_groups.two_cores,
    'latency': thread_groups.latency,
    'flood': thread_groups.flood,
    'queues': thread_groups.queues,
    'idle': other_groups.idle,
    'testpmd': other_groups.testpmd,
}
