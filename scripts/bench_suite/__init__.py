# SPDX-License-Identifier: BSD-3-Clause
"""What scripts/bench and scripts/bench-plots are made of.

`machine` says where the figures come from, `programs` runs what measures, `groups` says what is
measured against what, `figures` makes figures of the runs, `table` prints them, `svg` and `plots`
draw them.
"""
