# SPDX-License-Identifier: Apache-2.0
# Everything a fresh Debian machine needs beyond Python 3.11, g++, make and perl comes from here.
#
#   make demo    set up .venv, run the shipped network on the J3DAI RTL, print the report and the digit
#   make test    set up what is missing, then run the tests and the regressions
#   make lint    ruff and mypy
#   make clean   remove what was built (not .venv, not the cache of simulations)

SHELL := /bin/bash
PYTHON ?= python3
VENV ?= .venv
JOBS ?= 2
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
LIBERTY := /usr/share/qflow/tech/osu018/osu018_stdcells.lib
PYTEST_ARGS ?=
PARTS := platforms hdl kernels compiler tb regress

export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_NO_INPUT := 1

.PHONY: demo test lint setup timing-tools wave-tools clean

demo: setup
	@$(BIN)/python -m nncosim.tb.demo

test: setup timing-tools wave-tools
	$(BIN)/python -m pytest tests regress -n $(JOBS) --dist worksteal $(PYTEST_ARGS)

# mypy does not follow an editable install's mapping of folders to packages: it gets them as links.
lint: setup
	$(BIN)/ruff check .
	@mkdir -p build/lint/nncosim && cd build/lint/nncosim && for part in $(PARTS); do ln -sfn ../../../$$part $$part; done
	MYPYPATH=build/lint $(BIN)/mypy $(foreach part,$(PARTS),-p nncosim.$(part))

setup: $(STAMP)

# The stamp is as old as the installation: a changed pyproject.toml installs again, nothing else does.
$(STAMP): pyproject.toml
	@.ci/venv "$(PYTHON)" "$(VENV)"
	$(BIN)/python -m pip install --quiet --editable '.[test]'
	@touch $@

timing-tools:
	@command -v sta >/dev/null && command -v iverilog >/dev/null && command -v graywolf >/dev/null \
		&& command -v qrouter >/dev/null && test -f $(LIBERTY) || .ci/debian opensta iverilog graywolf qrouter qflow-tech-osu018

# What Verilator's FST waveforms are compiled with.
wave-tools:
	@printf '#include <lz4.h>\n#include <zlib.h>\n' | $(or $(CXX),g++) -E -x c++ - >/dev/null 2>&1 || .ci/debian liblz4-dev zlib1g-dev

clean:
	rm -rf build out .pytest_cache .mypy_cache .ruff_cache .hypothesis
