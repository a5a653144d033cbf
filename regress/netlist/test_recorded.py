# SPDX-License-Identifier: Apache-2.0
"""Vectors of units, recorded in a run of the whole machine: the unit's RTL by itself does the same, in another
simulator."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from nncosim.hdl.emit import emit_design, ports_of
from nncosim.hdl.j3dai.cluster import GROUP_MODULE
from nncosim.hdl.j3dai.ncb import NCB_MODULE
from nncosim.regress.netlist.recordings import ONE, recorded, waveform
from nncosim.tb.errors import BenchError
from nncosim.tb.j3dai.recorded import component_of, place_of
from nncosim.tb.j3dai.units import UNITS
from nncosim.tb.netlist.recorded import Vectors, record
from nncosim.tb.netlist.replay import PortTimes, Replay, Rows, bit_rows, rows_to_vectors

FAST = ("counters", "pe_column", "requantizer", "sequencer", "semaphores", GROUP_MODULE)
TIMES = PortTimes(1.0, 1.0)


def sources(unit: str) -> dict[str, str]:
    return {name: str(text) for name, text in emit_design(component_of(ONE, unit), unit).items()}


def replayed(folder: Path, vectors: Vectors, unit: str, changed: tuple[str, str] | None = None) -> Rows:
    """What the unit's RTL gives. changed: a text of it, and by what it is replaced."""
    text = "\n".join(sources(unit).values())
    if changed is not None:
        assert text.count(changed[0]) == 1
        text = text.replace(*changed)
    return Replay(folder, [text], unit, vectors).run(100.0, TIMES).outputs


@pytest.mark.parametrize("unit", [pytest.param(unit, marks=() if unit in FAST else pytest.mark.slow)
                                  for unit in (*UNITS, GROUP_MODULE, NCB_MODULE)])
def test_a_unit_alone_does_the_same(unit: str, tmp_path: Path) -> None:
    """From the first edge of reset on, at all edges."""
    vectors = recorded(unit)
    assert vectors.inputs["rst"][:5].tolist() == [1, 1, 1, 1, 0] and len(vectors) > 3000
    assert np.array_equal(replayed(tmp_path, vectors, unit), bit_rows(vectors.outputs, vectors.bits))


def test_a_wrong_unit_does_not(tmp_path: Path) -> None:
    """Counters that count one thing more."""
    vectors = recorded("counters")
    text = sources("counters")["counters.v"]
    condition = next(line.strip() for line in text.splitlines() if line.strip().startswith("assign") and "rst" not in
                     line and "==" in line)  # fmt: skip
    same = replayed(tmp_path, vectors, "counters") == bit_rows(vectors.outputs, vectors.bits)
    wrong = replayed(tmp_path, vectors, "counters", (condition, condition.replace("==", "!=")))
    assert same.all() and (wrong != bit_rows(vectors.outputs, vectors.bits)).any()


def test_rows_are_values() -> None:
    vectors = recorded("pe_column").first(500)
    again = rows_to_vectors(vectors, bit_rows(vectors.outputs, vectors.bits), "again")
    assert len(again) == 500 and np.array_equal(again.outputs["x"], vectors.outputs["x"])
    assert vectors.outputs["x"].dtype == np.uint64 and recorded("counters").outputs["counters"].dtype == object


def test_other_ports_are_refused() -> None:
    vectors = recorded("counters")
    ports = {"clk": (1, "input"), "rst": (1, "input"), "state": (3, "input"), "counters": (192, "output")}
    vectors.expect(ports)
    with pytest.raises(BenchError, match="state is an input of 3 bits here and an input of 4 bits there"):
        vectors.expect({**ports, "state": (4, "input")})
    with pytest.raises(BenchError, match="counters is an output of 192 bits here and absent there; q is absent here"):
        vectors.expect({**{port: each for port, each in ports.items() if port != "counters"}, "q": (1, "output")})


def test_another_instance_is_refused() -> None:
    """The fetch's odometer is not as wide as the drain's, and a sequencer has other ports."""
    recorded("odometer")
    ports = ports_of(component_of(ONE, "odometer"))
    soc = "j3dai_tb.soc"
    with pytest.raises(BenchError, match=r"fetch.agu.\w+\) has \d+ bits and not \d+"):
        record(waveform(), "j3dai_tb.clk", f"{soc}.cluster0.fetch.agu", ports)
    with pytest.raises(BenchError, match=r"\(j3dai_tb.soc.cluster0.sequencer.\w+\) is not in it"):
        record(waveform(), "j3dai_tb.clk", f"{soc}.{place_of(ONE, 'sequencer').scope}", ports)
    with pytest.raises(BenchError, match="no instance of 'nothing'"):
        place_of(ONE, "nothing")
