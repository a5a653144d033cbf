# SPDX-License-Identifier: Apache-2.0
"""Convolution, fully connected, pooling and addition nodes."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
from nncosim.compiler.frontend.builder import Builder, Node, Refusal
from nncosim.compiler.frontend.names import unique_name
from nncosim.compiler.frontend.values import Affine, Constant, QuantConstant, Quantised, Value, fractions
from nncosim.compiler.ir.network import QuantFunction, TensorType
from nncosim.compiler.ir.operators import Add, Conv, MatMul, Pool, Requantize
from nncosim.platforms.rounding import Rounding

__all__ = [
    "add_tensors", "average_pool", "conv", "gemm", "global_average_pool", "max_pool", "reduce_mean", "weights_of",
]

_WEIGHTS = "put a Quant (Brevitas: weight_quant), or QuantizeLinear and DequantizeLinear, on the weights"


def _source(builder: Builder, node: Node, index: int = 0, what: str = "the input") -> Quantised:
    """An input as integers; a Relu of integers is written as such, because its bound is one of their steps."""
    value = node.input(index)
    if isinstance(value, Affine) and isinstance(value.op, Requantize):
        source = Quantised(value.op.inputs[0], value.shape)
        kind, same = builder.type_of(source), builder.affine(source)
        bounds = {*value.low, *value.high} - {None}
        if (value.ratios, value.offset) == (same.ratios, same.offset) and bounds == {Fraction(0)}:
            name = node.names[index]
            if name not in builder.written:
                maker = Node(value.nodes[-1], "Relu", (), (name,), {})
                form = replace(value, nodes=value.nodes[:-1])
                builder.written[name] = builder.emit(form, kind, Rounding.HALF_EVEN, maker)
            return builder.written[name]
    return builder.quantised(value, what)


def weights_of(node: Node) -> QuantConstant:
    """The kernel of a Conv, Gemm or MatMul."""
    value = node.input(1)
    if isinstance(value, QuantConstant):
        return value
    if isinstance(value, Constant):
        raise Refusal("the weights are not quantised", _WEIGHTS)
    raise Refusal("the second input must be constant quantised weights, not an activation")


def _bias(value: Value | None, channels: int) -> tuple[Fraction, ...]:
    if value is None:
        return (Fraction(0),) * channels
    if isinstance(value, Constant):
        numbers, shape = fractions(value.array), value.shape
    elif isinstance(value, QuantConstant):
        numbers, shape = value.fractions, value.shape
    else:
        raise Refusal("the bias must be a constant", "export the model with constant parameters")
    if len(numbers) == 1:
        return numbers * channels
    if len(numbers) != channels or shape[-1] != channels:
        raise Refusal(f"the bias must have one number per output channel ({channels}), not shape {shape}")
    return numbers


def _weight_scales(scale: np.ndarray) -> tuple[Fraction, ...]:
    """The scale of each output channel (axis 0)."""
    flat = scale.reshape(scale.shape[0], -1)
    if not (flat == flat[:, :1]).all():
        raise Refusal("the weight scale must be one number, or one per output channel",
                      "quantise the weights per tensor or per output channel")
    return fractions(flat[:, 0])


def _input_scales(builder: Builder, value: Quantised, groups: int, outputs: int) -> tuple[Fraction, ...]:
    """The input's scale as each output channel sees it."""
    scales = builder.channel_scales(value)
    size = len(scales) // groups
    for first in range(0, len(scales), size):
        if len(set(scales[first:first + size])) > 1:
            raise Refusal(
                "a per-channel activation scale does not fold into a sum over channels",
                "use a per-tensor scale for this layer's input",
            )
    per_group = scales[::size]
    return tuple(per_group[c * groups // outputs] for c in range(outputs))


def _linear(
    builder: Builder, node: Node, value: Quantised, weights: QuantConstant, bias: tuple[Fraction, ...],
    op: Conv | MatMul, shape: tuple[int, ...], alpha: Fraction = Fraction(1),
) -> Affine:
    """The affine form of a Conv or MatMul skeleton whose weights are `weights`, (OC, ...); `shape`: of the result."""
    outputs = weights.ints.shape[0]
    zp, groups = builder.type_of(value).zero_point, op.groups if isinstance(op, Conv) else 1
    ratios = tuple(
        alpha * w * x for w, x in
        zip(_weight_scales(weights.scale), _input_scales(builder, value, groups, outputs), strict=True)
    )
    sums = weights.ints.reshape(outputs, -1).sum(axis=1)
    folded = tuple(-zp * int(s) * r for s, r in zip(sums, ratios, strict=True))
    none = (None,) * outputs
    return Affine(
        op, builder.axes(shape), shape, (ratios,), tuple(f + b for f, b in zip(folded, bias, strict=True)),
        none, none, tuple(abs(float(f)) + abs(float(b)) for f, b in zip(folded, bias, strict=True)),
        (node.name,),
    )


def _pads(
    node: Node, size: tuple[int, int], kernel: tuple[int, int], stride: tuple[int, int], dilation: tuple[int, int]
) -> tuple[int, int, int, int]:
    auto = node.text("auto_pad", "NOTSET")
    if auto in ("NOTSET", ""):
        pads = node.integers("pads", (0, 0, 0, 0))
        if len(pads) != 4 or min(pads) < 0:
            raise Refusal(f"pads must be four numbers of 0 or more, not {pads}", "use a 2-D layer")
        return pads[0], pads[1], pads[2], pads[3]
    if auto == "VALID":
        return 0, 0, 0, 0
    if auto not in ("SAME_UPPER", "SAME_LOWER"):
        raise Refusal(f"auto_pad {auto!r} is unknown", "use explicit pads")
    before, after = [], []
    for n, k, s, d in zip(size, kernel, stride, dilation, strict=True):
        total = max((-(-n // s) - 1) * s + d * (k - 1) + 1 - n, 0)
        small, large = total // 2, total - total // 2
        before.append(small if auto == "SAME_UPPER" else large)
        after.append(large if auto == "SAME_UPPER" else small)
    return before[0], before[1], after[0], after[1]


def _out_size(
    chw: tuple[int, int, int], kernel: tuple[int, int], stride: tuple[int, int],
    pads: tuple[int, int, int, int], dilation: tuple[int, int] = (1, 1),
) -> tuple[int, int]:
    out = []
    for axis in range(2):
        room = chw[1 + axis] + pads[axis] + pads[2 + axis] - dilation[axis] * (kernel[axis] - 1) - 1
        if room < 0:
            raise Refusal(f"the kernel {kernel} is larger than the padded input {chw[1:]}")
        out.append(room // stride[axis] + 1)
    return out[0], out[1]


def _pair(values: tuple[int, ...], what: str) -> tuple[int, int]:
    if len(values) != 2:
        raise Refusal(f"{what} must have two numbers (2-D), not {values}",
                      "use the 2-D form of this layer, with a height of 1")
    if min(values) < 1:
        raise Refusal(f"{what} must be 1 or more, not {values}")
    return values[0], values[1]


def _pad_value(kind: TensorType, pads: tuple[int, ...]) -> int:
    zp = kind.zero_point
    if Fraction(zp).denominator > 1:  # of arithmetic after the Quant
        if any(pads):
            raise Refusal(
                f"padding writes a real zero, which is the integer {float(zp):g} before the arithmetic on this input",
                "put a Quant between the arithmetic and this layer (of a graph input: --input-quant VALUE=... with the "
                "name of what comes out of the arithmetic)",
            )
        return 0
    reach = (-(1 << kind.bits - 1), (1 << kind.bits - 1) - 1) if kind.signed else (0, (1 << kind.bits) - 1)
    if any(pads) and not reach[0] <= zp <= reach[1]:
        raise Refusal(
            f"padding writes the zero point {zp}, which {kind.bits}-bit data cannot hold",
            "use a zero point within the range of the data, or no padding",
        )
    return zp


def conv(builder: Builder, node: Node) -> Value:
    """Conv, 2-D, any padding, stride, dilation and groups."""
    value = _source(builder, node)
    weights = weights_of(node)
    if weights.ints.ndim != 4 or len(value.shape) != 4:
        raise Refusal("only 2-D convolution is supported", "use Conv2d, with a height of 1 for 1-D data")
    groups = node.integer("group", 1)
    chw = builder.chw(value)
    outputs, inputs = weights.ints.shape[:2]
    if inputs * groups != chw[0] or outputs % groups:
        raise Refusal(f"weights {weights.shape} in {groups} groups do not fit {chw[0]} input channels")
    kernel = (weights.ints.shape[2], weights.ints.shape[3])
    stride = _pair(node.integers("strides", (1, 1)), "strides")
    dilation = _pair(node.integers("dilations", (1, 1)), "dilations")
    pads = _pads(node, chw[1:], kernel, stride, dilation)
    op = Conv(
        "", (value.tensor,), "", weights=weights.ints, stride=stride, pads=pads, dilation=dilation,
        groups=groups, pad_value=_pad_value(builder.type_of(value), pads), onnx_op="Conv", weight_bits=weights.bits,
    )
    out = _out_size(chw, kernel, stride, pads, dilation)
    return _linear(builder, node, value, weights, _bias(node.input(2), outputs), op, (value.shape[0], outputs, *out))


def gemm(builder: Builder, node: Node) -> Value:
    """Gemm or MatMul: a convolution whose kernel is the whole map; of tokens a MatMul of their channels."""
    value = _source(builder, node)
    weights = weights_of(node)
    if weights.ints.ndim != 2 or len(value.shape) not in ((2,) if node.op == "Gemm" else (2, 3)):
        raise Refusal(
            f"expected an activation of shape (1, K) and 2-D weights, not {value.shape} and {weights.shape}",
            "put a Flatten before the layer",
        )
    if node.integer("transA", 0):
        raise Refusal("transA is not supported", "transpose the weights instead")
    ints, scale = weights.ints, weights.scale
    if not node.integer("transB", 0):
        ints, scale = ints.T, scale.T
    if ints.shape[1] != value.shape[-1]:
        raise Refusal(f"weights for {ints.shape[1]} inputs do not fit an activation of {value.shape}")
    outputs = len(ints)
    if len(value.shape) == 3:
        product = MatMul("", (value.tensor,), "", weights=ints, weight_bits=weights.bits)
        turned, bias = QuantConstant(ints, np.ascontiguousarray(scale), weights.bits), _bias(node.input(2), outputs)
        return _linear(builder, node, value, turned, bias, product, (*value.shape[:2], outputs))
    chw = builder.chw(value)
    # Flatten is row-major over (C, H, W), and so is this reshape: each weight stays with its pixel
    shaped = QuantConstant(ints.reshape(-1, *chw), np.ascontiguousarray(scale).reshape(-1, *chw), weights.bits)
    alpha, beta = (Fraction(float(node.attributes.get(k, 1.0))) for k in ("alpha", "beta"))  # type: ignore[arg-type]
    bias = tuple(beta * b for b in _bias(node.input(2), outputs))
    op = Conv("", (value.tensor,), "", weights=shaped.ints, onnx_op=node.op, weight_bits=weights.bits)
    return _linear(builder, node, value, shaped, bias, op, (value.shape[0], outputs), alpha)


def _enlarged(
    node: Node, chw: tuple[int, int, int], kernel: tuple[int, int], stride: tuple[int, int],
    pads: tuple[int, int, int, int],
) -> tuple[int, int, int, int]:
    """Pads with `ceil_mode` written as padding at the end."""
    if not node.integer("ceil_mode", 0):
        return pads
    new = list(pads)
    for axis in range(2):
        padded = chw[1 + axis] + pads[axis] + pads[2 + axis]
        count = -(-(padded - kernel[axis]) // stride[axis]) + 1
        if (count - 1) * stride[axis] >= chw[1 + axis] + pads[axis]:
            count -= 1  # a window may not start beyond the input
        new[2 + axis] += max((count - 1) * stride[axis] + kernel[axis] - padded, 0)
    return new[0], new[1], new[2], new[3]


def max_pool(builder: Builder, node: Node) -> Value:
    """MaxPool on integers; order and type stay as they are."""
    value = _source(builder, node)
    kernel = _pair(node.integers("kernel_shape", ()), "kernel_shape")
    stride = _pair(node.integers("strides", (1, 1)), "strides")
    if set(node.integers("dilations", (1, 1))) != {1}:
        raise Refusal("a dilated MaxPool is not supported", "use dilation 1")
    chw, kind = builder.chw(value), builder.tensors[value.tensor].type
    pads = _enlarged(node, chw, kernel, stride, _pads(node, chw[1:], kernel, stride, (1, 1)))
    rows, columns = _out_size(chw, kernel, stride, pads)
    one, zero = (Fraction(1),) * chw[0], (Fraction(0),) * chw[0]
    name = builder.op_name(node.name)
    output = unique_name(node.outputs[0], builder.tensors)
    builder.add_tensor(output, {**builder.extents(value), "H": rows, "W": columns}, kind, node.outputs[0])
    builder.ops.append(Pool(
        name, (value.tensor,), output, onnx_nodes=(node.name,), mode="max", kernel=kernel, stride=stride,
        pads=pads, pad_value=kind.lo,
        function=QuantFunction((one,), zero, Rounding.HALF_EVEN, kind.lo, kind.hi),
    ))
    builder.magnitudes[name] = (0.0,) * chw[0]
    return Quantised(output, (value.shape[0], chw[0], rows, columns), value.kind)


def _sum_pool(
    builder: Builder, node: Node, value: Quantised, kernel: tuple[int, int], stride: tuple[int, int],
    pads: tuple[int, int, int, int], shape: tuple[int, ...] | None = None,
) -> Affine:
    chw, kind = builder.chw(value), builder.type_of(value)
    rows, columns = _out_size(chw, kernel, stride, pads)
    scales = builder.channel_scales(value)
    offset = tuple(-kind.zero_point * s for s in scales)
    op = Pool("", (value.tensor,), "", mode="sum", kernel=kernel, stride=stride, pads=pads,
              pad_value=_pad_value(kind, pads))
    none = (None,) * chw[0]
    count = kernel[0] * kernel[1]
    extents = {**builder.extents(value), "H": rows, "W": columns}
    return Affine(op, extents, shape or (value.shape[0], chw[0], rows, columns),
                  (tuple(s / count for s in scales),), offset, none, none, tuple(abs(float(o)) for o in offset),
                  (node.name,))


def average_pool(builder: Builder, node: Node) -> Value:
    """AveragePool as a sum; the division is in the ratio."""
    value = _source(builder, node)
    kernel = _pair(node.integers("kernel_shape", ()), "kernel_shape")
    stride = _pair(node.integers("strides", (1, 1)), "strides")
    if set(node.integers("dilations", (1, 1))) != {1}:
        raise Refusal("a dilated AveragePool is not supported", "use dilation 1")
    chw = builder.chw(value)
    pads = _pads(node, chw[1:], kernel, stride, (1, 1))
    if any(pads) and not node.integer("count_include_pad", 0):
        raise Refusal("padding with count_include_pad=0 divides each border by another number",
                      "use count_include_pad=1, or no padding")
    if _out_size(chw, kernel, stride, _enlarged(node, chw, kernel, stride, pads)) != \
            _out_size(chw, kernel, stride, pads):
        raise Refusal("ceil_mode makes windows that reach beyond the input", "use ceil_mode=0")
    return _sum_pool(builder, node, value, kernel, stride, pads)


def global_average_pool(builder: Builder, node: Node) -> Value:
    """GlobalAveragePool: one window over the whole map."""
    value = _source(builder, node)
    return _sum_pool(builder, node, value, builder.chw(value)[1:], (1, 1), (0, 0, 0, 0))


def reduce_mean(builder: Builder, node: Node) -> Value:
    """ReduceMean over height and width, another spelling of GlobalAveragePool."""
    value = _source(builder, node)
    axes = node.integers("axes", ()) or tuple(int(a) for a in node.constant(1, "axes"))
    if len(value.shape) != 4 or {a % 4 for a in axes} != {2, 3}:
        raise Refusal(f"ReduceMean is supported over height and width, not over axes {axes}",
                      "use GlobalAveragePool")
    chw = builder.chw(value)
    shape = (*value.shape[:2], 1, 1) if node.integer("keepdims", 1) else value.shape[:2]
    return _sum_pool(builder, node, value, chw[1:], (1, 1), (0, 0, 0, 0), shape)


def add_tensors(builder: Builder, node: Node) -> Affine:
    """The sum of two quantised activations of one shape."""
    a, b = _source(builder, node, 0, "the first input of Add"), _source(builder, node, 1, "the second input of Add")
    if a.shape != b.shape or builder.extents(a) != builder.extents(b):
        raise Refusal(f"Add needs two inputs of one shape, not {a.shape} and {b.shape}",
                      "broadcasting of activations is not supported")
    forms = builder.affine(a), builder.affine(b)
    none = (None,) * forms[0].channels
    return replace(
        forms[0], op=Add("", (a.tensor, b.tensor), ""), ratios=forms[0].ratios + forms[1].ratios,
        offset=tuple(x + y for x, y in zip(forms[0].offset, forms[1].offset, strict=True)), low=none, high=none,
        magnitude=tuple(x + y for x, y in zip(forms[0].magnitude, forms[1].magnitude, strict=True)),
        nodes=(node.name,),
    )
