# SPDX-License-Identifier: Apache-2.0
"""The integer network as JSON, so that an image can be judged long after its model is gone.

Holds everything that the executor and the conversion of inputs and outputs need. An operator's exact
rational `function` is left out: the proof has been made, and its result is kept.
"""

from __future__ import annotations

import base64
import dataclasses
from collections.abc import Callable, Mapping
from typing import TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt
from nncosim.compiler.image.plain import from_plain, to_plain
from nncosim.compiler.ir import network as ir
from nncosim.compiler.ir import operators as _known  # noqa: F401 (its classes are what `_operators` finds)
from nncosim.compiler.ir.arithmetic import Requant
from nncosim.compiler.ir.host import HostStep
from nncosim.platforms.errors import NncosimError
from nncosim.platforms.plain import Json
from nncosim.platforms.rounding import Rounding

__all__ = ["NetworkDataError", "network_from_json", "network_to_json"]

_DTYPES = ("<i1", "<i2", "<i4", "<i8")

T = TypeVar("T")

_Part: TypeAlias = "int | np.integer | npt.NDArray[np.int64] | Requant | tuple[_Part, ...]"
"""What a form of requantization is made of."""
_Field: TypeAlias = "str | int | float | bool | npt.NDArray[np.int64] | Requant | ir.Proof | tuple[_Field, ...] | None"
"""What an operator is made of."""
_make_proof: Callable[..., ir.Proof] = ir.Proof  # from fields that are known only when the program runs


class NetworkDataError(NncosimError):
    """The network inside an image is damaged, or of another version of nncosim."""


@dataclasses.dataclass(frozen=True)
class _Array:
    """Integers as base64 of their bytes."""

    shape: tuple[int, ...]
    dtype: str
    data: str


@dataclasses.dataclass(frozen=True)
class _Network:
    """An `ir.Network`, its operators by `_op_to_json`."""

    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    onnx_shapes: Mapping[str, tuple[int, ...]]
    batch: int
    input_rounding: Mapping[str, Rounding]
    linear_inputs: tuple[str, ...]
    input_steps: Mapping[str, tuple[HostStep, ...]]
    output_steps: Mapping[str, tuple[HostStep, ...]]
    remarks: tuple[str, ...]
    tensors: tuple[ir.Tensor, ...]
    ops: tuple[Mapping[str, Json], ...]


def _array_to_json(array: np.ndarray) -> Json:
    """Integers of any width in the narrowest that holds them: the same bytes on any machine."""
    array = np.asarray(array)
    low, high = (int(array.min()), int(array.max())) if array.size else (0, 0)
    dtype = next(d for d in _DTYPES if np.iinfo(d).min <= low and high <= np.iinfo(d).max)
    return to_plain(_Array(array.shape, dtype, base64.b64encode(array.astype(dtype).tobytes()).decode()))


def _array_from_json(data: Json) -> npt.NDArray[np.int64]:
    array = from_plain(_Array, data, "array")
    flat = np.frombuffer(base64.b64decode(array.data, validate=True), dtype=array.dtype)
    return flat.reshape(array.shape).astype(np.int64)


def _tuples(value: Json) -> _Field:
    if isinstance(value, list):
        return tuple(_tuples(v) for v in value)
    if value is None or isinstance(value, (str, int, float)):
        return value
    raise TypeError(f"{value!r:.40} is nothing that an operator has")


def _requant_to_json(requant: Requant) -> Json:
    """Its form's name, and its fields: arrays, integers, or tuples of arrays or of other forms."""
    assert dataclasses.is_dataclass(requant)
    named = {f.name: _part_to_json(getattr(requant, f.name)) for f in dataclasses.fields(requant)}
    return {"form": _name_of(type(requant)), **named}


def _part_to_json(value: _Part) -> Json:
    if isinstance(value, tuple):
        return [_part_to_json(v) for v in value]
    if isinstance(value, Requant):
        return _requant_to_json(value)
    return _array_to_json(value) if isinstance(value, np.ndarray) else int(value)


def _requant_from_json(data: Mapping[str, Json]) -> Requant:
    named = {key: _part_from_json(value) for key, value in data.items() if key != "form"}
    return _class(Requant, data["form"])(**named)  # type: ignore[type-abstract]


def _part_from_json(value: Json) -> _Part:
    if isinstance(value, list):
        return tuple(_part_from_json(v) for v in value)
    if isinstance(value, dict):
        return _requant_from_json(value) if "form" in value else _array_from_json(value)
    if isinstance(value, int):
        return value
    raise TypeError(f"{value!r:.40} is nothing that a requantization has")


def _proof_to_json(proof: ir.Proof) -> Json:
    named = {f.name: getattr(proof, f.name) for f in dataclasses.fields(proof) if f.name != "examples"}
    kinds = {bool: bool, np.bool_: bool, str: str}
    return {key: kinds.get(type(value), int)(value) for key, value in named.items()}


def _op_to_json(op: ir.Op) -> dict[str, Json]:
    out: dict[str, Json] = {"type": _name_of(type(op))}
    for field in dataclasses.fields(op):
        if field.name != "function":
            out[field.name] = _field_to_json(getattr(op, field.name))
    return out


def _field_to_json(value: _Field) -> Json:
    if isinstance(value, Requant):
        return _requant_to_json(value)
    if isinstance(value, ir.Proof):
        return _proof_to_json(value)
    return {"array": _array_to_json(value)} if isinstance(value, np.ndarray) else to_plain(value)


def _name_of(cls: type) -> str:
    """With its module: two packages may have an operator of one name."""
    return f"{cls.__module__}.{cls.__qualname__}"


def _class(base: type[T], name: Json) -> Callable[..., T]:
    """The class below `base` (an operator, a form of requantization) of that name: a new one needs no line here.

    Raises:
        NetworkDataError: there is none.
    """
    pending: list[type[T]] = [base]
    while pending:
        for cls in type.__subclasses__(pending.pop()):
            if _name_of(cls) == name:
                return cls
            pending.append(cls)
    raise NetworkDataError(f"{base.__name__} {name!r} is not known here; import the package that has it")


def _op_from_json(data: Mapping[str, Json]) -> ir.Op:
    fields = {key: _field_from_json(key, value) for key, value in data.items() if key != "type"}
    return _class(ir.Op, data["type"])(**fields)  # type: ignore[type-abstract]


def _field_from_json(name: str, value: Json) -> _Field:
    if isinstance(value, dict):
        if name == "requant":
            return _requant_from_json(value)
        return _make_proof(**value) if name == "proof" else _array_from_json(value["array"])
    return _tuples(value)


def network_to_json(network: ir.Network) -> Json:
    """The network as JSON values; `network_from_json` reads it back."""
    return to_plain(_Network(
        network.name, network.inputs, network.outputs, network.onnx_shapes, network.batch, network.input_rounding,
        network.linear_inputs, network.input_steps, network.output_steps, network.remarks,
        tuple(network.tensors.values()), tuple(_op_to_json(op) for op in network.ops),
    ))  # fmt: skip


def network_from_json(data: Json, where: str = "image") -> ir.Network:
    """Read what `network_to_json` made.

    Raises:
        NetworkDataError: something is missing or of the wrong kind.
    """
    try:
        read = from_plain(_Network, data)
        return ir.Network(
            name=read.name,
            tensors={t.name: t for t in read.tensors},
            ops=tuple(_op_from_json(op) for op in read.ops),
            inputs=read.inputs,
            outputs=read.outputs,
            batch=read.batch,
            onnx_shapes=read.onnx_shapes,
            input_rounding=read.input_rounding,
            linear_inputs=read.linear_inputs,
            input_steps=read.input_steps,
            output_steps=read.output_steps,
            remarks=read.remarks,
        )
    except NetworkDataError as error:
        raise NetworkDataError(f"{where}: {error}") from error
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise NetworkDataError(f"{where}: the network in it cannot be read ({error!r}); compile it again") from error
