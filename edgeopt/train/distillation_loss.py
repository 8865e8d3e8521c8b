# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""What a student is held to, batch by batch: the sum of the losses that the options ask for."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch

from edgeopt.evaluate.data import Batch, Data, Encoded
from edgeopt.model import Model
from edgeopt.model.checkpoint import network
from edgeopt.model.network.widths import blocks, layers
from edgeopt.steps import wrong
from edgeopt.steps.distil import Distil, Losses
from edgeopt.train import losses as loss
from edgeopt.train import training
from edgeopt.train.activations import Inside, embed, watch
from edgeopt.train.resume import seeded
from edgeopt.train.teacher import alike, answers


def pairs(options: Distil, student: int, teacher: int) -> list[tuple[int, int]]:
    """Return the pairs of layers that are compared: one of the student, one of the teacher.

    They are in the order of the student's layers, from the first on.

    "uniform" is Jiao et al. 2020, "TinyBERT", section 3: what comes after the same share of either
    network's layers. Raises InputError if the teacher has not as many.
    """
    if isinstance(options.layer_map, tuple):
        if len(options.layer_map) != student or options.layer_map[-1] >= teacher:
            raise wrong(
                options,
                "layer_map",
                f"expected {student} layers of the teacher's, 0 to {teacher - 1}, found "
                f"{list(options.layer_map)}",
            )
        return list(enumerate(options.layer_map))
    if student > teacher:
        raise wrong(options, "layer_map", f"the teacher has {teacher} layers for {student}")
    if options.layer_map == "last":
        return [(i, teacher - student + i) for i in range(student)]
    return [(i, round((i + 1) * teacher / student) - 1) for i in range(student)]


def _relation_heads(options: Distil, widths: tuple[int, int], heads: int) -> int:
    """Return into how many heads the relations of two widths are cut: the teacher's, or fewer."""
    common = math.gcd(*widths)
    if options.relation_heads is None:
        return max(n for n in range(1, heads + 1) if common % n == 0)
    if common % options.relation_heads:
        raise wrong(
            options,
            "relation_heads",
            f"is {options.relation_heads}, which does not divide both widths, "
            f"{widths[0]} and {widths[1]}",
        )
    return options.relation_heads


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Lesson:
    """The objective: what the student is held to, batch by batch."""

    teacher: Model
    student: Model
    losses: Losses
    options: Distil
    targets: dict[str, torch.Tensor]
    projections: dict[str, torch.nn.Module]
    theirs: Encoded | None
    same: list[bool]
    pairs: list[tuple[int, int]]
    heads: int
    inside: Inside
    inside_teacher: Inside

    def __call__(self, batch: Batch) -> torch.Tensor:
        """Return the sum of the losses by their weights."""
        (output,) = self.student.module(*batch.inputs)
        weights, total = self.losses, output.new_zeros((), dtype=torch.float32)
        if weights.response:
            logits = self.target("logits", batch, output)
            found = loss.response(output, logits, self.options.temperature)
            total = total + weights.response * found
        if weights.labels and batch.labels is not None:
            total = total + weights.labels * loss.labels(output, batch.labels)
        if weights.of_embeddings:
            total = total + self.embeddings(batch)
        if weights.of_tokens:
            total = total + self.tokens(batch)
        if not total.requires_grad:  # no text of the batch is cut alike: there is nothing to learn
            total = total + output.float().sum() * 0
        return total

    def target(self, name: str, batch: Batch, like: torch.Tensor) -> torch.Tensor:
        """Return the teacher's outputs for a batch."""
        return self.targets[name][batch.rows].to(like.device)

    def embeddings(self, batch: Batch) -> torch.Tensor:
        """Return the sum of the losses of the texts' embeddings."""
        last = len(blocks(network(self.student))) - 1
        own = embed(self.student, self.inside.hidden[last], batch.mask)
        teacher = self.target("embeddings", batch, own)
        total = own.new_zeros(())
        for name, function in (("distances", loss.distances), ("angles", loss.angles)):
            if weight := getattr(self.losses, name):
                total = total + weight * function(own, teacher)
        own = self.project("embedding", own)
        for name, function in (
            ("embedding", loss.embedding),
            ("embedding_cosine", loss.embedding_cosine),
        ):
            if weight := getattr(self.losses, name):
                total = total + weight * function(own, teacher)
        return total

    def project(self, name: str, values: torch.Tensor) -> torch.Tensor:
        """Return ``values`` as wide as the teacher's."""
        if name not in self.projections:
            return values
        projected: torch.Tensor = self.projections[name](values)
        return projected

    def tokens(self, batch: Batch) -> torch.Tensor:
        """Return the sum of the losses of single tokens, of the texts that both cut alike."""
        assert self.theirs is not None
        weights = self.losses
        picked = [i for i, row in enumerate(batch.rows) if self.same[row]]
        place = batch.inputs[0].device
        total = torch.zeros((), device=place)
        if not picked:
            return total
        other = self.theirs.batch([batch.rows[i] for i in picked]).to(place)
        with torch.no_grad():
            self.teacher.module(*other.inputs)
        hidden = next(iter((*self.inside_teacher.hidden.values(), *_all(self.inside_teacher))))
        mask = other.mask
        if mask is None:
            mask = torch.ones(hidden.shape[:2], dtype=torch.int64, device=place)
        length = mask.shape[1]

        def cut(values: torch.Tensor) -> torch.Tensor:
            return values[picked][:, :length]

        found, goal = self.inside, self.inside_teacher
        last, last_teacher = self.pairs[-1]
        if weights.hidden:
            for i, j in self.pairs:
                own = self.project("hidden", cut(found.hidden[i]))
                share = weights.hidden / len(self.pairs)
                total = total + share * loss.hidden(own, goal.hidden[j], mask)
        if weights.cosine:
            own = self.project("hidden", cut(found.hidden[last]))
            total = total + weights.cosine * loss.cosine(own, goal.hidden[last_teacher], mask)
        if weights.attention:
            ours, theirs = layers(network(self.student)), layers(network(self.teacher))
            for i, j in self.pairs:
                q, k, _ = (cut(values) for values in found.qkv[i])
                scores = loss.attention_scores(q, k, ours[i].heads)
                q, k, _ = goal.qkv[j]
                goals = loss.attention_scores(q, k, theirs[j].heads)
                share = weights.attention / len(self.pairs)
                total = total + share * loss.attention(scores, goals, mask)
        if weights.relations:
            for own, theirs_own in zip(found.qkv[last], goal.qkv[last_teacher], strict=True):
                divergence = loss.relations(cut(own), theirs_own, mask, self.heads)
                total = total + weights.relations / 3 * divergence
        return total


def _all(inside: Inside) -> Iterator[torch.Tensor]:
    """Yield all queries, keys and values."""
    for values in inside.qkv.values():
        yield from values


def prepare(
    stack: contextlib.ExitStack,
    teacher: Model,
    student: Model,
    losses: Losses,
    options: Distil,
    everything: Data,
    parts: list[Data],
) -> Lesson:
    """Return the objective; what it needs of both networks is watched until ``stack`` closes."""
    seq_len = options.training.seq_len
    outputs = [
        name
        for name, needed in (("logits", losses.response), ("embeddings", losses.of_embeddings))
        if needed
    ]
    targets = answers(teacher, parts, outputs, options.training) if outputs else {}
    inner = losses.of_tokens or losses.of_embeddings
    ours, theirs = (layers(network(m)) if inner else [] for m in (student, teacher))
    matched: list[tuple[int, int]] = []
    encoded, same, heads = None, [False], 1
    if losses.of_tokens:
        matched = pairs(options, len(ours), len(theirs))
        encoded, same = alike(teacher, student, everything, seq_len)
        i, j = matched[-1]
        widths = (ours[i].qkv[0].out_features, theirs[j].qkv[0].out_features)
        heads = _relation_heads(options, widths, theirs[j].heads) if losses.relations else 1
    if losses.attention:
        for i, j in matched:
            if ours[i].heads != theirs[j].heads:
                raise wrong(
                    options,
                    "losses.attention",
                    f"layer {i} of the student has {ours[i].heads} heads, layer {j} of the teacher "
                    f"{theirs[j].heads}: use relations, which take unlike heads",
                )
    projections: dict[str, torch.nn.Module] = {}
    if inner:
        width, wanted = ours[0].ffn_output.out_features, theirs[0].ffn_output.out_features
        with seeded(options.training.seed):
            for name, needed in (
                ("hidden", losses.hidden or losses.cosine),
                ("embedding", losses.embedding or losses.embedding_cosine),
            ):
                if needed and width != wanted:
                    projections[name] = torch.nn.Linear(width, wanted)
    of_hidden = matched if losses.hidden else matched[-1:] if losses.cosine else []
    of_qkv = matched if losses.attention else matched[-1:] if losses.relations else []
    embedded = {len(ours) - 1} if losses.of_embeddings else set()
    inside = stack.enter_context(
        watch(student, hidden={i for i, _ in of_hidden} | embedded, qkv={i for i, _ in of_qkv})
    )
    inside_teacher = stack.enter_context(
        watch(teacher, hidden={j for _, j in of_hidden}, qkv={j for _, j in of_qkv})
    )
    if losses.of_tokens:
        teacher.module.to(training.device())
        stack.callback(teacher.module.to, "cpu")
    return Lesson(
        teacher=teacher,
        student=student,
        losses=losses,
        options=options,
        targets=targets,
        projections=projections,
        theirs=encoded,
        same=same,
        pairs=matched,
        heads=heads,
        inside=inside,
        inside_teacher=inside_teacher,
    )
