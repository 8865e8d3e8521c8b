# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""What memory an artifact's process takes, phase by phase, as the board's kernel counts it.

Read at the end of each phase, never while something is timed. A figure that the kernel does not
tell is None, not 0. Source: Linux, Documentation/filesystems/proc.rst, ``smaps``.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

PHASES = ("before", "loaded", "first", "steady")
"""As the agent tells them: bundle open; engine with artifact too; one inference; all of them."""

FIGURES = ("rss", "pss", "unbacked", "peak")
"""What a budget may limit of each."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Phase:
    """The end of one phase; all are bytes.

    ``rss_bytes`` is resident; ``pss_bytes`` counts a page that n processes map as an n-th.
    ``anonymous_bytes`` is what of the resident no file backs: heap, copies of weights, pages of a
    file that were changed. ``private_dirty_bytes`` is what only this process has and changed, and
    ``swap_bytes`` what was swapped out: it is not resident. Of what is resident and not anonymous,
    ``artifact_mapped_bytes`` is of the artifact's files, of a packed bundle of its whole file, and
    ``memfd_bytes`` of memory files, where XNNPACK (LiteRT) keeps the weights that it packed.
    ``arena_bytes`` is what the engine says that its arena took: onnxruntime does, from 1.23 on.
    ``peak_bytes`` is the kernel's largest resident set, since the phase began if
    ``peak_is_of_phase``, else since some phase before. The kernel counts it as it goes, and lags by
    some dozens of pages a thread or CPU.
    """

    rss_bytes: int | None = None
    pss_bytes: int | None = None
    anonymous_bytes: int | None = None
    private_dirty_bytes: int | None = None
    swap_bytes: int | None = None
    artifact_mapped_bytes: int | None = None
    memfd_bytes: int | None = None
    arena_bytes: int | None = None
    peak_bytes: int | None = None
    peak_is_of_phase: bool = True

    @property
    def unbacked_bytes(self) -> int | None:
        """What is resident and no file on a disk backs: anonymous, and memory files."""
        if self.anonymous_bytes is None:
            return None
        return self.anonymous_bytes + (self.memfd_bytes or 0)


@dataclass(frozen=True, kw_only=True, slots=True)
class Memory:
    """One process: before its engine was loaded, after, after its first inference, at its end.

    If its outputs disagreed nothing was timed, and ``steady`` is after the checks.
    """

    before: Phase
    loaded: Phase
    first: Phase
    steady: Phase

    @property
    def peak_bytes(self) -> int | None:
        """The largest resident set of all phases, None if the kernel does not tell."""
        return max((p.peak_bytes for p in self.all if p.peak_bytes is not None), default=None)

    @property
    def all(self) -> tuple[Phase, ...]:
        """The phases in their order."""
        return self.before, self.loaded, self.first, self.steady

    @property
    def unbacked_at_load_bytes(self) -> int | None:
        """By how much what no file backs grew when engine and artifact were loaded.

        It holds copies of weights, as engines repack them, but also the engine's own heap and its
        buffers for all shapes: which is which nobody counts. LiteRT packs on the first inference.
        """
        return _grown(self.before.unbacked_bytes, self.loaded.unbacked_bytes)

    @property
    def first_run_growth_bytes(self) -> int | None:
        """By how much the resident set grew on the first inference: tensors between layers, and
        what the engine leaves until then.
        """
        return _grown(self.loaded.rss_bytes, self.first.rss_bytes)

    def document(self) -> dict[str, Any]:
        """Return what ``profile --json`` prints: phases by name, and what is derived of them."""
        told = {
            name: asdict(phase)
            | {"unbacked_bytes": phase.unbacked_bytes, "peak_bytes": self.peak_of(place)}
            for place, (name, phase) in enumerate(zip(PHASES, self.all, strict=True))
        }
        for phase in told.values():
            del phase["peak_is_of_phase"]
        return told | {
            "unbacked_at_load_bytes": self.unbacked_at_load_bytes,
            "first_run_growth_bytes": self.first_run_growth_bytes,
        }

    def peak_of(self, place: int) -> int | None:
        """The largest resident set within a phase, by its place in ``PHASES``.

        None if the kernel does not tell: it kept an older peak, and that was not exceeded.
        """
        phase = self.all[place]
        if phase.peak_bytes is None:
            return None
        older = [p.peak_bytes or 0 for p in self.all[:place]]
        if phase.peak_is_of_phase or phase.peak_bytes > max(older, default=0):
            return max(phase.peak_bytes, phase.rss_bytes or 0)  # which does not lag
        return None


def _grown(before: int | None, after: int | None) -> int | None:
    return None if before is None or after is None else after - before
