# SPDX-License-Identifier: Apache-2.0
"""Python values to bits of a port and back."""

import enum

import pytest
from amaranth.hdl import Shape, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from nncosim.tb.errors import BenchError
from nncosim.tb.sim.payload import decode_payload, encode_payload
from nncosim.tb.streams import stream_ports


class Kind(enum.IntEnum):
    READ = 0
    WRITE = 2


class Plain(enum.Enum):
    ONE = 1


class Beat(data.Struct):
    kind: Kind
    offset: signed(5)
    lanes: data.ArrayLayout(signed(4), 3)


BEATS = [({"kind": 2, "offset": -16, "lanes": [7, -8, 0]}, 0b0000_1000_0111_10000_10),
         ({"kind": 0, "offset": 15, "lanes": [0, 0, -1]}, 0b1111_0000_0000_01111_00)]


@pytest.mark.parametrize("value, bits", BEATS)
def test_struct(value, bits):
    assert encode_payload(Beat, value) == bits
    assert decode_payload(Beat, bits) == value
    assert encode_payload(Beat, bits) == bits  # raw bits are taken as they are
    assert encode_payload(Beat.as_shape(), value) == bits


def test_fields_left_out_are_zero():
    assert encode_payload(Beat, {"kind": Kind.WRITE}) == 2


@pytest.mark.parametrize("shape, value, bits", [
    (8, 255, 255), (signed(8), -1, 255), (signed(8), 127, 127), (Kind, 2, 2), (Shape(0), 0, 0)])
def test_plain(shape, value, bits):
    assert (encode_payload(shape, value), decode_payload(shape, bits)) == (bits, value)


@pytest.mark.parametrize("shape, value, message", [
    (8, 256, "x holds 0 to 255, not 256"), (8, -1, "x holds 0 to 255, not -1"),
    (signed(4), 8, "x holds -8 to 7, not 8"), (Beat, {"offset": 16}, r"x\.offset holds -16 to 15, not 16"),
    (Beat, {"lanes": [0, 9]}, r"x\.lanes\.1 holds -8 to 7, not 9"), (Beat, 1 << 19, "x holds 0 to 524287"),
    (Beat, {"size": 1}, "x has no field 'size'; its fields are kind, offset, lanes"),
    (8, [1], r"x holds a number, not \[1\]"), (Beat, Plain.ONE, "x holds the fields kind, offset, lanes, not <Plain"),
    (Beat, {"lanes": [0, 0, 0, 0]}, r"x\.lanes has no field 3; its fields are 0, 1, 2"),
])
def test_what_does_not_fit(shape, value, message):
    with pytest.raises(BenchError, match=message):
        encode_payload(shape, value, "x")


def test_stream_ports():
    bus = wiring.Signature({"request": Out(stream.Signature(Beat)), "response": In(stream.Signature(8))})
    component = wiring.Component({"i": In(stream.Signature(4)), "lane": Out(stream.Signature(2)).array(2),
                                  "master": Out(bus), "slave": In(bus), "plain": In(3)})
    component._MustUse__used = True
    assert {name: port.is_input for name, port in stream_ports(component).items()} == {
        "i": True, "lane__0": False, "lane__1": False, "master__request": False, "master__response": True,
        "slave__request": True, "slave__response": False}
    assert stream_ports(component)["slave__request"].payload_shape is Beat
