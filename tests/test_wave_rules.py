# SPDX-License-Identifier: Apache-2.0
"""Protocol rules on a waveform: each is silent on a right one and says what is wrong with a spoilt one."""

import pytest
from nncosim.tb.errors import BenchError, ProtocolError
from nncosim.tb.waves.rules import Access, check, never, no_unwritten_reads, ordered, payload_stable, within
from nncosim.tb.waves.streams import stream_of
from test_wave_queries import write

STREAM = {"o__valid": (1, [0, 1, 1, 1, 1, 0]), "o__ready": (1, [0, 0, 0, 1, 1, 0]),
          "o__payload": (8, [0, 17, 17, 17, 5, 0])}  # fmt: skip


def clock(tmp_path, right, **spoilt):
    """The right signals with other values in some cycles: a signal to values by cycle."""
    made = {name: (bits, [spoilt.get(name, {}).get(cycle, value) for cycle, value in enumerate(values)])
            for name, (bits, values) in right.items()}  # fmt: skip
    return write(tmp_path / "x.vcd", made).clocked("clk")


@pytest.mark.parametrize(("spoilt", "said"), [
    ({}, []),
    ({"o__payload": {2: 18}}, ["cycle 2: stream dut.o: payload changed from 0x11 to 0x12 while waiting",
                               "cycle 3: stream dut.o: payload changed from 0x12 to 0x11 while waiting"]),
    ({"o__payload": {3: 18}}, ["cycle 3: stream dut.o: payload changed from 0x11 to 0x12 while waiting"]),
    ({"o__valid": {2: 0}}, ["cycle 2: stream dut.o: valid fell before a transfer"]),
    ({"o__ready": {3: 0, 4: 0}}, ["cycle 4: stream dut.o: payload changed from 0x11 to 5 while waiting",
                                  "cycle 5: stream dut.o: valid fell before a transfer"]),
    ({"o__valid": {0: None}}, ["cycle 0: stream dut.o: valid is x or z"]),
    ({"o__ready": {1: None}}, ["cycle 1: stream dut.o: ready is x or z"]),
    ({"o__ready": {0: None}, "o__payload": {0: None}}, []),
    ({"o__payload": {4: "1x"}}, ["cycle 4: stream dut.o: payload is 0000001x"]),
])
def test_payload_stable(spoilt, said, tmp_path):
    found = payload_stable(stream_of(clock(tmp_path, STREAM, **spoilt), "dut.o"))
    assert [str(each).partition("payload_stable, ")[2].partition(" (")[0] for each in found] == said
    for each in found:
        assert each.rule == "payload_stable"
        assert each.signals == ("top.dut.o__valid", "top.dut.o__ready", "top.dut.o__payload")


def test_a_violation_in_words(tmp_path):
    (found,) = payload_stable(stream_of(clock(tmp_path, STREAM, o__payload={3: 18}), "dut.o"))
    assert found.cycle == 3 and found.values["top.dut.o__payload"] == 18
    assert str(found) == ("payload_stable, cycle 3: stream dut.o: payload changed from 0x11 to 0x12 while waiting "
                          "(top.dut.o__valid = 1, top.dut.o__ready = 1, top.dut.o__payload = 0x12)")  # fmt: skip


MEMORY = {"w": (1, [1, 0, 1, 0, 0]), "w_addr": (8, [16, 99, 20, 0, 0]), "w_mask": (4, [0b0101, 0, 1, 0, 0]),
          "r": (1, [0, 1, 0, 1, 1]), "r_addr": (8, [99, 16, 99, 18, 20])}  # fmt: skip


@pytest.mark.parametrize(("spoilt", "said"), [
    ({}, []),
    ({"r_addr": {3: 17}}, ["cycle 3: top.dut.r_addr reads 0x11, which was not written"]),
    ({"r": {0: 1}, "r_addr": {0: 16}}, ["cycle 0: top.dut.r_addr reads 0x10, which was not written"]),
    ({"w": {2: 0}}, ["cycle 4: top.dut.r_addr reads 0x14, which was not written"]),
    ({"w_mask": {0: 1}}, ["cycle 3: top.dut.r_addr reads 0x12, which was not written"]),
    ({"r_addr": {1: 200}}, []),
    ({"w": {3: None}}, ["cycle 3: top.dut.w is x or z"]),
    ({"r_addr": {4: None}}, ["cycle 4: top.dut.r_addr or its mask is x or z in an access"]),
])
def test_no_unwritten_reads(spoilt, said, tmp_path):
    now = clock(tmp_path, MEMORY, **spoilt)
    found = no_unwritten_reads([Access(now["w"], now["w_addr"], mask=now["w_mask"])], [Access(now["r"], now["r_addr"])],
                               written=range(200, 204))  # fmt: skip
    assert [str(each).partition("no_unwritten_reads, ")[2].partition(" (")[0] for each in found] == said
    assert all("top.dut.r" in each.signals or "top.dut.w" in each.signals for each in found)


LOCK = {"take": (1, [0, 1, 0, 1, 0, 0]), "give": (1, [0, 0, 1, 0, 0, 1])}


@pytest.mark.parametrize(("spoilt", "most", "said"), [
    ({}, 1, []), ({"take": {0: 1}}, None, []),
    ({"give": {0: 1}}, 1, ["cycle 0: top.dut.give happens without top.dut.take before it"]),
    ({"give": {4: 1}}, None, ["cycle 5: top.dut.give happens without top.dut.take before it"]),
    ({"take": {2: 1}, "give": {2: 0}}, 1,
     ["cycle 2: top.dut.take happens 2 times without top.dut.give, at most 1 are allowed",
      "cycle 3: top.dut.take happens 2 times without top.dut.give, at most 1 are allowed"]),
    ({"give": {3: None}}, 1, ["cycle 3: top.dut.give is x or z"]),
])
def test_ordered(spoilt, most, said, tmp_path):
    now = clock(tmp_path, LOCK, **spoilt)
    found = ordered(now["take"], now["give"], most=most)
    assert [str(each).partition("ordered, ")[2].partition(" (")[0] for each in found] == said


def test_a_semaphore_that_does_not_begin_at_0(tmp_path):
    now = clock(tmp_path, LOCK, give={0: 1})
    assert ordered(now["take"], now["give"], initial=1) == [] != ordered(now["take"], now["give"])


BUFFERS = {"weights": range(0, 32), "results": range(96, 128)}


@pytest.mark.parametrize(("spoilt", "said"), [
    ({}, []), ({"w_addr": {1: 50}}, []),
    ({"w_addr": {0: 30}}, ["cycle 0: top.dut.w_addr reaches 0x20, outside weights 0x0 to 0x1f, results 0x60 to 0x7f"]),
    ({"w_addr": {2: 128}}, ["cycle 2: top.dut.w_addr reaches 0x80, outside weights 0x0 to 0x1f, results 0x60 to 0x7f"]),
    ({"w_mask": {2: None}}, ["cycle 2: top.dut.w_addr or its mask is x or z in an access"]),
])
def test_within(spoilt, said, tmp_path):
    now = clock(tmp_path, MEMORY, **spoilt)
    found = within(Access(now["w"], now["w_addr"], mask=now["w_mask"]), BUFFERS)
    assert [str(each).partition("within, ")[2].partition(" (")[0] for each in found] == said


def test_accesses_of_several_words(tmp_path):
    now = clock(tmp_path, MEMORY)
    assert within(Access(now["r"], now["r_addr"], size=12), BUFFERS) == []
    assert [each.cycle for each in within(Access(now["r"], now["r_addr"], size=13), BUFFERS)] == [4]
    assert "outside every buffer: none is given" in str(within(Access(now["r"], now["r_addr"]), {})[0])


def test_never(tmp_path):
    now = clock(tmp_path, {"trap": (1, [0, 1, 1, 0, 1, None]), "pc": (8, [0, 1, 2, 3, 4, 5])})
    assert never(now["pc"] > 5) == []
    assert [str(each) for each in never(now["trap"])] == [
        "never, cycle 1: top.dut.trap is true (top.dut.trap = 1)", "never, cycle 4: top.dut.trap is true "
        "(top.dut.trap = 1)", "never, cycle 5: top.dut.trap is x or z (top.dut.trap = x)"]  # fmt: skip


def test_rules_see_the_window_only(tmp_path):
    now = clock(tmp_path, STREAM, o__payload={2: 18})
    late, early = (stream_of(part, "dut.o") for part in (now.window(4), now.window(0, 3)))
    assert payload_stable(late) == [] != payload_stable(early)


def test_an_error_has_the_first_ones(tmp_path):
    now = clock(tmp_path, {"a": (1, [1, 0] * 5), "b": (1, [0, 1, 0, 0, 0, 0, 0, 0, 0, 0])})
    check()
    check(never(now["a"] & now["b"]), [])
    with pytest.raises(ProtocolError) as raised:
        check(never(now["a"]), never(now["b"]))
    lines = str(raised.value).splitlines()
    assert [line.split()[2].rstrip(":") for line in lines[:-1]] == ["0", "1", "2", "4", "6"]
    assert lines[-1] == "... and 1 more" and len(raised.value.violations) == 6
    assert isinstance(raised.value, BenchError)
