# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""What the values of a network's inputs must stay below: ids of tables, and a mask's 0 and 1."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from edgeopt.model import Model, OnnxSource
from edgeopt.model.image import ImageInput

if TYPE_CHECKING:
    import torch

_LENGTH = 16
_MASK = 2
_PASSES = ("Cast", "Identity", "Reshape", "Squeeze", "Unsqueeze")


def limits(model: Model) -> dict[str, int]:
    """Return the least value that is too large for an input, by the input's name.

    An id beyond its embedding table is an error in some engines, zeros in others, and a read past
    the table in others again, so that the runtime looks before it runs. An input whose table is
    not found is left out, and so are images.
    """
    if isinstance(model.input, ImageInput):
        return {}
    specs = model.main.signature.inputs
    known = {spec.name: spec.limit for spec in specs if spec.limit is not None}
    source = model.main.source
    names = [spec.name for spec in model.main.signature.inputs if spec.dtype != "float32"]
    if isinstance(source, OnnxSource):
        found = _of_graph(str(source.path))
    elif known or not model.main.is_torch:  # it was asked when it was imported
        found = dict(known)
    else:
        found = _of_module(model)
    if "attention_mask" in names:
        found["attention_mask"] = _MASK
    return {name: found[name] for name in names if name in found}


def _of_module(model: Model) -> dict[str, int]:
    """Watch which input each embedding of the module is asked for."""
    import torch

    module = model.module
    sizes = model.main.signature.inputs[0].shape(batch=1, seq=min(_LENGTH, model.text.max_seq_len))
    length = sizes[-1]
    # Ids and types of two patterns of 0 and 1, so that they are told apart from each other and
    # from positions, whatever is done to their type and shape on the way.
    ids = torch.tensor([1, 0, 1, 1, 0, 0, 0, 1]).repeat(length)[:length].expand(sizes)
    types = torch.tensor([0, 0, 1, 0, 1, 0, 0, 1]).repeat(length)[:length].expand(sizes)
    given = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "token_type_ids": types}
    found: dict[str, int] = {}

    def look(table: torch.nn.Module, inputs: tuple[Any, ...]) -> None:
        for name in ("input_ids", "token_type_ids"):
            looked = inputs[0] if inputs and torch.is_tensor(inputs[0]) else None
            if looked is None or looked.numel() != ids.numel():
                continue
            if torch.equal(looked.reshape(sizes).long(), given[name]):
                rows = int(vars(table)["num_embeddings"])
                found[name] = min(rows, found.get(name, rows))

    tables = [part for part in module.modules() if hasattr(part, "num_embeddings")]
    hooks = [table.register_forward_pre_hook(look) for table in tables]
    try:
        with torch.inference_mode():
            module(*(given[spec.name] for spec in model.main.signature.inputs))
    except (IndexError, RuntimeError, ValueError):
        pass  # a table of one row, say; what was asked before stands
    finally:
        for hook in hooks:
            hook.remove()
    return found


def _of_graph(path: str) -> dict[str, int]:
    """Follow each input of an .onnx file to the table in which it is looked up."""
    import onnx

    graph = onnx.load(path, load_external_data=False).graph
    tables = {tensor.name: int(tensor.dims[0]) for tensor in graph.initializer if tensor.dims}
    source = {value.name: value.name for value in graph.input}
    found: dict[str, int] = {}
    for node in graph.node:  # in the order of the call
        if node.op_type in ("Cast", "Identity", "DequantizeLinear") and node.input[0] in tables:
            tables[node.output[0]] = tables[node.input[0]]
        elif node.op_type in _PASSES and node.input[0] in source:
            source[node.output[0]] = source[node.input[0]]
        elif node.op_type == "Gather" and node.input[1] in source and node.input[0] in tables:
            name = source[node.input[1]]
            found[name] = min(tables[node.input[0]], found.get(name, tables[node.input[0]]))
    return found
