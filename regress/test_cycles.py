# SPDX-License-Identifier: Apache-2.0
"""Committed cycles: those of the trained network; and what judges them, and the cases (test_layers) and the zoo.

More than 1 % slower fails, with a table. `--update-baselines` writes the figures of this run into the file:

    pytest regress/test_layers.py regress/test_cycles.py --update-baselines
"""

from __future__ import annotations

from nncosim.platforms.j3dai import PLATFORM
from nncosim.regress.baselines import NAMES, SEED, judge, read, slower, update
from nncosim.regress.harness import compile_digits, digits_images, run_case, run_compiled


def test_digits(backend, pytestconfig):
    compiled = compile_digits()
    judge({"digits": run_compiled(compiled, backend, inputs=digits_images(compiled, 0)).cycles}, pytestconfig)


def test_every_case_has_a_baseline_and_every_baseline_a_case():
    assert list(read()) == list(NAMES), "write them with --update-baselines"


# The judge itself.


def test_a_slower_case_fails_with_a_table():
    baselines = {"a": 1000, "b": 2000, "c": 500}
    assert slower(baselines, {"a": 1010, "b": 1500, "c": 500}) == ""
    table = slower(baselines, {"a": 1011, "b": 2000, "c": 505, "d": 7})
    assert [line.split() for line in table.splitlines()[1:]] == [
        ["case", "baseline", "now"], ["a", "1000", "1011", "+1.1%"], ["d", "none", "7"]]


def test_a_planted_slower_program_is_seen():
    """The figures of this machine against those of one with a port to L2 of 16 bytes."""
    slow = run_case("conv3x3_16", "iss", seed=SEED, platform=PLATFORM.with_parameters(dmpa_bits=128))
    assert slow.problems() == []
    assert "conv3x3_16" in slower(read(), {"conv3x3_16": slow.cycles})


def test_the_option_rewrites_the_file(tmp_path):
    file = tmp_path / "baselines.json"
    file.write_text('{"gone": 3, "digits": 10, "dw3x3": 5}')
    update({"digits": 20, "conv1x1_16": 7}, file)
    assert file.read_text() == '{\n  "conv1x1_16": 7,\n  "dw3x3": 5,\n  "digits": 20\n}\n'
    assert [p.name for p in tmp_path.iterdir()] == ["baselines.json"]
