# SPDX-License-Identifier: Apache-2.0
"""The integer network as JSON, so that an image can be judged long after its model is gone.

Holds everything that the executor and the conversion of inputs and outputs need. An operator's exact
rational `function` is left out: the proof has been made, and its result is kept.
"""

from __future__ import annotations

import base64
import dataclasses
from collections.abc import Mapping
from fractions import Fraction
from typing import Any, cast

import numpy as np
from nncosim.compiler.ir import network as ir
from nncosim.compiler.ir import operators as _known  # noqa: F401 (its classes are what `_operators` finds)
from nncosim.compiler.ir.arithmetic import Requant
from nncosim.platforms.errors import NncosimError
from nncosim.platforms.rounding import Rounding

__all__ = ["NetworkDataError", "network_from_json", "network_to_json"]

_DTYPES = ("<i1", "<i2", "<i4", "<i8")


class NetworkDataError(NncosimError):
    """The network inside an image is damaged, or of another version of nncosim."""


def _array_to_json(array: np.ndarray) -> dict[str, Any]:
    """Integers of any width in the narrowest that holds them: the same bytes on any machine."""
    array = np.asarray(array)
    low, high = (int(array.min()), int(array.max())) if array.size else (0, 0)
    dtype = next(d for d in _DTYPES if np.iinfo(d).min <= low and high <= np.iinfo(d).max)
    return {
        "shape": list(array.shape),
        "dtype": dtype,
        "data": base64.b64encode(array.astype(dtype).tobytes()).decode(),
    }


def _array_from_json(data: Mapping[str, Any]) -> np.ndarray:
    flat = np.frombuffer(base64.b64decode(data["data"], validate=True), dtype=data["dtype"])
    return flat.reshape(data["shape"]).astype(np.int64)


def _type_to_json(kind: ir.TensorType) -> dict[str, Any]:
    return {field.name: _plain(getattr(kind, field.name)) for field in dataclasses.fields(kind)}


def _plain(value: Any) -> Any:
    if isinstance(value, Fraction):
        return str(value)
    return [_plain(v) for v in value] if isinstance(value, tuple) else value


def _tuples(value: Any) -> Any:
    return tuple(_tuples(v) for v in value) if isinstance(value, list) else value


def _type_from_json(data: Mapping[str, Any]) -> ir.TensorType:
    def back(value: Any) -> Any:
        return tuple(Fraction(v) for v in value) if isinstance(value, list) else value

    return ir.TensorType(**{key: back(value) for key, value in data.items()})


def _requant_to_json(requant: Requant) -> dict[str, Any]:
    """Its form's name, and its fields: arrays, integers, or tuples of arrays or of other forms."""
    named = {f.name: _part_to_json(getattr(requant, f.name)) for f in dataclasses.fields(cast(Any, requant))}
    return {"form": _name_of(type(requant)), **named}


def _part_to_json(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_part_to_json(v) for v in value]
    if isinstance(value, Requant):
        return _requant_to_json(value)
    return _array_to_json(value) if isinstance(value, np.ndarray) else int(value)


def _requant_from_json(data: Mapping[str, Any]) -> Requant:
    named = {key: _part_from_json(value) for key, value in data.items() if key != "form"}
    return _class(Requant, data["form"])(**named)


def _part_from_json(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(_part_from_json(v) for v in value)
    if isinstance(value, dict):
        return _requant_from_json(value) if "form" in value else _array_from_json(value)
    return value


def _proof_to_json(proof: ir.Proof | None) -> dict[str, Any] | None:
    if proof is None:
        return None
    named = {f.name: getattr(proof, f.name) for f in dataclasses.fields(proof) if f.name != "examples"}
    kinds = {bool: bool, np.bool_: bool, str: str}
    return {key: kinds.get(type(value), int)(value) for key, value in named.items()}


def _op_to_json(op: ir.Op) -> dict[str, Any]:
    out: dict[str, Any] = {"type": _name_of(type(op))}
    for field in dataclasses.fields(op):
        value = getattr(op, field.name)
        if field.name == "function":
            continue
        if field.name == "requant":
            value = None if value is None else _requant_to_json(value)
        elif field.name == "proof":
            value = _proof_to_json(value)
        elif isinstance(value, np.ndarray):
            value = {"array": _array_to_json(value)}
        else:
            value = _plain(value)
        out[field.name] = value
    return out


def _name_of(cls: type) -> str:
    """With its module: two packages may have an operator of one name."""
    return f"{cls.__module__}.{cls.__qualname__}"


def _class(base: type, name: str) -> Any:
    """The class below `base` (an operator, a form of requantization) of that name: a new one needs no line here.

    Raises:
        NetworkDataError: there is none.
    """
    pending: list[type[Any]] = [base]
    cls: type[Any]
    while pending:
        for cls in type.__subclasses__(pending.pop()):
            if _name_of(cls) == name:
                return cls
            pending.append(cls)
    raise NetworkDataError(f"{base.__name__} {name!r} is not known here; import the package that has it")


def _op_from_json(data: Mapping[str, Any]) -> ir.Op:
    cls: type[ir.Op] = _class(ir.Op, data["type"])
    fields: dict[str, Any] = {}
    for key, value in data.items():
        if key == "type":
            continue
        if key == "requant":
            value = None if value is None else _requant_from_json(value)
        elif key == "proof":
            value = ir.Proof(**value) if value is not None else None
        elif isinstance(value, dict) and "array" in value:
            value = _array_from_json(value["array"])
        elif isinstance(value, list):
            value = _tuples(value)
        fields[key] = value
    return cls(**fields)


def network_to_json(network: ir.Network) -> dict[str, Any]:
    """The network as JSON values; `network_from_json` reads it back."""
    return {
        "name": network.name,
        "inputs": list(network.inputs),
        "outputs": list(network.outputs),
        "onnx_shapes": {name: list(shape) for name, shape in network.onnx_shapes.items()},
        "batch": network.batch,
        "input_rounding": {name: int(mode) for name, mode in network.input_rounding.items()},
        "linear_inputs": list(network.linear_inputs),
        "tensors": [
            {"name": t.name, "shape": list(t.shape), "axes": list(t.axes), "onnx_axes": list(t.onnx_axes),
             "type": _type_to_json(t.type)}
            for t in network.tensors.values()
        ],
        "ops": [_op_to_json(op) for op in network.ops],
    }


def network_from_json(data: Mapping[str, Any], where: str = "image") -> ir.Network:
    """Read what `network_to_json` made.

    Raises:
        NetworkDataError: something is missing or of the wrong kind.
    """
    try:
        tensors = [
            ir.Tensor(
                t["name"], tuple(t["shape"]), _type_from_json(t["type"]), tuple(t["axes"]), tuple(t["onnx_axes"])
            )
            for t in data["tensors"]
        ]
        return ir.Network(
            name=data["name"],
            tensors={t.name: t for t in tensors},
            ops=tuple(_op_from_json(op) for op in data["ops"]),
            inputs=tuple(data["inputs"]),
            outputs=tuple(data["outputs"]),
            batch=data["batch"],
            onnx_shapes={name: tuple(shape) for name, shape in data["onnx_shapes"].items()},
            input_rounding={name: Rounding(mode) for name, mode in data["input_rounding"].items()},
            linear_inputs=tuple(data["linear_inputs"]),
        )
    except NetworkDataError as error:
        raise NetworkDataError(f"{where}: {error}") from error
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise NetworkDataError(f"{where}: the network in it cannot be read ({error!r}); compile it again") from error
