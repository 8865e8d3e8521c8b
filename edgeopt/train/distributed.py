# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Training by several processes, as ``accelerate launch`` starts them: one for each GPU.

The main process compresses as it would alone: cache, checkpoints, metrics, the output folder and
all that is told are its own. The others wait, and stand beside it when a technique trains. There
each has its share of every batch, the gradients are summed, and so all have the same weights.
"""

from __future__ import annotations

import atexit
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from edgeopt import progress
from edgeopt.errors import EdgeoptError
from edgeopt.extras import require
from edgeopt.quiet import quiet

if TYPE_CHECKING:
    import torch

    from edgeopt.train.context import Context

T = TypeVar("T")

_WAIT = timedelta(days=30)
"""The others wait as long as steps and measurements of the main process take.

Launchers end them once it is gone.
"""

_LAST_WORDS_S = 30
"""A launcher ends all processes once one fails: the main one gets this long to say why."""


def rank() -> int:
    """Return which process this is: 0 for the main one, and for the only one."""
    return int(os.environ.get("RANK", 0)) if _launched() > 1 else 0


def _launched() -> int:
    return int(os.environ.get("WORLD_SIZE", 1)) if "RANK" in os.environ else 1


class Peers:
    """The processes of one training, of which this is number ``rank``; alone unless ``join``."""

    def __init__(self, rank: int = 0, count: int = 1) -> None:
        self.rank, self.count = rank, count
        self.apart = False  # the main process is in a technique, and the others are in it too

    def share(self, rows: Sequence[T]) -> list[T]:
        """Return the part of ``rows`` that is this process's."""
        return list(rows[self.rank :: self.count])

    def tell(self, value: T) -> T:
        """Return in each process the ``value`` of the main one, which can be pickled."""
        if self.count == 1:
            return value
        from accelerate.utils import broadcast_object_list

        with _connected():
            found: T = broadcast_object_list([value])[0]
        return found

    def sums(self, *values: float) -> Sequence[float]:
        """Return the sum of each of ``values`` over all processes."""
        if self.count == 1:
            return values
        import torch
        from accelerate import PartialState

        place = PartialState().device
        return _sum(torch.tensor(values, dtype=torch.float64, device=place)).tolist()

    def gradients(self, parameters: Sequence[torch.nn.Parameter], loss: float) -> float:
        """Sum the gradients of ``parameters`` over all processes in place; return the loss's sum.

        A parameter without a gradient in any process keeps none, so that the optimiser leaves it as
        it is.
        """
        if self.count == 1:
            return loss
        import torch

        has = [float(p.grad is not None) for p in parameters]
        parts = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
        told = torch.tensor([loss, *has], device=parts[0].device)
        summed = _sum(torch.cat([told, *(part.flatten().float() for part in parts)]))
        told, *found = summed.split([len(told), *(part.numel() for part in parts)])
        loss, *has = told.tolist()
        for parameter, gradient, some in zip(parameters, found, has, strict=True):
            if some:
                parameter.grad = gradient.view_as(parameter).to(parameter.dtype)
        return loss

    def apply(
        self, work: Callable[..., T], model: Any, step: Any, data: Any, context: Context
    ) -> T:
        """Do ``work`` in the main process, or in all of them if it trains.

        ``work`` is a function of a module, and is called with the other arguments.
        """
        together = self.count > 1 and trains(step)
        self.apart = together
        if together:
            bare = replace(context, work=None, peers=ALONE)
            self.tell(("apply", (work, model, step, data, bare)))
        found = work(model, step, data, context)
        self.apart = False
        return found


ALONE = Peers()


def trains(step: Any) -> bool:
    """Tell whether a recipe's ``step`` is of a technique that trains."""
    return step.training is not None


def run(work: Callable[[Peers], T]) -> T:
    """Return what ``work`` returns in the main process; the others train beside it and get it too.

    Raises MissingDependencyError if there are others and accelerate is not installed, and
    EdgeoptError in the main process if another one ended. The others end with exit code 0 if
    the main one fails before they train: it is the one to say why.
    """
    peers = _join()
    if peers.rank:
        with _silent():
            found: T = _follow(peers)
    else:
        try:
            found = work(peers)
        except EdgeoptError:
            if not peers.apart:  # else they would take this for a part of the training
                peers.tell(("failed", None))
                _part(peers)
            raise
        peers.tell(("done", found))
    if peers.count > 1:
        from accelerate import PartialState

        PartialState().wait_for_everyone()
    _part(peers)
    return found


def _join() -> Peers:
    if _launched() == 1:
        return ALONE
    accelerate = require("accelerate", "distributed")
    import torch

    state = accelerate.PartialState(cpu=not torch.cuda.is_available(), timeout=_WAIT)
    return Peers(state.process_index, state.num_processes)


def _follow(peers: Peers) -> Any:
    """Train beside the main process until it is done, and return what it made."""
    while True:
        none: tuple[str, Any] = ("", None)
        with quiet():  # what comes imports transformers
            what, told = peers.tell(none)
        if what == "done":
            return told
        if what == "failed":
            _part(peers)
            raise SystemExit(0)
        work, model, step, data, context = told
        try:
            work(model, step, data, replace(context, peers=peers))
        except EdgeoptError:
            time.sleep(_LAST_WORDS_S)
            raise


def _part(peers: Peers) -> None:
    """Have the connections closed as the interpreter ends; all peers are done.

    One that is still open there may end the process with SIGABRT.
    """
    if peers.count == 1:
        return
    from torch import distributed

    def close() -> None:
        if distributed.is_initialized():
            distributed.destroy_process_group()

    atexit.register(close)


@contextmanager
def _silent() -> Iterator[None]:
    """Have a process tell nothing, and die when the launcher says so, even in an exchange."""
    before = {}
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGTERM, signal.SIGINT):
            before[number] = signal.signal(number, signal.SIG_DFL)
    try:
        with progress.listen(lambda event: None):
            yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _sum(values: torch.Tensor) -> torch.Tensor:
    from accelerate.utils import reduce

    with _connected():
        found: torch.Tensor = reduce(values, "sum")
    return found


@contextmanager
def _connected() -> Iterator[None]:
    try:
        yield
    except RuntimeError as exc:  # of gloo and NCCL
        raise EdgeoptError(
            f"another process of this training ended ({str(exc).split('. ')[0]})",
            hint="Run the same again: training goes on from its last checkpoint.",
        ) from exc
