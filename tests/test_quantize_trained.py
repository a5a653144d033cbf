# SPDX-License-Identifier: Apache-2.0
"""Trained networks of three kinds, quantised with 32 calibration images: accuracy on data that nobody has seen."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from nncosim.compiler.quantize import QuantizeOptions, quantize
from nncosim.regress import networks
from nncosim.tb.cli.main import invoke
from nncosim.tb.run.inputs import read_npz
from nncosim.tb.run.quantized import SideBySide, side_by_side

FOLDER = Path(networks.__file__).parent
POINT = 0.01


def measured(name: str, images: int | None = None, **options: object) -> SideBySide:
    """`images`: how many of the test part, all by default."""
    data, test = (read_npz(FOLDER / f"float_{name}_{part}.npz") for part in ("calibration", "test"))
    result = quantize(FOLDER / f"float_{name}.onnx", {"image": data["image"][:32]}, QuantizeOptions(**options))
    return side_by_side(result, {k: v[:images] for k, v in test.items()}, Path("test.npz"), lambda text: None)


@pytest.mark.parametrize("per_channel", [True, False], ids=["per channel", "per tensor"])
@pytest.mark.parametrize(("scales", "points"), [("float", 0.5), ("shift", 1.0)])
def test_classification(scales, points, per_channel):
    """Digits: at most half a point is lost, and one with single shifts."""
    found = measured("digits", scales=scales, per_channel=per_channel)
    assert len(found.labels) == 450 and found.float_score > 0.97
    assert found.integer_score >= found.float_score - points * POINT


@pytest.mark.parametrize("scales", ["float", "shift"])
def test_segmentation(scales):
    """Two digits in a scene, a class for each pixel."""
    found = measured("scenes", 60, scales=scales)
    assert found.labels.shape == (60, 16, 16) and found.float_score > 0.98
    ground = float((found.labels == 10).mean())
    assert found.integer_score >= found.float_score - 0.5 * POINT > ground + 0.1
    assert (found.integer_results != found.float_results).any(), "a network whose integers never differ tells nothing"


@pytest.mark.parametrize("scales", ["float", "shift"])
def test_regression(scales):
    """The share of the variance that is explained."""
    found = measured("diabetes", scales=scales)
    assert not found.classes and found.float_score > 0.35
    assert found.integer_score >= found.float_score - POINT
    error = np.square(found.integer_results - found.float_results).mean() / np.var(found.float_results)
    assert 0 < error < 0.02


def test_what_is_too_coarse_is_seen_in_the_accuracy():
    """Weights of two bits in every layer."""
    good, bad = measured("digits", 100), measured("digits", 100, weight_bits=2, per_channel=False)
    assert bad.integer_score < good.integer_score - 5 * POINT


@pytest.mark.parametrize("name", ["digits", "scenes", "diabetes"])
def test_the_machine_computes_these_integers(name, tmp_path):
    """On J3DAI, every tensor, and every requantization proved to be that of the graph."""
    paths = [str(FOLDER / f"float_{name}{part}") for part in (".onnx", "_calibration.npz")]
    quantised, report = tmp_path / "q.onnx", tmp_path / "run.json"
    assert invoke(["quantize", paths[0], "--data", paths[1], "--out", str(quantised), "--scales", "shift"]) == 0
    run = ["run", str(quantised), "--input", paths[1], "--index", "40", "--backend", "iss", "--json", str(report)]
    assert invoke(run) == 0
    ran = json.loads(report.read_text())
    assert ran["verdict"] == "pass" and ran["requantization"]["exact_layers"] == ran["requantization"]["layers"]
