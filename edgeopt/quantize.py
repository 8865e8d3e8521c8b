"""How a recipe quantises: the options of its ``[quantize]`` table, and which engine has which.

Without the table every backend does what it does by itself: ONNX and TFLite quantise activations
call by call, OpenVINO calibrates them. The formulas are the engines' own quantisers'.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from edgeopt.errors import CompileError
from edgeopt.fields import Table

QUANTIZED = ("int8", "int4")
ACTIVATIONS = ("dynamic", "static", "none")
CALIBRATIONS = ("min-max", "percentile", "entropy", "mse")
ALGORITHMS = ("rtn", "gptq", "awq", "scale-estimation", "hqq")
BIAS_CORRECTIONS = ("fast", "accurate", "off")
GROUP_SIZES = (0, 32, 64, 128, 256)
"""Weights that share a scale; 0: all of an output channel."""

GROUP_SIZE_INT4 = 32  # what every engine has, and the nearest to FP32


@dataclass(frozen=True, kw_only=True, slots=True)
class Quantize:
    """Options of quantisation after training; None leaves a choice to the engine's backend.

    ``weights`` "int4" makes an artifact of precision int4 in the place of the one in int8.
    ``activations`` are quantised call by call ("dynamic"), within ranges that calibration found
    ("static"), or stay in floating point ("none": only the weights are quantised).
    ``calibration`` chooses the ranges of static activations. ``smooth_quant`` is SmoothQuant's
    alpha (Xiao et al. 2023, eq. 4), negative for none. ``algorithm`` rounds the weights.

    Linear modules named in ``keep`` stay in floating point, and so do the ``keep_fp`` most
    sensitive ones (an int counts them, a float is their share). With ``mixed`` more of them do,
    the most sensitive first, until the artifact is within the recipe's bounds. ``max_drop`` bounds
    how much score it may lose on held-out texts of the user's.
    """

    weights: str = "int8"
    activations: str | None = None
    calibration: str | None = None
    smooth_quant: float | None = None
    bias_correction: str | None = None
    group_size: int | None = None
    algorithm: str | None = None
    keep: tuple[str, ...] = ()
    keep_fp: int | float = 0
    mixed: bool = False
    max_drop: float | None = None

    @classmethod
    def read(cls, table: Table | None) -> Quantize:
        """Read the table, or return the defaults for None. Raises InputError with the key."""
        if table is None:
            return cls()
        found = cls(
            weights=table.choice("weights", QUANTIZED, "int8"),
            activations=table.choice("activations", ACTIVATIONS, None),
            calibration=table.choice("calibration", CALIBRATIONS, None),
            smooth_quant=table.number("smooth_quant", None, low=-1.0, high=1.0),
            bias_correction=table.choice("bias_correction", BIAS_CORRECTIONS, None),
            group_size=_group_size(table),
            algorithm=table.choice("algorithm", ALGORITHMS, None),
            keep=table.words("keep") if "keep" in table else (),
            keep_fp=_keep_fp(table),
            mixed=table.get("mixed", bool, False),
            max_drop=table.number("max_drop", None, low=0.0, high=1.0),
        )
        table.close("keep", "keep_fp")
        if found.weights == "int4" and found.activations == "static":
            raise table.wrong("activations", "static ones go with int8 weights, not with int4")
        if found.calibration is not None and found.activations in ("dynamic", "none"):
            raise table.wrong(
                "calibration", f"is for static activations, not {found.activations!r}"
            )
        return found

    @property
    def is_plain(self) -> bool:
        """True where it says no more than a recipe without the table."""
        return self == PLAIN

    def lowering(self, keep: tuple[str, ...] = ()) -> Quantize:
        """Return what a backend needs to know: ``keep`` for the names that it comes down to.

        Bounds, and how names are chosen, do not change a file.
        """
        return replace(self, keep=tuple(sorted(keep)), keep_fp=0, mixed=False, max_drop=None)

    def options(self) -> dict[str, Any]:
        """Return the options that are not the default's, as plain values."""
        found = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in found.items()
            if value != getattr(PLAIN, name)
        }


PLAIN = Quantize()
"""What a recipe without the table says: each backend does what it does by itself."""


def _group_size(table: Table) -> int | None:
    size = table.integer("group_size", None, low=0)
    if size is not None and size not in GROUP_SIZES:
        known = ", ".join(map(str, GROUP_SIZES))
        raise table.wrong("group_size", f"expected one of {known}, found {size}")
    return size


def _keep_fp(table: Table) -> int | float:
    """Return how many linear modules stay in floating point: a number, or a share below 1."""
    if "keep_fp" in table and type(table.data["keep_fp"]) is float:
        share: float = table.number("keep_fp", low=0.0, high=1.0)
        return share
    count: int = table.integer("keep_fp", 0, low=0, high=100_000)
    return count


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
    and activations, as "int4 none". Groups of weights are there where ``groups`` says so, by the
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
