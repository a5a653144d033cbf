# SPDX-License-Identifier: Apache-2.0
"""Int8 TensorFlow Lite files for tests, written with the schema in the runtime's own package; and that runtime.

A `TfliteModel` collects operators; each method adds one and returns its output's index. Weights come from a seed, and
scales of results from what the kernels make of random inputs, so that values use their range and few saturate.
"""

from __future__ import annotations

from collections.abc import Sequence

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter, OpResolverType
from numpy.typing import ArrayLike

__all__ = ["Kernels", "TfliteModel"]

_TYPES = {np.dtype(np.int8): schema.TensorType.INT8, np.dtype(np.int32): schema.TensorType.INT32,
          np.dtype(np.float32): schema.TensorType.FLOAT32, np.dtype(np.uint8): schema.TensorType.UINT8}  # fmt: skip


class TfliteModel:
    """A file under construction; tensors are named, and told by their index."""

    def __init__(self, seed: int = 0):
        self.rng = np.random.default_rng(seed)
        self.model = schema.ModelT()
        self.model.version, self.model.operatorCodes = 3, []
        self.model.buffers = [schema.BufferT()]
        self.graph = schema.SubGraphT()
        self.graph.tensors, self.graph.operators, self.graph.inputs, self.graph.outputs = [], [], [], []
        self.model.subgraphs = [self.graph]

    def tensor(
        self, name: str, shape: Sequence[int], dtype: type = np.int8, scale: ArrayLike | None = None,
        zero: ArrayLike = 0, values: np.ndarray | None = None, axis: int = 0,
    ) -> int:
        """A tensor; with `values` a constant."""
        made = schema.TensorT()
        made.name, made.shape, made.type = name.encode(), [*map(int, shape)], _TYPES[np.dtype(dtype)]
        if scale is not None:
            q = schema.QuantizationParametersT()
            q.scale = [float(s) for s in np.atleast_1d(scale)]
            q.zeroPoint = [int(z) for z in np.broadcast_to(zero, len(q.scale))]
            q.quantizedDimension = axis
            made.quantization = q
        if values is not None:
            buffer = schema.BufferT()
            buffer.data = np.frombuffer(np.ascontiguousarray(values, dtype=dtype).tobytes(), np.uint8)
            self.model.buffers.append(buffer)
            made.buffer = len(self.model.buffers) - 1
        self.graph.tensors.append(made)
        return len(self.graph.tensors) - 1

    def input(self, name: str, shape: Sequence[int], scale: float = 0.05, zero: int = -3, dtype: type = np.int8) -> int:
        self.graph.inputs.append(self.tensor(name, shape, dtype, scale if dtype == np.int8 else None, zero))
        return self.graph.inputs[-1]

    def shape(self, index: int) -> list[int]:
        return list(self.graph.tensors[index].shape)

    def scale(self, index: int) -> float:
        return self.graph.tensors[index].quantization.scale[0]

    def zero(self, index: int) -> int:
        return self.graph.tensors[index].quantization.zeroPoint[0]

    def op(self, kind: str, inputs: Sequence[int], output: int, table: str = "", **options: object) -> int:
        """An operator of one output. `table`: of its options, whose fields are named."""
        code = schema.OperatorCodeT()
        code.builtinCode = getattr(schema.BuiltinOperator, kind)
        code.deprecatedBuiltinCode, code.version = min(code.builtinCode, 127), 1 if kind == "RESHAPE" else 3
        self.model.operatorCodes.append(code)
        made = schema.OperatorT()
        made.opcodeIndex = len(self.model.operatorCodes) - 1
        made.inputs, made.outputs = [*inputs], [output]
        if table:
            made.builtinOptionsType = getattr(schema.BuiltinOptions, table)
            made.builtinOptions = getattr(schema, f"{table}T")()
            for name, value in options.items():
                assert hasattr(made.builtinOptions, name), name
                setattr(made.builtinOptions, name, value)
        self.graph.operators.append(made)
        return output

    # --- operators -----------------------------------------------------------------------------------------------

    def conv(
        self, name: str, x: int, outputs: int, kernel: int | tuple[int, int] = 3, *, stride: int = 1, same: bool = True,
        depthwise: bool = False, activation: str = "NONE", per_channel: bool = True, bias: bool = True,
        dilation: int = 1, zero: int | None = None,
    ) -> int:
        """CONV_2D or DEPTHWISE_CONV_2D, with random weights."""
        n, h, w, c = self.shape(x)
        kernel = kernel if isinstance(kernel, tuple) else (kernel, kernel)
        shape, axis = ((1, *kernel, c), 3) if depthwise else ((outputs, *kernel, c), 0)
        outputs = c if depthwise else outputs
        scales = self.rng.uniform(0.002, 0.01, outputs if per_channel else 1).astype(np.float32)
        ints = self.rng.integers(-127, 128, shape)
        weights = self.tensor(f"{name}/weights", shape, np.int8, scales, 0, ints, axis)
        size = [-(-s // stride) if same else (s - (k - 1) * dilation - 1) // stride + 1
                for s, k in zip((h, w), kernel, strict=True)]  # fmt: skip
        numbers = self.rng.integers(-2000, 2000, outputs)
        out = self._result(name, (n, *size, outputs), activation, zero)
        whole = scales * np.float32(self.scale(x))
        extra = [self.tensor(f"{name}/bias", (outputs,), np.int32, whole, 0, numbers)] if bias else []
        padding = schema.Padding.SAME if same else schema.Padding.VALID
        table = "DepthwiseConv2DOptions" if depthwise else "Conv2DOptions"
        more = {"depthMultiplier": 1} if depthwise else {}
        return self._settled(self.op(
            "DEPTHWISE_CONV_2D" if depthwise else "CONV_2D", [x, weights, *extra], out, table, padding=padding,
            strideH=stride, strideW=stride, dilationHFactor=dilation, dilationWFactor=dilation,
            fusedActivationFunction=getattr(schema.ActivationFunctionType, activation), **more,
        ), activation)  # fmt: skip

    def dense(self, name: str, x: int, outputs: int, *, activation: str = "NONE", per_channel: bool = False) -> int:
        """FULLY_CONNECTED of a flat or of a 4-D input."""
        n, *rest = self.shape(x)
        count = int(np.prod(rest))
        scales = self.rng.uniform(0.002, 0.01, outputs if per_channel else 1).astype(np.float32)
        ints = self.rng.integers(-127, 128, (outputs, count))
        weights = self.tensor(f"{name}/weights", (outputs, count), np.int8, scales, 0, ints)
        bias = self.tensor(f"{name}/bias", (outputs,), np.int32, scales * np.float32(self.scale(x)), 0,
                           self.rng.integers(-2000, 2000, outputs))  # fmt: skip
        out = self._result(name, (n, outputs), activation)
        fused = getattr(schema.ActivationFunctionType, activation)
        self.op("FULLY_CONNECTED", [x, weights, bias], out, "FullyConnectedOptions", fusedActivationFunction=fused)
        return self._settled(out, activation)

    def _result(self, name: str, shape: Sequence[int], activation: str, zero: int | None = None) -> int:
        zero = (-128 if activation != "NONE" else 11) if zero is None else zero
        return self.tensor(name, shape, np.int8, np.float32(0.05), zero)

    def _settled(self, out: int, activation: str) -> int:
        """The result's scale by what the kernels make of random inputs: most of the range in use, few at its ends."""
        known = self.graph.tensors[out].quantization
        lowest = -128 if activation != "NONE" else -100
        for _ in range(12):
            found = Kernels(self.finish(out)).run(*self._sample())[self.graph.tensors[out].name.decode()]
            high, low = np.quantile(found, [0.98, 0.02])
            if high >= 126 or low < lowest:
                factor = 1.7
            else:
                factor = max((high - known.zeroPoint[0]) / (105 - known.zeroPoint[0]), 0.1)
            if 0.8 < factor < 1.1:
                break
            known.scale = [float(np.float32(known.scale[0] * factor))]
        return out

    def _sample(self) -> list[np.ndarray]:
        rng = np.random.default_rng(77)
        return [rng.integers(-128, 128, self.shape(i)).astype(np.int8) for i in self.graph.inputs]

    def add(self, name: str, a: int, b: int, *, activation: str = "NONE") -> int:
        scale = np.float32(np.hypot(self.scale(a), self.scale(b)))
        out = self.tensor(name, self.shape(a), np.int8, scale, -128 if activation != "NONE" else -7)
        return self.op("ADD", [a, b], out, "AddOptions",
                       fusedActivationFunction=getattr(schema.ActivationFunctionType, activation))  # fmt: skip

    def alike(self, name: str, x: int, shape: Sequence[int]) -> int:
        """A tensor with the quantisation of another one."""
        return self.tensor(name, shape, np.int8, self.scale(x), self.zero(x))

    def pool(
        self, name: str, x: int, kernel: int | tuple[int, int] = 2, *, kind: str = "MAX", stride: int = 2,
        same: bool = False,
    ) -> int:
        n, h, w, c = self.shape(x)
        kernel = kernel if isinstance(kernel, tuple) else (kernel, kernel)
        size = [-(-s // stride) if same else (s - k) // stride + 1 for s, k in zip((h, w), kernel, strict=True)]
        padding = schema.Padding.SAME if same else schema.Padding.VALID
        return self.op(f"{kind}_POOL_2D", [x], self.alike(name, x, (n, *size, c)), "Pool2DOptions", padding=padding,
                       strideH=stride, strideW=stride, filterHeight=kernel[0], filterWidth=kernel[1])  # fmt: skip

    def mean(self, name: str, x: int, *, keep: bool = False, factor: float = 0.6, zero: int = 5) -> int:
        n, _, _, c = self.shape(x)
        axes = self.tensor(f"{name}/axes", (2,), np.int32, values=np.array([1, 2]))
        shape = (n, 1, 1, c) if keep else (n, c)
        out = self.tensor(name, shape, np.int8, np.float32(self.scale(x) * factor), zero)
        return self.op("MEAN", [x, axes], out, "ReducerOptions", keepDims=keep)

    def reshape(self, name: str, x: int, shape: Sequence[int]) -> int:
        target = self.tensor(f"{name}/shape", (len(shape),), np.int32, values=np.array(shape))
        return self.op("RESHAPE", [x, target], self.alike(name, x, shape), "ReshapeOptions", newShape=[*shape])

    def pad(self, name: str, x: int, top: int, bottom: int, left: int, right: int) -> int:
        n, h, w, c = self.shape(x)
        amounts = self.tensor(f"{name}/amounts", (4, 2), np.int32,
                              values=np.array([[0, 0], [top, bottom], [left, right], [0, 0]]))  # fmt: skip
        out = self.alike(name, x, (n, h + top + bottom, w + left + right, c))
        return self.op("PAD", [x, amounts], out, "PadOptions")

    def concat(self, name: str, parts: Sequence[int], axis: int = 3) -> int:
        shape = self.shape(parts[0])
        shape[axis] = sum(self.shape(p)[axis] for p in parts)
        return self.op("CONCATENATION", parts, self.alike(name, parts[0], shape), "ConcatenationOptions", axis=axis)

    def rescaled(self, name: str, x: int, kind: str, factor: float = 0.7, zero: int = -20) -> int:
        """RELU and its kin, or QUANTIZE."""
        out = self.tensor(name, self.shape(x), np.int8, np.float32(self.scale(x) * factor), zero)
        return self.op(kind, [x], out, "QuantizeOptions" if kind == "QUANTIZE" else "")

    def softmax(self, name: str, x: int) -> int:
        out = self.tensor(name, self.shape(x), np.int8, 1 / 256, -128)
        return self.op("SOFTMAX", [x], out, "SoftmaxOptions", beta=1.0)

    def finish(self, *outputs: int) -> bytes:
        """The file."""
        self.graph.outputs = [*outputs]
        builder = flatbuffers.Builder(1024)
        builder.Finish(self.model.Pack(builder), b"TFL3")
        return bytes(builder.Output())


class Kernels:
    """The runtime's reference kernels on a file: every tensor of it."""

    def __init__(self, content: bytes):
        self.interpreter = Interpreter(
            model_content=content, experimental_op_resolver_type=OpResolverType.BUILTIN_REF,
            experimental_preserve_all_tensors=True,
        )  # fmt: skip
        self.interpreter.allocate_tensors()

    def run(self, *inputs: np.ndarray) -> dict[str, np.ndarray]:
        """By name, as they lie in the file's order."""
        for detail, array in zip(self.interpreter.get_input_details(), inputs, strict=True):
            self.interpreter.set_tensor(detail["index"], array)
        self.interpreter.invoke()
        return {d["name"]: self.interpreter.get_tensor(d["index"]) for d in self.interpreter.get_tensor_details()
                if d["shape"].size}  # fmt: skip
