"""The options of setting single weights to zero."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal

from edgeopt.fields import Table
from edgeopt.steps.limits import MIN_SAMPLES, MOST, read_max_drop

METHODS = ("sparsegpt", "wanda", "magnitude")
PARTS = ("attention", "ffn")


@dataclass(frozen=True, kw_only=True, slots=True)
class Unstructured:
    """Set weights of the layers' projections to zero; the shapes stay.

    ``sparsity`` is the share that goes, or ``pattern`` "N:M" keeps N of each M weights that stand
    side by side along a projection's inputs. ``scope`` "global" compares the weights of all layers
    with each other (``method`` "magnitude" only), "layer" those of each projection. ``samples``
    texts show the inputs ("sparsegpt", "wanda"); ``damp`` is what is added to their mean square,
    as a share of it.
    """

    aims: ClassVar[Literal["latency", "size", "accuracy"]] = "size"
    makes: ClassVar[frozenset[str]] = frozenset({"zeros"})
    technique: str = field(default="unstructured", init=False)
    method: str = "sparsegpt"
    sparsity: float = 0.5
    pattern: str | None = None
    scope: str = "layer"
    parts: tuple[str, ...] = PARTS
    damp: float = 0.01
    samples: int = 256
    max_drop: float = 0.01

    @property
    def group(self) -> tuple[int, int] | None:
        """N and M of ``pattern``."""
        if self.pattern is None:
            return None
        kept, of = self.pattern.split(":")
        return int(kept), int(of)

    @classmethod
    def read(cls, table: Table) -> Unstructured:
        """Read a step. Raises InputError where options contradict each other."""
        step = cls(
            method=table.choice("method", METHODS, "sparsegpt"),
            sparsity=table.number("sparsity", 0.5, low=0.01, high=0.99),
            pattern=table.text("pattern", None, like=r"[1-9]\d?:[1-9]\d?"),
            scope=table.choice("scope", ("layer", "global"), "layer"),
            parts=table.words("parts", PARTS) if "parts" in table else PARTS,
            damp=table.number("damp", 0.01, low=1e-6, high=10.0),
            samples=table.integer("samples", 256, low=MIN_SAMPLES, high=MOST),
            max_drop=read_max_drop(table),
        )
        if step.group is not None:
            kept, of = step.group
            if kept >= of:
                raise table.wrong("pattern", f"keeps {kept} of {of}, so that nothing goes")
            if "sparsity" in table:
                raise table.wrong("sparsity", "is given beside pattern, which says it")
        if step.scope == "global" and (step.method != "magnitude" or step.group is not None):
            raise table.wrong("scope", 'global needs method = "magnitude" and no pattern')
        return step
