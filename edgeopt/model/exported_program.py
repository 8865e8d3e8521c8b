# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Import a ``.pt2`` file, an ExportedProgram of torch.export."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgeopt import cache
from edgeopt.errors import InputError
from edgeopt.extras import require
from edgeopt.model import Model, TorchSource
from edgeopt.model.network_call import Port
from edgeopt.model.network_file import Opened, import_network
from edgeopt.model.onnx_call import POSITIONS, Feed
from edgeopt.model.onnx_outputs import Chosen
from edgeopt.quiet import quiet

if TYPE_CHECKING:
    import torch

_TENSORS_ALONE = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"
"""The variable by which torch.load reads no other pickles, whatever its caller says."""


def import_program(path: Path, prompt: str | None = None) -> Model:
    """Return the Model of a ``.pt2`` file. Dimensions are free or fixed as it was exported.

    Raises InputError if the file is damaged, holds pickles of more than tensors, or is no such
    network of texts or images.
    """
    torch: Any = require("torch", "torch")
    network = ProgramNetwork(_load(path))

    def source(feeds: tuple[Feed, ...], chosen: Chosen) -> TorchSource:
        return TorchSource(module=_module(network, feeds, chosen), exported=True)

    opened = Opened(
        path=path,
        home=path,
        kind="exported-program",
        network=network,
        files={path.name: cache.file_sha256(path)},
        source=source,
        tools={"torch": torch.__version__},
    )
    return import_network(opened, prompt)


def _load(path: Path) -> Any:
    import torch

    try:
        with quiet(), _tensors_alone():
            program = torch.export.load(str(path))
    # torch raises zipfile's and json's errors, its own, and those of pickle.
    except Exception as exc:
        text = str(exc)
        code = "weights_only" in text or "Unsupported" in text or "UnpicklingError" in repr(exc)
        lines = [line for line in text.splitlines() if line.strip()] or [type(exc).__name__]
        raise InputError(
            "holds a pickle that is more than tensors, which could run code"
            if code
            else f"torch.export cannot load it ({lines[0][:240]})",
            where=str(path),
            hint="Save it again with torch.export.save(), of this torch or an older one.",
        ) from exc
    return program


@contextlib.contextmanager
def _tensors_alone() -> Iterator[None]:
    before = os.environ.get(_TENSORS_ALONE)
    os.environ[_TENSORS_ALONE] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[_TENSORS_ALONE]
        else:
            os.environ[_TENSORS_ALONE] = before


class ProgramNetwork:
    """A program as it is called: by the names of its inputs, in the form that it was exported."""

    def __init__(self, program: Any) -> None:
        import torch

        self.program = program
        self.tool = f"torch {torch.__version__}"
        names = [str(name) for name in program.graph_signature.user_inputs]
        nodes = {node.name: node for node in program.graph.nodes if node.op == "placeholder"}
        self.inputs = tuple(
            Port(
                name=name,
                dtype=str(nodes[name].meta["val"].dtype).removeprefix("torch."),
                dims=tuple(
                    int(n) if isinstance(n, int) else None for n in nodes[name].meta["val"].shape
                ),
            )
            for name in names
        )
        lengths = {port.dims[1] for port in self.inputs if len(port.dims) == 2}
        self.seq_lens = tuple(sorted(n for n in lengths if n is not None))
        self.outputs = _output_names(program)
        # With guards, it raises an error for sizes that it was not exported for.
        self._checked = program.module()

    def operator(self, output: str) -> str:
        """Return the operator that makes an output."""
        made = next(node for node in self.program.graph.nodes if node.op == "output").args[0]
        node = made[self.outputs.index(output)] if output in self.outputs else None
        target = str(getattr(node, "target", ""))
        return next((name for name in ("softmax", "sigmoid") if f"{name}." in target), "")

    def run(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Return all outputs; raises torch's own errors."""
        import torch

        tensors = [torch.from_numpy(np.ascontiguousarray(feeds[p.name])) for p in self.inputs]
        with torch.no_grad():
            found = self.call(self._checked, tensors)
        return {name: value.float().numpy() for name, value in found.items()}

    def call(self, module: Any, tensors: Sequence[torch.Tensor]) -> dict[str, torch.Tensor]:
        """Return what ``module``, made of the program, gives for its inputs in their order."""
        from torch.utils import _pytree

        args, kwargs = _pytree.tree_unflatten(list(tensors), self.program.call_spec.in_spec)
        found = _pytree.tree_leaves(module(*args, **kwargs))
        return dict(zip(self.outputs, found, strict=True))


def _output_names(program: Any) -> tuple[str, ...]:
    """Return the keys of what the program returns; of a tuple ``output_0``, ..."""
    from torch.utils import _pytree

    spec = program.call_spec.out_spec
    paths, _ = _pytree.tree_flatten_with_path(
        _pytree.tree_unflatten(list(range(spec.num_leaves)), spec)
    )
    return tuple(
        str(getattr(path[-1], "key", getattr(path[-1], "name", f"output_{i}")))
        if path
        else "logits"
        for i, (path, _) in enumerate(paths)
    )


def _module(network: ProgramNetwork, feeds: tuple[Feed, ...], chosen: Chosen) -> torch.nn.Module:
    """Return the module that takes our inputs by position and returns a tuple."""
    import torch

    inner = network.program.module(check_guards=False)
    for parameter in inner.parameters():
        parameter.requires_grad_(False)
    ours = [f.ours for f in feeds if f.ours != POSITIONS]
    order = {f.name: f for f in feeds}
    dtypes = {p.name: getattr(torch, p.dtype) for p in network.inputs}

    class Program(torch.nn.Module):
        """The program by our names."""

        def __init__(self) -> None:
            super().__init__()
            self.program = inner

        def train(self, mode: bool = True) -> Program:
            """Stay as exported; torch lets no exported module change."""
            return self

        def forward(self, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
            given = dict(zip(ours, tensors, strict=True))
            if any(f.ours == POSITIONS for f in feeds):
                ids = given["input_ids"]
                given[POSITIONS] = (torch.ones_like(ids).cumsum(1) - 1).to(torch.int64)
            values = [given[order[p.name].ours].to(dtypes[p.name]) for p in network.inputs]
            found = network.call(self.program, values)
            results = [found[name].float() for name in chosen.given]
            return tuple(r[:, None] for r in results) if chosen.column else tuple(results)

    return Program()
