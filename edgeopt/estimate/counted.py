# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""What a model costs by counting: if nothing can be timed, this ranks one against another.

The unit is one FP32 multiply-accumulate of the target's core; it is not a time. A product with a
weight costs its multiply-accumulates or the reading of its weights, whichever takes longer (the
roofline of Williams et al. 2009); all else costs by the element that it writes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edgeopt.target import Target

if TYPE_CHECKING:
    import torch

INT8_BY_DOT = 4.0
"""SDOT and VPDPBUSD do four times the multiply-accumulates of an FP32 FMA of the same width."""

INT8_WITHOUT_DOT = 1.3
"""Counted for onnxruntime on a MiniLM-shaped encoder of 32 tokens, on an emulated Cortex-A72.

That took 88.2 million FMLA in FP32, and in INT8 63.9 million widening multiply-accumulates and 3.2
million FMLA.
"""

PER_ELEMENT = {"fp32": 48.0, "fp16": 48.0, "int8": 66.0}
"""What one number that an operator writes costs, fitted to measured ratios.

Without it, counted ratios are up to 34 % (FP32) and 125 % (INT8) too high. Measured were 9 widths
of a 3-layer encoder (hidden 384, 32 and 128 tokens), by onnxruntime 1.31 on one AVX-512 core.
"""

_HOST = "of ratios that onnxruntime took on an x86-64 core; on the device not known"
ERROR = {
    "fp32": f"at most 6 % {_HOST}",
    "fp16": "not known",
    "int8": f"at most 18 % {_HOST}",
}
"""The largest error over those widths, and over others that nothing was fitted to.

The others are 4 each of encoders of hidden 256 and 768 at 64 tokens (FP32 6 %, INT8 12 %).
"""

_BYTES = {"fp32": 4, "fp16": 2, "int8": 1}


@dataclass(frozen=True, kw_only=True, slots=True)
class Rates:
    """What each kind of work costs, in FP32 multiply-accumulates.

    ``weight_mac`` is one with a weight, ``weight_byte`` the reading of one of its bytes (0 if
    the target's bandwidth or peak is not known), ``element`` one number that another operator
    writes. A product of two activations is FP32.
    """

    precision: str
    weight_mac: float = 1.0
    weight_byte: float = 0.0
    element: float = PER_ELEMENT["fp32"]


MACS = Rates(precision="fp32")
"""The rates that hold if no target is known."""


def rates(target: Target, precision: str) -> Rates:
    """Return the rates of ``target`` for artifacts of ``precision``, from its device profile.

    The peak is that of one core of the fastest kind times the target's threads; a copy at the
    profile's ``copy_mbps`` reads and writes, so that reading alone has twice of it.
    """
    device = target.device
    faster = {
        "fp32": 1.0,
        "fp16": 2.0 if device.has_fp16 else 1.0,
        "int8": INT8_BY_DOT if device.has_int8_dot else INT8_WITHOUT_DOT,
    }
    byte = 0.0
    if device.peak_gflops_fp32 is not None and device.memory_copy_mbps is not None:
        macs_per_s = device.peak_gflops_fp32 * 1e9 / 2 * target.threads
        byte = macs_per_s / (2e6 * device.memory_copy_mbps)
    return Rates(
        precision=precision,
        weight_mac=1 / faster[precision],
        weight_byte=byte,
        element=PER_ELEMENT[precision],
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Work:
    """What one call computes.

    ``products`` has, for each product with a weight, its multiply-accumulates and how many numbers
    the weight has. ``macs`` are the multiply-accumulates of activations alone.
    """

    products: tuple[tuple[int, int], ...]
    macs: int
    elements: int

    def cost(self, rates: Rates) -> float:
        """Return what the call costs at ``rates``."""
        size = _BYTES[rates.precision] * rates.weight_byte
        weights = sum(max(m * rates.weight_mac, n * size) for m, n in self.products)
        return weights + self.macs + self.elements * rates.element


def count(module: torch.nn.Module, inputs: Sequence[torch.Tensor]) -> Work:
    """Return the work of ``module(*inputs)``, which is run once.

    Counted are the operators that PyTorch runs, so that whatever a technique leaves out is not
    there: embeddings count by what they return, views not at all.
    """
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils._pytree import tree_leaves
    from torch.utils.flop_counter import flop_registry

    weights = {p.untyped_storage().data_ptr() for p in module.parameters()}
    products: list[tuple[int, int]] = []
    others = [0, 0]  # multiply-accumulates, elements

    class Counter(TorchDispatchMode):
        def __torch_dispatch__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            kwargs = kwargs or {}
            result = func(*args, **kwargs)
            given = [x for x in tree_leaves((args, kwargs)) if isinstance(x, torch.Tensor)]
            formula: Callable[..., int] | None = flop_registry.get(func._overloadpacket)
            if formula is not None:
                macs = formula(*args, **kwargs, out_val=result) // 2  # two FLOP each
                held = [
                    x.numel()
                    for x in given
                    if x.dim() > 1 and x.untyped_storage().data_ptr() in weights
                ]
                if held:
                    products.append((macs, max(held)))
                else:
                    others[0] += macs
                return result
            known = {x.untyped_storage().data_ptr() for x in given}
            for made in tree_leaves(result):
                if (
                    isinstance(made, torch.Tensor)
                    and made.is_floating_point()
                    and made.untyped_storage().data_ptr() not in known
                ):
                    others[1] += made.numel()
            return result

    # Not inference_mode: composite operators would come whole, without a formula.
    with torch.no_grad(), Counter():
        module(*inputs)
    return Work(products=tuple(products), macs=others[0], elements=others[1])
