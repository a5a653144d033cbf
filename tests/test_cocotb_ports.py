# SPDX-License-Identifier: Apache-2.0
"""A block without the ports that a cocotb bench asks for: told with the ports that it has."""

import asyncio
from types import SimpleNamespace

import pytest
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In
from nncosim.tb.cocotb_bench import reset, start_clock
from nncosim.tb.errors import BenchError
from nncosim.tb.streams import Streams


class Device(SimpleNamespace):
    """Of cocotb's handle of a top what the functions look at."""

    _name = "inverter"

    def __init__(self, *ports: str):
        super().__init__(**{port: SimpleNamespace(_name=port) for port in ports})

    def __iter__(self):
        return iter(vars(self).values())


class Sink(wiring.Component):
    i: In(stream.Signature(8))


@pytest.mark.parametrize(("ports", "use", "message"), [
    (("b", "a"), start_clock, r"'inverter' has no port 'clk'; ports: a, b;"),
    ((), start_clock, r"'inverter' has no port 'clk'; ports: none;"),
    (("a",), lambda dut: asyncio.run(reset(dut)), r"'inverter' has no port 'clk'; ports: a;"),
    (("clk",), lambda dut: asyncio.run(reset(dut)), r"'inverter' has no port 'rst'; ports: clk;"),
    (("a",), lambda dut: Streams(dut, Sink()), r"'inverter' has no port 'clk'; ports: a;"),
    (("clk",), lambda dut: Streams(dut, Sink()), r"'inverter' has no port 'i__valid'; ports: clk;"),
])  # fmt: skip
def test_ports_that_are_missing(ports, use, message):
    with pytest.raises(BenchError, match=message):
        use(Device(*ports))
