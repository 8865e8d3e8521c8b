# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""How a recipe quantises: the options of its ``[quantize]`` table, and which engine has which.

Without the table every backend does what it does by itself: ONNX and TFLite quantise activations
call by call, OpenVINO calibrates them. The formulas are the engines' own quantisers'.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal, get_args

from edgeopt.errors import CompileError
from edgeopt.fields import Table
from edgeopt.options import changed
from edgeopt.values import Range

Quantized = Literal["int8", "int4"]
GroupSize = Literal[0, 32, 64, 128, 256]
QUANTIZED: tuple[Quantized, ...] = get_args(Quantized)
GROUP_SIZES: tuple[GroupSize, ...] = get_args(GroupSize)

GROUP_SIZE_INT4: GroupSize = 32  # what every engine has, and the nearest to FP32


@dataclass(frozen=True, kw_only=True, slots=True)
class Quantize:
    """Options of quantisation after training; None leaves a choice to the engine's backend.

    With ``weights`` "int4" an artifact of precision int4 stands in the place of the one in int8.
    """

    weights: Annotated[Quantized, "what weights are quantised to"] = "int8"
    activations: Annotated[
        Literal["dynamic", "static", "none"] | None,
        "quantised call by call, within ranges that calibration found, or not at all",
    ] = None
    calibration: Annotated[
        Literal["min-max", "percentile", "entropy", "mse"] | None,
        "what chooses the ranges of static activations",
    ] = None
    # Xiao et al. 2023, eq. 4.
    smooth_quant: Annotated[
        float | None, Range(-1.0, 1.0), "SmoothQuant's alpha, negative for none (OpenVINO)"
    ] = None
    bias_correction: Annotated[
        Literal["fast", "accurate", "off"] | None, "how biases make up for rounding (OpenVINO)"
    ] = None
    group_size: Annotated[
        GroupSize | None, "weights that share a scale; 0: all of an output channel"
    ] = None
    algorithm: Annotated[
        Literal["rtn", "gptq", "awq", "scale-estimation", "hqq"] | None, "what rounds the weights"
    ] = None
    keep: Annotated[tuple[str, ...], "linear modules that stay in floating point"] = ()
    keep_fp: Annotated[
        Annotated[int, Range(0, 100_000)] | Annotated[float, Range(0.0, 1.0)],
        "how many of the most sensitive linear modules stay so, or which share",
    ] = 0
    mixed: Annotated[
        bool, "more of them do, the most sensitive first, until the recipe's bounds hold"
    ] = False
    max_drop: Annotated[
        float | None, Range(0.0, 1.0), "how much the score on held-out texts may fall"
    ] = None

    def check(self, table: Table) -> None:
        """Raise InputError if options contradict each other."""
        if self.weights == "int4" and self.activations == "static":
            raise table.wrong("activations", "static ones go with int8 weights, not with int4")
        if self.calibration is not None and self.activations in ("dynamic", "none"):
            raise table.wrong("calibration", f"is for static activations, not {self.activations!r}")

    @property
    def is_plain(self) -> bool:
        """True if it says no more than a recipe without the table."""
        return self == PLAIN

    def lowering(self, keep: tuple[str, ...] = ()) -> Quantize:
        """Return what a backend needs to know: ``keep`` for the names that it comes down to.

        Bounds, and how names are chosen, do not change a file.
        """
        return replace(self, keep=tuple(sorted(keep)), keep_fp=0, mixed=False, max_drop=None)

    def options(self) -> dict[str, Any]:
        """Return the options that are not the default's, as plain values."""
        return changed(self)


PLAIN = Quantize()
"""What a recipe without the table says: each backend does what it does by itself."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """What one engine does of the options, all chosen."""

    bits: int
    activations: str
    calibration: str
    algorithm: str
    group_size: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Abilities:
    """What an engine's quantiser has; the first of each is what it does unasked.

    ``activations`` by weights; ``calibrations`` of static activations; ``algorithms`` by weights
    and activations, as "int4 none". Weights can be in groups if ``groups`` says so, by the
    same key. ``why`` has a reason for what one would miss.
    """

    activations: Mapping[str, tuple[str, ...]]
    calibrations: tuple[str, ...] = ()
    algorithms: Mapping[str, tuple[str, ...]]
    groups: Mapping[str, tuple[int, ...]]
    smooth_quant: bool = False
    bias_correction: bool = False
    why: Mapping[str, str]


def plan(engine: str, precision: str, asked: Quantize, abilities: Abilities) -> Plan:
    """Return what ``engine`` does for ``asked``; None everywhere gives what it does by itself.

    Raises CompileError, with what the engine has, for an option that it has not.
    """

    def choose(option: str, known: tuple[Any, ...]) -> Any:
        value = getattr(asked, option)
        if value is None:
            return known[0] if known else ""
        if value not in known:
            reason = abilities.why.get(f"{option} {value}")
            raise CompileError(
                f"{engine} {precision} has no {option} {value!r}"
                + (f": {reason}" if reason else ""),
                hint=f"It has: {', '.join(map(str, known)) or 'none'}",
            )
        return value

    for option in ("smooth_quant", "bias_correction"):
        if getattr(asked, option) is not None and not getattr(abilities, option):
            raise CompileError(f"{engine} has no {option}", hint="OpenVINO (NNCF) has.")
    activations = choose("activations", abilities.activations[precision])
    calibrations = abilities.calibrations if activations == "static" else ()
    if asked.calibration is not None and not calibrations:
        raise CompileError(
            f"{engine} {precision} has nothing to calibrate: its activations are {activations!r}",
            hint='With activations = "static" it has, where it can.',
        )
    way = f"{precision} {activations}"
    return Plan(
        bits=int(precision.removeprefix("int")),
        activations=activations,
        calibration=choose(
            "calibration", abilities.calibrations if activations == "static" else ()
        ),
        algorithm=choose("algorithm", abilities.algorithms.get(way, ("rtn",))),
        group_size=choose("group_size", abilities.groups.get(way, (0,))),
    )
