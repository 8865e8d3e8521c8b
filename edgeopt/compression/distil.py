# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Teach a network what another answers: the original, or the network as it was.

Any losses of ``edgeopt.train.losses``, each with a weight, on the user's texts and on changed
copies of them. With the labels' loss alone it is plain fine-tuning, without a teacher.
"""

from __future__ import annotations

import contextlib
from dataclasses import asdict, fields

from edgeopt import cache
from edgeopt.compression import student as students
from edgeopt.compression.technique import Change
from edgeopt.errors import InputError
from edgeopt.evaluate.data import Data
from edgeopt.model import Model
from edgeopt.model.checkpoint import network
from edgeopt.model.image import ImageInput
from edgeopt.model.network.first_token import narrowing
from edgeopt.model.network.shape_config import describe
from edgeopt.model.network.widths import family, supported
from edgeopt.model.tasks import FEATURE_EXTRACTION
from edgeopt.steps import wrong
from edgeopt.steps.distil import Distil, Losses
from edgeopt.train import training
from edgeopt.train.augment import copies
from edgeopt.train.context import ALONE, Context
from edgeopt.train.teacher import key as teacher_key

NO_LABEL = -100  # what torch's cross_entropy passes over


def check(model: Model, options: Distil) -> None:
    """Raise InputError if ``options`` cannot be done to ``model``."""
    losses = _losses(model, options)
    if isinstance(model.input, ImageInput):
        _check_images(model, options, losses)
    elif model.text.tokenizer is None:
        raise InputError("has no tokenizer, so nothing can be learnt of texts", where=model.name)
    if model.task == FEATURE_EXTRACTION:
        for name in ("response", "labels"):
            if getattr(losses, name):
                raise wrong(
                    options,
                    f"losses.{name}",
                    "is for classifiers; for embeddings there are embedding_cosine and embedding",
                )
    students.check(model, options)


def _check_images(model: Model, options: Distil, losses: Losses) -> None:
    """Raise InputError for what is of texts, or of layers that do not follow each other."""
    if options.augment:
        raise wrong(options, "augment", "changes copies of texts, and this network takes images")
    net = network(model)
    if not (losses.of_tokens or losses.of_embeddings):
        return
    if not supported(net) or family(net).staged:
        named = next(
            f.name
            for f in fields(losses)
            if f.name not in ("response", "labels") and getattr(losses, f.name)
        )
        raise wrong(
            options,
            f"losses.{named}",
            f"compares hidden states of one width, and {type(net).__name__} is not known to have "
            "such in all layers; response and labels work",
        )


def apply(model: Model, options: Distil, data: Data, context: Context = ALONE) -> Change:
    """Return a student that has learnt of the teacher, and a line on it; ``model`` stays as it is.

    The teacher is ``context.teacher``, or ``model`` itself. Raises InputError as ``check`` and
    ``training.fit`` do, and if teacher, student and losses do not fit one another.
    """
    from edgeopt.train.distillation_loss import prepare

    check(model, options)
    losses = _losses(model, options)
    if losses.labels and data.labels is None:
        raise wrong(options, "losses.labels", f"the {data.noun} have no labels")
    teacher = context.teacher or model
    if losses.response and teacher.labels != model.labels:
        raise wrong(options, "losses.response", "teacher and student do not have the same labels")
    student, made = students.make(model, options)
    everything, parts, rows = _texts(data, options)
    with contextlib.ExitStack() as stack:
        lesson = prepare(stack, teacher, student, losses, options, everything, parts)
        if not (losses.of_tokens or losses.of_embeddings):
            stack.enter_context(narrowing(student))
        fitted = training.fit(
            student,
            everything,
            options.training,
            lesson,
            context=context,
            text="Distilling" if losses.of_teacher else "Fine-tuning",
            extra=lesson.projections,
            rows=rows,
            key=cache.key(
                options={k: v for k, v in asdict(options).items() if k != "max_drop"},
                teacher=teacher_key(teacher),
            ),
        )
    describe(student.module.network)
    told = [made, f"losses {losses}", str(fitted)]
    return Change(student, "; ".join(part for part in told if part))


def _losses(model: Model, options: Distil) -> Losses:
    if options.losses is not None:
        return options.losses
    embeddings = model.task == FEATURE_EXTRACTION
    return Losses(embedding_cosine=1.0) if embeddings else Losses(response=1.0)


def _texts(data: Data, options: Distil) -> tuple[Data, list[Data], tuple[list[int], list[int]]]:
    """Return the texts with their copies behind them, both in parts, and which rows are for what.

    A copy has no label, and those of a text to validate on are not learnt from.
    """
    learning, validation = training.split(len(data), options.training)
    changed = copies(data, options.augment, options.augmentations, options.training.seed)
    parts = [data, *changed]
    labels = data.labels
    if labels is not None:
        labels += (NO_LABEL,) * (len(data) * len(changed))
    whole = Data(
        inputs=tuple(text for part in parts for text in part.inputs),  # type: ignore[arg-type]
        labels=labels,
    )
    rows = [len(data) * i + row for i in range(len(parts)) for row in learning]
    return whole, parts, (rows, validation)
