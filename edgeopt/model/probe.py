# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Hold what is to be lowered against transformers, called as a user calls it.

Reference is the checkpoint's own class with the attention that it chooses itself, on one text
without padding. Ours is called on the same text alone and padded, as the runtime pads it. The
lengths go beyond every window and block that config.json names: what is lost there shows in no
short text.
"""

from __future__ import annotations

import contextlib
import copy
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeopt.errors import InputError
from edgeopt.extras import require
from edgeopt.model.tasks import QUESTION_ANSWERING, Task
from edgeopt.quiet import quiet

if TYPE_CHECKING:
    import torch

_SAME = 1e-4  # of the largest output, at least of 1: float32 sums of another order, ten times over
_ROUNDINGS = 4  # of what a network loses in float32: both lose it, in sums of another order
_USUAL = 512  # tokens; beyond, only if config.json names something that is longer
_MOST = 2048  # tokens; attention takes memory by their square
_SHORT = 7
_SWITCH = re.compile(r"window|block|chunk|local|span|bucket|landmark")
_ORDINARY = 64  # ids are drawn from so many times as a table is long, until one is ordinary


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Probe:
    """Texts of some lengths, as ids (1, n), types (1, n) and what transformers makes of each."""

    inputs: tuple[str, ...]
    task: Task
    pad_id: int
    ids: Sequence[torch.Tensor]
    types: Sequence[torch.Tensor]
    answers: Sequence[tuple[torch.Tensor, ...]]

    @property
    def width(self) -> int:
        """The last dimension of the first output."""
        return int(self.answers[0][0].shape[-1])

    def longest(self) -> dict[str, torch.Tensor]:
        """Return the longest text by input name, (1, n)."""
        return dict(zip(self.inputs, self._call([len(self.ids) - 1]), strict=True))

    def require(self, module: torch.nn.Module, where: str) -> None:
        """Raise InputError if ``module`` gives something else than transformers."""
        wrong = self.differs(module)
        if wrong is not None and wrong.startswith("texts padded"):
            raise InputError(
                f"its answers depend on the padding that a device adds: {wrong}",
                where=where,
                hint="Such a network cannot be carried to a device.",
            )
        if wrong is not None:
            raise InputError(
                f"edgeopt's form of it does not give what transformers gives: {wrong}",
                where=where,
                hint="Please report the kind of network (model_type in config.json).",
            )

    def differs(self, module: torch.nn.Module) -> str | None:
        """Return at which text ``module`` gives something else, and by how much; None if nowhere.

        An error of ``module`` counts as a difference.
        """
        import torch

        longest = max(part.shape[1] for part in self.ids)
        alone = [(f"a text of {i.shape[1]} tokens", [n]) for n, i in enumerate(self.ids)]
        padded = (f"texts padded to {longest} tokens", list(range(len(self.ids))))
        with torch.inference_mode(), quiet():
            for what, rows in [*alone, padded]:
                try:
                    got = module(*self._call(rows))
                # The network is some class of transformers', with checks of its own.
                except Exception as exc:  # noqa: BLE001
                    return f"{what} fail ({first_line(exc)})"
                exact: tuple[torch.Tensor, ...] | None = None
                for at, row in enumerate(rows):
                    own = tuple(t[at : at + 1] for t in got)
                    if (wrong := self._compare(own, row)) is None:
                        continue
                    exact = exact or self._exactly(module, rows)
                    if exact is None or self._compare(own, row, [t[at : at + 1] for t in exact]):
                        return f"{what} {wrong}"
        return None

    def _exactly(
        self, module: torch.nn.Module, rows: Sequence[int]
    ) -> tuple[torch.Tensor, ...] | None:
        """Return what ``module`` gives in float64, None if it cannot be computed so."""
        import torch

        found: tuple[torch.Tensor, ...] | None = None
        # A network may make tensors of float32 itself.
        with contextlib.suppress(RuntimeError, TypeError, ValueError):
            exact = tuple(copy.deepcopy(module).double()(*self._call(rows)))
            found = exact if all(t.dtype == torch.float64 for t in exact) else None
        return found

    def _call(self, rows: Sequence[int]) -> tuple[torch.Tensor, ...]:
        import torch

        longest = max(self.ids[row].shape[1] for row in rows)
        shape = (len(rows), longest)
        call = {
            "input_ids": torch.full(shape, self.pad_id),
            "attention_mask": torch.zeros(shape, dtype=torch.int64),
            "token_type_ids": torch.zeros(shape, dtype=torch.int64),
        }
        for at, row in enumerate(rows):
            n = self.ids[row].shape[1]
            call["input_ids"][at, :n] = self.ids[row]
            call["attention_mask"][at, :n] = 1
            call["token_type_ids"][at, :n] = self.types[row]
        return tuple(call[name] for name in self.inputs)

    def _compare(
        self,
        got: Sequence[torch.Tensor],
        row: int,
        exact: Sequence[torch.Tensor] | None = None,
    ) -> str | None:
        """Return by how much too much ``got`` differs; ``exact`` is the same in float64."""
        tokens = self.ids[row].shape[1]
        for number, (ours, theirs) in enumerate(zip(got, self.answers[row], strict=True)):
            kept = ours[:, :tokens] if self.task.by_token else ours
            if kept.shape != theirs.shape:
                return f"have the shape {tuple(kept.shape)} for {tuple(theirs.shape)}"
            off, most = float((kept - theirs).abs().max()), float(theirs.abs().max())
            lost = 0.0 if exact is None else self._lost(ours, exact[number], tokens)
            if not off <= max(_SAME * max(1.0, most), _ROUNDINGS * lost):
                return f"differ by {off:.2g}, of {most:.2g} at most"
        return None

    def _lost(self, ours: torch.Tensor, exact: torch.Tensor, tokens: int) -> float:
        """Return what rounding to float32 costs, at most, of an output."""
        off = (exact - ours).abs()
        return float((off[:, :tokens] if self.task.by_token else off).max())


def ask(
    reference: Any,
    inputs: tuple[str, ...],
    task: Task,
    *,
    tokens: Path | None,
    rows: int,
    pad_id: int,
    most: int,
    where: str,
) -> Probe:
    """Return the texts with the answers of ``reference``, a network of transformers.

    ``tokens`` is the tokenizer, of which the special tokens are taken, ``rows`` how many ids there
    are, ``most`` the longest text. Raises InputError if the network cannot be called so.
    """
    import torch

    special = _special_ids(reference.config, tokens) | {pad_id}
    frames = (_frame(tokens, pair=False), _frame(tokens, pair=True))
    generator = torch.Generator().manual_seed(0)
    ids, types, answers = [], [], []
    for number, n in enumerate(_lengths(reference.config, most)):
        # Pairs for question answering; else every other one, if there are token types.
        pair = task == QUESTION_ANSWERING or ("token_type_ids" in inputs and number % 2 == 1)
        row, kinds = _text(frames[pair], n, rows, special, generator)
        call = {
            "input_ids": row,
            "attention_mask": torch.ones_like(row),
            "token_type_ids": kinds,
        }
        ids.append(row)
        types.append(kinds)
        answers.append(_answer(reference, {name: call[name] for name in inputs}, task, where))
    return Probe(inputs=inputs, task=task, pad_id=pad_id, ids=ids, types=types, answers=answers)


def _answer(
    reference: Any, call: Mapping[str, torch.Tensor], task: Task, where: str
) -> tuple[torch.Tensor, ...]:
    import torch

    kind = type(reference).__name__
    network = copy.deepcopy(reference)  # a short text may change how the next is read (BigBird)
    try:
        with torch.inference_mode(), quiet():
            result = network(**call, return_dict=True)
    # The network is some class of transformers', with checks of its own.
    except Exception as exc:
        raise InputError(
            f"transformers' {kind} cannot be called with {', '.join(call)} alone "
            f"({first_line(exc)})",
            where=where,
            hint="edgeopt takes networks of texts; of those for images it takes classifiers.",
        ) from exc
    missing = [name for name in task.outputs if name not in result]
    if missing:
        raise InputError(
            f"transformers' {kind} gives {', '.join(result)}, and no {missing[0]}",
            where=where,
            hint=f"That is what edgeopt takes for {task}.",
        )
    found = tuple(result[name] for name in task.outputs)
    batch, tokens = call["input_ids"].shape
    leading = (batch, tokens) if task.by_token else (batch,)
    rank = len(task.dims)
    for name, output in zip(task.outputs, found, strict=True):
        if output.dim() != rank or tuple(output.shape[: len(leading)]) != leading:
            raise InputError(
                f"transformers' {kind} gives {name} of the shape {tuple(output.shape)} for "
                f"{tokens} tokens",
                where=where,
                hint=f"That is none that edgeopt takes for {task}.",
            )
    return found


def _lengths(config: Any, most: int) -> list[int]:
    """Return the lengths to ask at, up to ``most``: beyond all that config.json may switch at."""
    switches = sorted({n for n in _switches(config.to_dict()) if 1 < n < most})
    longest = min(most, max([_USUAL, *(2 * n + 1 for n in switches if 2 * n < _MOST)]))
    found = {min(_SHORT, longest), max(1, longest // 3), longest}
    return sorted(found | {n + 1 for n in switches if n < longest})


def _switches(config: Any, name: str = "") -> Iterable[int]:
    if isinstance(config, Mapping):
        for key, value in config.items():
            yield from _switches(value, str(key))
    elif type(config) is int and _SWITCH.search(name):
        yield config


def _special_ids(config: Any, tokens: Path | None) -> set[int]:
    """Return the ids that a network may give a meaning of their own."""
    found: set[int] = set()
    for name, value in config.to_dict().items():
        if name.endswith("_token_id") and value is not None:
            found |= set(value if isinstance(value, list) else [value])
    if tokens is not None:
        backend = _backend(tokens)
        found |= {i for i, token in backend.get_added_tokens_decoder().items() if token.special}
    return found


def _backend(tokens: Path) -> Any:
    return require("tokenizers", "torch").Tokenizer.from_file(str(tokens / "tokenizer.json"))


def _frame(tokens: Path | None, *, pair: bool) -> list[tuple[int | None, int]]:
    """Return (id, type) by token of what the tokenizer makes; the id None once for each text."""
    bare: list[tuple[int | None, int]] = [(None, kind) for kind in ((0, 1) if pair else (0,))]
    if tokens is None:
        return bare
    encoded = _backend(tokens).encode("a", "a") if pair else _backend(tokens).encode("a")
    frame: list[tuple[int | None, int]] = []
    columns = zip(encoded.ids, encoded.type_ids, encoded.sequence_ids, strict=True)
    before: int | None = None
    for number, kind, text in columns:
        if text is None:
            frame.append((number, kind))
        elif text != before:
            frame.append((None, kind))
        before = text
    return frame if sum(number is None for number, _ in frame) == len(bare) else bare


def _text(
    frame: Sequence[tuple[int | None, int]],
    length: int,
    rows: int,
    special: set[int],
    generator: torch.Generator,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return ids and types, (1, length): ``frame`` with random ordinary ids for its texts."""
    import torch

    texts = [at for at, (number, _) in enumerate(frame) if number is None]
    room = length - (len(frame) - len(texts))
    if room < len(texts):  # too short for the special tokens
        frame, texts, room = [(None, 0)], [0], length
    counts = dict.fromkeys(texts, 0)
    counts[texts[0]] = room // 3 if len(texts) > 1 else room
    counts[texts[-1]] += room - sum(counts.values())
    ids: list[int] = []
    types: list[int] = []
    for at, (number, kind) in enumerate(frame):
        many = counts.get(at, 1)
        ids += _ordinary(many, rows, special, generator) if number is None else [number]
        types += [kind] * many
    return torch.tensor([ids]), torch.tensor([types])


def _ordinary(count: int, rows: int, special: set[int], generator: torch.Generator) -> list[int]:
    import torch

    drawn = torch.randint(0, rows, (_ORDINARY + 4 * count,), generator=generator).tolist()
    found = [number for number in drawn if number not in special]
    return (found * count)[:count] if found else [0] * count


def first_line(exc: Exception) -> str:
    """Return the first line of what ``exc`` says, or its kind."""
    return (str(exc).strip().splitlines() or [type(exc).__name__])[0]
