# SPDX-License-Identifier: Apache-2.0
"""--compiler-option: what a platform's compiler can be told, what it refuses, and where it shows afterwards."""

import json
import re
from importlib.resources import as_file, files

import numpy as np
import onnx
import pytest
from command_line import refused
from nncosim.platforms.aie_ml import AieMl
from nncosim.regress.dense_models import DenseSpec, dense_network
from nncosim.tb.aie_ml.streaming import stream_iss

HERE = ("--platform", "aie_ml", "--set", "columns=4", "--set", "rows=2")


@pytest.fixture
def model(tmp_path):
    path = tmp_path / "dense.onnx"
    onnx.save(dense_network(DenseSpec((32, 32, 16))), path)
    return path


def told(command, *arguments):
    """What the JSON report of a command says."""
    result = command(*arguments, "--json", "-")
    assert result.status == 0, result.err
    return json.loads(result.out)


def test_objective_and_splits_change_what_is_compiled_and_are_kept(command, model, tmp_path):
    few = told(command, "run", model, *HERE, "--backend", "iss", "-C", "objective=fewest")
    cut = told(command, "run", model, *HERE, "--backend", "iss", "--compiler-option", "splits=2x2, 1x1")
    assert [layer["engine"] for layer in few["layers"]] == ["core0", "core2"]
    assert [layer["engine"].count("core") for layer in cut["layers"]] == [4, 1]
    assert cut["verdict"] == few["verdict"] == "pass" and few["cycles"] != cut["cycles"]
    assert cut["compiler_options"] == {"splits": "2x2, 1x1"} and "'--compiler-option=splits=2x2, 1x1'" in cut["command"]
    assert command("compile", model, *HERE, "-C", "tiles=2", "--out", tmp_path / "out").status == 0
    again = told(command, "run", tmp_path / "out" / "image.elf", "--backend", "iss")
    assert again["compiler_options"] == {"tiles": "2"} and len(again["layers"]) == 2


def test_the_interval_is_shown_by_every_command(command, model, tmp_path):
    """In which an inference follows the other in a stream: the mean over many on the simulator."""
    found = {}
    for objective in ("latency", "throughput"):
        options = (*HERE, "-C", f"objective={objective}")
        report = told(command, "run", model, *options, "--backend", "iss")
        found[objective] = every = report["interval_cycles"]
        text = command("run", model, *options, "--backend", "iss").out
        assert re.search(rf"^one inference in a stream every +{every:,.1f}", text, re.M)
        assert told(command, "check", model, *options)["interval_cycles"] == every
        assert f"in a stream one inference every {every:,.1f} cycles" in command("check", model, *options).out
        out = tmp_path / objective
        assert told(command, "compile", model, *options, "--out", out)["interval_cycles"] == every
        again = command("compile", model, *options, "--out", tmp_path / f"{objective}2").out
        assert f"in a stream: one inference every {every:,.1f} cycles, predicted" in again
        image = (out / "image.elf").read_bytes()
        given = [{"x": np.zeros((8, 32, 1, 1), np.int64)}] * 64
        assert stream_iss(AieMl(columns=4, rows=2), image, given).steady(2) == every < report["cycles"]
    assert found["throughput"] <= found["latency"]


def test_a_platform_without_a_stream_shows_no_interval(command):
    with as_file(files("nncosim.regress.networks") / "digits.onnx") as digits:
        assert told(command, "check", digits)["interval_cycles"] is None
        result = command("check", digits)
    assert result.status == 0 and "in a stream" not in result.out


def test_platforms_lists_what_a_compiler_takes(command):
    whole = told(command, "platforms", "aie_ml")
    assert whole["engines"][0]["rates"] == {"8x8": 256, "16x8": 128, "16x16": 64}
    found = {each["name"]: each for each in whole["compiler_options"]}
    assert found["objective"]["values"] == ["latency", "throughput", "fewest"]
    assert {"placement", "tiles", "splits"} < set(found)
    assert told(command, "platforms", "j3dai")["compiler_options"] == []


@pytest.mark.parametrize(("options", "texts"), [
    (["objectiv=latency"], ["no option 'objectiv'", "did you mean 'objective'?"]),
    (["objective=size"], ["takes latency or throughput or fewest, not 'size'"]),
    (["objective"], ["must look like NAME=VALUE"]),
    (["tiles=4", "tiles=5"], ["given twice, as 4 and as 5"]),
    (["tiles=0"], ["takes a number of at least 1, not '0'"]),
    (["splits=2"], ["takes cascade x rows of each layer", "not '2'"]),
    (["splits=1x1x1,1x1"], ["takes cascade x rows of each layer", "such as 1x4,4x2, not '1x1x1'"]),
    (["splits=x,1x1"], ["takes cascade x rows of each layer", "not 'x'"]),
    (["splits=1x0,1x1"], ["two numbers of at least 1", "not '1x0'"]),
    (["splits=1x1,"], ["takes cascade x rows of each layer", "not ''"]),
    (["splits=1x1"], ["1 splits are given, and the network has 2 layers"]),
    (["splits=1x1,1x8"], ["cannot be cut 1x8 in 4 x 2 tiles (possible are", " and others)"]),
    (["splits=1x1,1x1", "tiles=2"], ["splits say how many tiles they take"]),
])  # fmt: skip
def test_what_it_does_not_take_is_refused_in_a_line(command, model, options, texts):
    words = [word for option in options for word in ("-C", option)]
    refused(command("run", model, *HERE, *words), *texts)


@pytest.mark.parametrize(("rows", "possible"), [(1, "is only 1x1"), (2, "are 1x2, 1x1")])
def test_splits_that_are_possible_are_named(command, model, rows, possible):
    result = command("run", model, "--platform", "aie_ml", "--set", "columns=1", "--set", f"rows={rows}",
                     "-C", "splits=9x9,1x1")  # fmt: skip
    refused(result, f"cannot be cut 9x9 in 1 x {rows} tiles (possible {possible})")


def test_a_compiler_without_options_says_so(command, model):
    refused(command("check", model, "-C", "objective=latency"), "the compiler of platform 'j3dai' has no options")


def test_an_image_is_compiled_already(command, model, tmp_path):
    assert command("compile", model, *HERE, "--out", tmp_path / "out").status == 0
    refused(command("run", tmp_path / "out" / "image.elf", "-C", "tiles=2"), "are for compiling a model")
