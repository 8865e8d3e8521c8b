# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""The time of a call as a sum over its operators, each held by a roof of the device.

    t = c sum_o [max(m_o k_o / P, w_o / B) + e_o k_e / P + k_n / P_1]

``m`` are an operator's multiply-accumulates, ``w`` its weight's bytes, ``e`` the numbers that it
reads and writes. ``P`` and ``B`` are facts of the device profile: FP32 multiply-accumulates per
second of the threads together (``P_1`` of one), and bytes that memory gives per second (Williams
et al. 2009). The factors ``k``, by class of operator and precision, and ``c``, by board and engine,
are fitted to measured latencies; each is the exponential of a sum of the parameters that
``Factors`` names, of which one that is not known is 0.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from edgeopt.device import DeviceProfile
from edgeopt.errors import InputError
from edgeopt.estimate.operators import PRODUCTS, Network

BYTES = {"fp32": 4, "fp16": 2, "int8": 1}

WIDTH = {
    "cortex-a53": 2,
    "cortex-a55": 2,
    "cortex-a57": 3,
    "cortex-a72": 3,
    "cortex-a76": 4,
    "cortex-a78": 6,
    "cortex-a78ae": 6,
}
"""The most instructions that a core starts in a cycle, by kind of core.

Those are decoded in a cycle by Arm's Software Optimization Guides of the A55, A57, A72 and A76, and
by the A53's technical reference manual ("dual-issue"); the A78 takes six out of its cache of
decoded ones.
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Machine:
    """What a call runs on, as far as the device profile tells.

    ``macs_per_s`` is the FP32 peak of one core of the fastest kind, ``bytes_per_s`` what memory
    gives (infinite if the profile does not tell), ``core`` the kind of core. ``mode`` is fp32 or
    fp16, or for INT8 ``dot`` or ``int8``, with and without an instruction for dot products.
    ``instructions_per_s`` is the most that all threads start, None for a core not in ``WIDTH``.
    """

    profile: str
    core: str
    mode: str
    weight_bytes: int
    threads: int
    macs_per_s: float
    bytes_per_s: float
    instructions_per_s: float | None = None


def machine(device: DeviceProfile, precision: str, threads: int) -> Machine:
    """Return what ``device`` is to a call. Raises InputError if its profile has no peak."""
    if device.peak_gflops_fp32 is None:
        raise InputError(
            "has no compute.peak_gflops_fp32, without which no latency is estimated",
            where=device.path,
            hint="Measure on the board with edgeopt profile, or add the figure with its source.",
        )
    if precision not in BYTES:
        raise InputError(f"{precision} is not estimated; expected one of {', '.join(BYTES)}")
    mode = precision
    if precision == "int8":
        mode = "dot" if device.has_int8_dot else "int8"
    elif precision == "fp16" and not device.has_fp16:
        mode = "fp32"
    copy = device.memory_copy_mbps
    fastest = device.clusters[0]
    width = WIDTH.get(fastest.core)
    return Machine(
        profile=device.id,
        core=device.clusters[0].core,
        mode=mode,
        weight_bytes=BYTES[precision],
        threads=threads,
        macs_per_s=device.peak_gflops_fp32 * 1e9 / 2,
        bytes_per_s=math.inf if copy is None else 2e6 * copy,  # a copy reads and writes
        instructions_per_s=width and width * fastest.max_ghz * 1e9 * threads,
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Factors:
    """The names of the parameters that make up each factor, with what each is multiplied by."""

    products: Mapping[str, Mapping[str, float]]
    elements: Mapping[str, float]
    operators: Mapping[str, float]
    call: Mapping[str, float]


def factors(machine: Machine, kernels: str) -> Factors:
    """Return which parameters a call on ``machine`` by the library ``kernels`` depends on."""
    threads = {"threads": math.log(machine.threads)}
    several = {"several": 1.0} if machine.threads > 1 else {}
    mode = {} if machine.mode == "fp32" else {f"mode {machine.mode}": 1.0}
    of_mode = {
        kind: {} if machine.mode == "fp32" else {f"{kind} {machine.mode}": 1.0}
        for kind in (*PRODUCTS, "elements")
    }
    call = [f"core {machine.core}", f"board {machine.profile}", f"kernels {kernels}"]
    call += [f"{kernels} on {machine.profile}", f"{kernels} {machine.mode}"]
    call += [f"threads {machine.profile}"] * (machine.threads > 1)
    return Factors(
        products={kind: {kind: 1.0} | mode | of_mode[kind] | threads for kind in PRODUCTS},
        elements={"elements": 1.0} | of_mode["elements"] | threads,
        operators={"operators": 1.0, f"operators {kernels}": 1.0} | several,
        call=dict.fromkeys(call, 1.0),
    )


def exponent(names: Mapping[str, float], parameters: Mapping[str, float]) -> float:
    """Return the logarithm of a factor."""
    return sum(times * parameters.get(name, 0.0) for name, times in names.items())


def seconds(
    network: Network, machine: Machine, kernels: str, parameters: Mapping[str, float]
) -> float:
    """Return how long one call takes by the formula above."""
    needed = factors(machine, kernels)
    product = {k: math.exp(exponent(v, parameters)) for k, v in needed.products.items()}
    element = math.exp(exponent(needed.elements, parameters))
    operator = math.exp(exponent(needed.operators, parameters))
    peak = machine.macs_per_s * machine.threads
    total = 0.0
    for o in network.operators:
        if o.macs:
            total += max(
                o.macs * product[o.kind] / peak,
                o.weights * machine.weight_bytes / machine.bytes_per_s,
            )
        total += o.elements * element / peak + operator / machine.macs_per_s
    return total * math.exp(exponent(needed.call, parameters))
