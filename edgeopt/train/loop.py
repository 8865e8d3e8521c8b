# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""The loop of a training: steps, validation, and what is written down of both."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from edgeopt import cache, progress
from edgeopt.errors import InputError
from edgeopt.evaluate.data import Batch, Encoded
from edgeopt.evaluate.score import CLASSIFIERS
from edgeopt.model import Model, checkpoint
from edgeopt.model.network.shape_config import describe
from edgeopt.steps.training import Training
from edgeopt.train.context import Context
from edgeopt.train.distributed import Peers
from edgeopt.train.resume import (
    Metrics,
    Store,
    copied,
    digest,
    finite,
    random_state,
    set_random_state,
)

if TYPE_CHECKING:
    import torch

Objective = Callable[[Batch], "torch.Tensor"]
"""The loss (a scalar) of one batch, whose tensors are on the training's device."""

AfterStep = Callable[[int, int], None]
"""Called with how many steps are done, and how many there are in all."""


_LINES = 50  # of metrics, beside one for each epoch
_WINDOW = 50  # batches that are sorted by length together, as transformers' LengthGroupedSampler


@dataclass(frozen=True, kw_only=True, slots=True)
class Fitted:
    """What a training came to.

    ``loss`` and ``accuracy`` are those of the weights that stay, on the validation share (None if
    there is none, or no labels). ``best_step``, of the ``steps`` that were done, reached them.
    """

    steps: int
    best_step: int
    loss: float | None
    accuracy: float | None
    stopped_early: bool
    precision: str
    device: str

    def __str__(self) -> str:
        """One line for people."""
        early = ", then stopped as it got no better" if self.stopped_early else ""
        best = f", best after {self.best_step}" if self.loss is not None else ""
        return f"{self.steps} steps in {self.precision} on the {self.device}{best}{early}"


def _groups(modules: Mapping[str, Any], options: Training) -> list[dict[str, Any]]:
    """Return the optimiser's groups: weights that decay, and biases and norms, which do not."""
    import torch

    frozen = {
        id(p)
        for module in modules.values()
        for part in module.modules()
        if options.freeze_embeddings and isinstance(part, torch.nn.Embedding)
        for p in part.parameters()
    }
    found = [p for module in modules.values() for p in module.parameters() if id(p) not in frozen]
    learnt = [p for p in found if p.is_floating_point()]
    return [
        {"params": [p for p in learnt if p.ndim > 1]},
        {"params": [p for p in learnt if p.ndim <= 1], "weight_decay": 0.0},
    ]


@dataclass(kw_only=True, slots=True)
class _State:
    """How far training is: what a checkpoint holds beside weights and random states."""

    step: int = 0
    epoch: int = 0
    batch: int = 0  # of the epoch
    loss_sum: float = 0.0  # since the last validation
    losses: int = 0
    best_step: int = -1
    best_loss: float | None = None
    best_accuracy: float | None = None
    epochs_without: int = 0
    stopped_early: bool = False
    ended: bool = False
    elapsed_s: float = 0.0


@dataclass(kw_only=True, slots=True)
class Loop:
    """One training. ``modules`` are on ``device``; ``prepare`` comes first, then ``run``."""

    model: Model
    modules: dict[str, Any]
    encoded: Encoded
    options: Training
    objective: Objective
    context: Context
    text: str
    rows: tuple[list[int], list[int]]
    hooks: tuple[AfterStep | None, AfterStep | None]
    best_from: float
    device: torch.device
    precision: str
    state: _State = field(default_factory=_State)
    best: dict[str, Any] | None = None
    optimiser: Any = None
    rates: list[float] = field(default_factory=list)
    store: Store = field(default_factory=lambda: Store(None))
    metrics: Metrics = field(default_factory=lambda: Metrics(None, ""))
    began: float = field(default_factory=time.monotonic)
    saved: float = field(default_factory=time.monotonic)

    @property
    def peers(self) -> Peers:
        """The processes that train together."""
        return self.context.peers

    @property
    def total(self) -> int:
        """How many steps there are."""
        epochs = self.options.epochs * math.ceil(len(self.rows[0]) / self.options.batch_size)
        return min(epochs, self.options.steps or epochs)

    def prepare(self, groups: Sequence[dict[str, Any]] | None, key: str) -> None:
        """Make the optimiser, and take up the last checkpoint if there is one."""
        import torch

        options = self.options
        for module in self.modules.values():
            module.requires_grad_(False)
        made = [dict(g) for g in groups] if groups is not None else _groups(self.modules, options)
        for group in made:
            group["params"] = list(group["params"])
            for parameter in group["params"]:
                parameter.requires_grad_(True)
        self.optimiser = torch.optim.AdamW(
            [group for group in made if group["params"]],
            lr=options.learning_rate,
            weight_decay=options.weight_decay,
            fused=True,
        )
        self.rates = [group["lr"] for group in self.optimiser.param_groups]
        if self.peers.count > 1:
            own = {part: copied(values) for part, values in self._weights().items()}
            self._load(self.peers.tell(own))
        work = self.context.work
        if work is not None:
            # How often it is written down changes nothing, so that it may be changed.
            told = {k: v for k, v in asdict(options).items() if k != "checkpoint_s"}
            whole = cache.key(
                options=told, text=self.text, key=key, weights=digest(self._weights())
            )
            self.store = Store(work / whole[:16])
        self.metrics = Metrics(work, self.text)
        self.take_up()

    def take_up(self) -> None:
        """Go on from the last checkpoint, if there is one."""
        found, best = self.peers.tell(
            (self.store.read("checkpoint.pt"), self.store.read("best.pt"))
        )
        if found is None or (best is None and found["state"]["best_step"] >= 0):
            self.metrics.take_up([])
            return
        self.state = _State(**found["state"])
        self.best = best
        self._load(found["weights"])
        self.optimiser.load_state_dict(found["optimiser"])
        set_random_state(found["random"])
        self.metrics.take_up(found["metrics"])
        self.began = time.monotonic() - self.state.elapsed_s
        progress.note(f"{self.text}: going on after step {self.state.step} of {self.total}")

    def run(self, told: progress.Step) -> None:
        """Train to the end, and leave the best weights."""
        state, options = self.state, self.options
        per_epoch = math.ceil(len(self.rows[0]) / options.batch_size)
        if state.best_step < 0 and state.step == 0:
            if self.best_from == 0:
                self.validate()  # training never ends with weights worse than those it began with
            self.save()
        while not state.ended:
            order = self.order(state.epoch)
            while state.batch < per_epoch and state.step < self.total:
                self.step(order[state.batch])
                self.tell(told)
                if time.monotonic() - self.saved >= options.checkpoint_s:
                    self.save()
            state.epoch, state.batch = state.epoch + 1, 0
            self.validate()
            state.stopped_early = (
                options.patience is not None and state.epochs_without >= options.patience
            )
            state.ended = state.stopped_early or state.step >= self.total
            self.save()
        if self.best is not None:
            self._load(self.best["weights"])
        told.text = self.text

    def order(self, epoch: int) -> list[list[int]]:
        """Return the batches of ``epoch``: texts of like lengths, in another order each time."""
        draw = np.random.default_rng([self.options.seed, 2, epoch])
        rows = draw.permutation(self.rows[0]).tolist()
        size = self.options.batch_size
        found = []
        for start in range(0, len(rows), size * _WINDOW):
            window = sorted(
                rows[start : start + size * _WINDOW], key=lambda row: self.encoded.lengths[row]
            )
            found += [window[i : i + size] for i in range(0, len(window), size)]
        return [found[i] for i in draw.permutation(len(found))]

    def step(self, rows: list[int]) -> None:
        """Learn from one batch."""
        import torch

        state, options = self.state, self.options
        before, after = self.hooks
        self.train()
        if before is not None:
            before(state.step, self.total)
        rate = self.rate(state.step)
        for group, lr in zip(self.optimiser.param_groups, self.rates, strict=True):
            group["lr"] = lr * rate
        self.optimiser.zero_grad()
        own, value = self.peers.share(rows), 0.0
        if own:
            loss = self.loss(self.encoded.batch(own).to(self.device)) * (len(own) / len(rows))
            value = float(loss.detach())
            loss.backward()
        learnt = [p for group in self.optimiser.param_groups for p in group["params"]]
        value = self.peers.gradients(learnt, value)
        if not math.isfinite(value):
            raise self.diverged("the loss", value)
        norm = float(torch.nn.utils.clip_grad_norm_(learnt, options.max_grad_norm))
        if not math.isfinite(norm):
            raise self.diverged("the gradient", norm)
        self.optimiser.step()
        state.step, state.batch = state.step + 1, state.batch + 1
        state.loss_sum, state.losses = state.loss_sum + value, state.losses + 1
        if after is not None:
            after(state.step, self.total)
        if state.step % max(1, self.total // _LINES) == 0:
            learning_rate = options.learning_rate * rate
            self.metrics.add(
                step=state.step, loss=value, gradient_norm=norm, learning_rate=learning_rate
            )

    def train(self) -> None:
        """Have the modules learn: with dropout, or with only what norms gather from a batch."""
        from torch.nn.modules.batchnorm import _BatchNorm

        for module in self.modules.values():
            for part in module.modules():
                part.training = self.options.dropout or isinstance(part, _BatchNorm)

    def rate(self, step: int) -> float:
        """Return the share of the learning rate that counts in ``step`` (from 0)."""
        options, total = self.options, self.total
        warm = math.ceil(options.warmup * total)
        if step < warm:
            return (step + 1) / warm
        left = 1 - (step - warm) / max(1, total - warm)
        if options.schedule == "cosine":
            return 0.5 * (1 + math.cos(math.pi * (1 - left)))
        return left if options.schedule == "linear" else 1.0

    def loss(self, batch: Batch) -> torch.Tensor:
        """Return the objective of ``batch``, in the precision of the training."""
        import torch

        mixed = self.precision == "bf16"
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=mixed):
            return self.objective(batch).float()

    def validate(self) -> None:
        """Measure the weights on the validation share, and keep them if they are the best."""
        import torch

        state, rows = self.state, self.rows[1]
        if not rows:
            return
        for module in self.modules.values():
            module.eval()
        logits: list[Any] = [None]
        hook = self.modules["model"].register_forward_hook(
            lambda _module, _inputs, output: logits.__setitem__(0, output[0])
        )
        total, right, labelled = 0.0, 0.0, 0.0
        size = self.options.batch_size
        order = sorted(rows, key=lambda row: self.encoded.lengths[row])
        try:
            with torch.no_grad():
                for start in self.peers.share(range(0, len(order), size)):
                    batch = self.encoded.batch(order[start : start + size]).to(self.device)
                    total += float(self.loss(batch)) * len(batch.rows)
                    if batch.labels is not None and self.model.task in CLASSIFIERS:
                        right += int((logits[0].argmax(-1) == batch.labels).sum())
                        labelled += len(batch.rows)
        finally:
            hook.remove()
        total, right, labelled = self.peers.sums(total, right, labelled)
        loss = total / len(rows)
        if not math.isfinite(loss):
            raise self.diverged("the loss on validation texts", loss)
        accuracy = right / labelled if labelled else None
        told = {"accuracy": accuracy} if labelled else {}
        if state.losses:
            told |= {"loss": state.loss_sum / state.losses}
        self.metrics.add(step=state.step, epoch=state.epoch, validation_loss=loss, **told)
        if state.step:
            progress.note(self.line(loss, accuracy))
        state.loss_sum, state.losses = 0.0, 0
        if state.step < self.best_from * self.total:
            return
        known = state.best_loss is not None
        if known and (-(accuracy or 0), loss) >= (-(state.best_accuracy or 0), state.best_loss):
            state.epochs_without += 1
            return
        state.epochs_without = 0
        state.best_step, state.best_loss, state.best_accuracy = state.step, loss, accuracy
        self.best = {"weights": {part: copied(values) for part, values in self._weights().items()}}
        self.store.write("best.pt", self.best)

    def line(self, loss: float, accuracy: float | None) -> str:
        """Return what is told after an epoch."""
        state = self.state
        right = f", accuracy {accuracy:.4f}" if accuracy is not None else ""
        return (
            f"{self.text}: epoch {state.epoch} of {self.options.epochs}, loss "
            f"{state.loss_sum / max(1, state.losses):.4f}, on validation texts {loss:.4f}{right}"
        )

    def tell(self, told: progress.Step) -> None:
        """Tell progress how far it is, the loss, and what is left."""
        state = self.state
        done = state.step / self.total
        left_s = (time.monotonic() - self.began) * (1 - done) / done
        left = f"{left_s / 60:.0f} min" if left_s >= 90 else f"{left_s:.0f} s"
        told.text = f"{self.text}: loss {state.loss_sum / state.losses:.4f}, {left} left"
        told.update(state.step, self.total)

    def save(self) -> None:
        """Write a checkpoint, if one is kept."""
        self.saved = time.monotonic()
        if self.store.folder is None:
            return
        self.state.elapsed_s = time.monotonic() - self.began
        weights = self._weights()
        if not all(finite(values) for values in weights.values()):
            raise self.diverged("a weight", math.nan)
        self.store.write(
            "checkpoint.pt",
            {
                "state": asdict(self.state),
                "weights": weights,
                "optimiser": self.optimiser.state_dict(),
                "random": random_state(),
                "metrics": self.metrics.lines,
            },
        )

    def diverged(self, what: str, value: float) -> InputError:
        """Put the last good weights back and return the error for what is not finite."""
        state = self.state
        rate = self.options.learning_rate * self.rate(min(state.step, self.total - 1))
        # No weight was learnt from this value, but those of the last validation are known good.
        found = self.best or self.store.read("checkpoint.pt")
        kept = ""
        if found is not None:
            self._load(found["weights"])
            kept = self.keep()
        return InputError(
            f"{what} became {value} in step {state.step + 1} of {self.total}, at a "
            f"learning rate of {rate:.3g}{kept}",
            where=self.text,
            hint='Try a lower learning_rate, a longer warmup, or precision = "fp32".',
        )

    def keep(self) -> str:
        """Write the weights as a checkpoint that can be imported, and tell where."""
        if self.store.folder is None or not hasattr(self.model.module, "network"):
            return ""
        folder = self.store.folder / "last-good"
        describe(checkpoint.network(self.model))
        source = self.context.source or self.model.source or folder
        checkpoint.save(self.model, folder, source)
        return f"; the last good checkpoint is kept at {folder}"

    def fitted(self) -> Fitted:
        """Return what the training came to."""
        state = self.state
        return Fitted(
            steps=state.step,
            best_step=state.best_step if self.best is not None else state.step,
            loss=state.best_loss,
            accuracy=state.best_accuracy,
            stopped_early=state.stopped_early,
            precision=self.precision,
            device=self.device.type,
        )

    def _weights(self) -> dict[str, dict[str, Any]]:
        return {name: module.state_dict() for name, module in self.modules.items()}

    def _load(self, weights: Mapping[str, Mapping[str, Any]]) -> None:
        for name, module in self.modules.items():
            module.load_state_dict(weights[name])
