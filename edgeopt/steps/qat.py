"""The options of training for quantisation (QAT)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal

from edgeopt.fields import Table
from edgeopt.steps.limits import read_max_drop
from edgeopt.steps.training import Training

GRIDS = ("narrow", "full")
DEFAULT = Training(epochs=2, learning_rate=3e-5, freeze_embeddings=True)
"""A network that is trained already: small steps, the embeddings left alone."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Qat:
    """Train the network while its linear modules compute as quantised ones do.

    Weights have ``bits`` and one scale to ``group_size`` inputs (0: to an output channel), on the
    ``grid`` of ``edgeopt.compression.grid``: "narrow" is that of ONNX and OpenVINO in 8 bits and of
    TFLite, "full" that of ONNX and OpenVINO in 4 bits. ``activations`` has inputs in 8 bits as
    well. ``distil`` is the share of the loss that is the distance to the unquantised network's
    outputs, the rest is the labels'; without labels it is all. Linear modules named in ``keep`` are
    trained in floating point, for a recipe that keeps them so. The last weights stay, not those
    that do best on the validation texts.
    """

    aims: ClassVar[Literal["latency", "size", "accuracy"]] = "accuracy"
    undoes: ClassVar[frozenset[str]] = frozenset({"zeros"})
    makes: ClassVar[frozenset[str]] = frozenset({"quantised weights"})
    technique: str = field(default="qat", init=False)
    bits: int = 8
    group_size: int = 0
    grid: str = "narrow"
    activations: bool = True
    distil: float = 0.5
    keep: tuple[str, ...] = ()
    training: Training = DEFAULT
    max_drop: float = 0.01

    @classmethod
    def read(cls, table: Table) -> Qat:
        """Read a step. What is left out is as engines quantise to so many bits."""
        bits = table.integer("bits", 8, low=4, high=8)
        if bits not in (4, 8):
            raise table.wrong("bits", f"expected 4 or 8, found {bits}")
        four = bits == 4
        return cls(
            bits=bits,
            group_size=table.integer("group_size", 32 if four else 0, low=0, high=256),
            grid=table.choice("grid", GRIDS, "full" if four else "narrow"),
            activations=table.get("activations", bool, not four),
            distil=table.number("distil", 0.5, low=0.0, high=1.0),
            keep=table.words("keep") if "keep" in table else (),
            training=Training.read(table, DEFAULT, to_the_end=True),
            max_drop=read_max_drop(table),
        )
