# SPDX-License-Identifier: BSD-3-Clause
# A thin front for people in a hurry: configure and meson do the work, in build/.

BUILD := build

.DEFAULT_GOAL := all
.PHONY: all demo demo-guest check bench install clean help bootstrap

all: bootstrap $(BUILD)/build.ninja
	@ninja -C $(BUILD)

demo: all
	@scripts/demo --build=$(BUILD)

demo-guest: all
	@scripts/bootstrap guest
	@SVQD_BUILD=$(abspath $(BUILD)) scripts/demo-guest

check:
	@scripts/bootstrap check
	@scripts/check --build=$(BUILD)

bench: all
	@scripts/bench --build=$(BUILD)

install: $(BUILD)/build.ninja
	@meson install -C $(BUILD)

clean:
	@rm -rf $(BUILD) $(BUILD)-asan $(BUILD)-tsan $(BUILD)-clang

bootstrap:
	@scripts/bootstrap build

$(BUILD)/build.ninja: | bootstrap
	@./configure --builddir=$(BUILD)

help:
	@echo 'make            build in $(BUILD)/ (./configure --help: how to build otherwise)'
	@echo 'make demo       svqd between a driver and a device, all format pairs, in a few seconds'
	@echo 'make demo-guest a Linux guest on svqd pings and is migrated live'
	@echo 'make check      every test, with gcc, clang and the sanitizers'
	@echo 'make bench      what it costs, beside baselines and limits (scripts/bench --help)'
	@echo 'make install    install below the configured prefix; DESTDIR is respected'
	@echo 'make clean      remove all build directories'
