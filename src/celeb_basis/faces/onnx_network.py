"""OnnxNetwork: a recogniser's ONNX file as a module of torch, through which gradients flow.

The converters on PyPI need torchvision, or do not read weights in blocks; recognisers have a dozen operators.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..errors import ModelError, how_to_install


class OnnxNetwork(nn.Module):
    """Runs the graph of an ONNX file, from its first input to its first output.

    Raises ModelError where `onnx` is missing, and for an operator that no known recogniser has.
    """

    def __init__(self, path: str) -> None:
        super().__init__()
        try:
            from onnx import helper, load, numpy_helper
        except ImportError:
            raise ModelError(f"gradients of a face reader need onnx: {how_to_install('photo')}") from None
        graph = load(path).graph
        known = {each.name: torch.from_numpy(numpy_helper.to_array(each).copy()) for each in graph.initializer}
        self._input, self._output = graph.input[0].name, graph.output[0].name
        self._steps: list[tuple[Callable[..., Tensor], list[str], str]] = []
        for node in graph.node:
            if node.op_type not in OPERATORS:
                raise ModelError(f"{path} has the operator {node.op_type}, which recognisers of faces do not have")
            options = {each.name: helper.get_attribute_value(each) for each in node.attribute}
            if node.op_type == "Constant":
                known[node.output[0]] = torch.from_numpy(numpy_helper.to_array(options["value"]).copy())
            elif all(name in known for name in node.input):  # such as weights in blocks
                known[node.output[0]] = OPERATORS[node.op_type](*(known[name] for name in node.input), **options)
            else:
                self._steps.append((_with(OPERATORS[node.op_type], options), list(node.input), node.output[0]))
        used = {name for _, inputs, _ in self._steps for name in inputs}
        self._constants = {name: f"constant_{i}" for i, name in enumerate(sorted(used & known.keys()))}
        for name, buffer in self._constants.items():
            self.register_buffer(buffer, known[name])

    def forward(self, pixels: Tensor) -> Tensor:
        """Return the features (n, d) of pixels (n, 3, h, w), in the units that the file takes."""
        values = {name: self.get_buffer(buffer) for name, buffer in self._constants.items()}
        values[self._input] = pixels
        for step, inputs, output in self._steps:
            values[output] = step(*(values[name] for name in inputs))
        return values[self._output]


def _with(operator: Callable[..., Tensor], options: dict[str, Any]) -> Callable[..., Tensor]:
    return lambda *inputs: operator(*inputs, **options)


def _batch_norm(
    x: Tensor, weight: Tensor, bias: Tensor, mean: Tensor, variance: Tensor, *, epsilon: float = 1e-5, **_: Any
) -> Tensor:
    return functional.batch_norm(x, mean, variance, weight, bias, eps=epsilon)


def _conv(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    pads: tuple[int, ...] = (0, 0, 0, 0),
    strides: tuple[int, ...] = (1, 1),
    dilations: tuple[int, ...] = (1, 1),
    group: int = 1,
    **_: Any,
) -> Tensor:
    top, left, bottom, right = pads
    padded = functional.pad(x, (left, right, top, bottom))
    return functional.conv2d(padded, weight, bias, stride=list(strides), dilation=list(dilations), groups=group)


def _dequantized(x: Tensor, scale: Tensor, zero: Tensor, *, axis: int = 1, block_size: int = 0) -> Tensor:
    """Return whole numbers as what they stand for; along `axis`, each block has a scale and a zero of its own."""
    if block_size:
        scale, zero = (each.repeat_interleave(block_size, axis) for each in (scale, zero))
    else:
        shape = [-1 if i == axis % x.ndim else 1 for i in range(x.ndim)]
        scale, zero = (each.reshape(shape) if each.ndim else each for each in (scale, zero))
    return (x.float() - zero.float()) * scale


def _gemm(
    a: Tensor, b: Tensor, c: Tensor, *, alpha: float = 1.0, beta: float = 1.0, transA: int = 0, transB: int = 0
) -> Tensor:
    return alpha * (a.T if transA else a) @ (b.T if transB else b) + beta * c


# Of SFace and of the residual networks of ArcFace, AuraFace among them.
OPERATORS: dict[str, Callable[..., Tensor]] = {
    "Add": torch.add,
    "BatchNormalization": _batch_norm,
    "Constant": torch.tensor,
    "Conv": _conv,
    "DequantizeLinear": _dequantized,
    "Dropout": lambda x, *_, **__: x,
    "Flatten": lambda x, axis=1: x.flatten(axis),
    "Gemm": _gemm,
    "Identity": lambda x: x,
    "Mul": torch.mul,
    "PRelu": lambda x, slope: x.clamp_min(0) + slope * x.clamp_max(0),
    "Relu": torch.relu,
    "Reshape": lambda x, shape: x.reshape(shape.tolist()),
    "Sub": torch.sub,
}
