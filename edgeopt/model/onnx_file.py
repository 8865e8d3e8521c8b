"""Import an ``.onnx`` file of a transformer, with the tokenizer that stands beside it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from edgeopt import cache
from edgeopt.errors import InputError
from edgeopt.extras import require
from edgeopt.model import TEXT_TASKS, Model, name_of, tokenizer
from edgeopt.model.signature import Signature, TensorSpec
from edgeopt.model.tasks import INPUTS, OUTPUTS, PIXELS, activation

_AXES = ("batch", "seq")
_DEFAULT_MAX_SEQ_LEN = 512


def import_onnx(
    path: str | Path, *, tokenizer_folder: str | Path | None = None, task: str | None = None
) -> Model:
    """Return the Model of an FP32 ONNX file; the file itself is what is shipped.

    Inputs must be named input_ids, attention_mask and token_type_ids, int64, (batch, seq);
    outputs as the task has them (``Model``). ``task`` is found by their names where None. The
    tokenizer and config.json (for labels) are looked for beside the file. Raises InputError where
    the file is damaged, or is not such a graph.
    """
    onnx = require("onnx", "onnx")
    path = Path(path)
    graph = _read(onnx, path).graph
    where = str(path)
    names = [value.name for value in graph.input]
    unknown = [name for name in names if name not in INPUTS]
    if unknown or "input_ids" not in names:
        raise InputError(
            f"inputs are {', '.join(names) or 'none'}; expected input_ids, attention_mask and "
            "maybe token_type_ids",
            where=where,
            hint="A model of images is imported from its checkpoint, not from an .onnx file."
            if names == [PIXELS]
            else "Export it again with these input names.",
        )
    inputs = tuple(_tensor(onnx, v, _AXES, where) for v in graph.input)
    for spec in inputs:
        if spec.dtype != "int64" or len(spec.dims) != 2:
            raise InputError(
                f"input {spec.name} is {spec.dtype} with {len(spec.dims)} dimensions; expected "
                "int64 (batch, seq)",
                where=where,
            )
    found = _task([v.name for v in graph.output], graph, task, where)
    outputs = _outputs(onnx, graph, found, where)
    folder = Path(tokenizer_folder) if tokenizer_folder else path.parent
    tokens = tokenizer.collect(folder)
    rows = _rows(graph)
    if tokens is not None and rows:
        tokenizer.check_ids(tokens, rows, where)
    labels = _labels(path.parent, found, outputs)
    length = inputs[0].dims[1]
    weights = cache.file_sha256(path)
    return Model(
        name=name_of(path),
        task=found,
        signature=Signature(inputs=inputs, outputs=outputs),
        module=None,
        onnx=path,
        source=path,
        tokenizer=tokens,
        pad_id=tokenizer.padding(tokens, rows or 1 << 31),
        labels=labels,
        activation=activation(found, len(labels), _config(path.parent).get("problem_type")),
        pooling=None,
        max_seq_len=length if isinstance(length, int) else _max_seq_len(path.parent),
        origin={"kind": "onnx", "source": path.name, "weights_sha256": {path.name: weights}},
        digest=cache.key(
            weights=weights, task=found, tokenizer=tokenizer.hashes(tokens) if tokens else {}
        ),
    )


def _rows(graph: Any) -> int:
    """Return how many rows the table has in which input_ids are looked up; 0 where none is seen."""
    shapes = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    ids = {"input_ids"}
    for node in graph.node:  # in the order of the call
        if node.op_type in ("Cast", "Identity", "Reshape", "Squeeze", "Unsqueeze"):
            ids |= set(node.output) if node.input[0] in ids else set()
        elif node.op_type == "Gather" and node.input[1] in ids and node.input[0] in shapes:
            return shapes[node.input[0]][0]
    return 0


def _read(onnx: Any, path: Path) -> Any:
    from google.protobuf.message import DecodeError

    try:
        model = onnx.load(str(path), load_external_data=False)
        if any(tensor.external_data for tensor in model.graph.initializer):
            raise InputError(
                "keeps its weights in other files",
                where=str(path),
                hint="Save it as one file: onnx.save(onnx.load(PATH), NEW_PATH).",
            )
        onnx.checker.check_model(model)
    except FileNotFoundError as exc:
        raise InputError("no such file", where=str(path)) from exc
    except OSError as exc:
        raise InputError(f"cannot be read ({exc.strerror})", where=str(path)) from exc
    except (DecodeError, onnx.checker.ValidationError, ValueError) as exc:
        text = (str(exc).strip().splitlines() or [type(exc).__name__])[0]
        raise InputError(
            f"is damaged, cut short, or not an ONNX file ({text})",
            where=str(path),
            hint="Export or copy it again.",
        ) from exc
    if any(node.domain not in ("", "ai.onnx", "com.microsoft") for node in model.graph.node):
        domains = sorted({n.domain for n in model.graph.node} - {"", "ai.onnx", "com.microsoft"})
        raise InputError(f"uses operators of {', '.join(domains)}", where=str(path))
    return model


def _tensor(onnx: Any, value: Any, symbols: tuple[str, ...], where: str) -> TensorSpec:
    """Return the spec of a graph input or output; dimension i without a size is symbols[i]."""
    kind = value.type.tensor_type
    try:
        dtype = onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type).name
    except KeyError as exc:
        raise InputError(f"{value.name} has no tensor type", where=where) from exc
    dims: list[int | str] = []
    for i, dim in enumerate(kind.shape.dim):
        size = dim.dim_value if dim.HasField("dim_value") else 0
        dims.append(size or (symbols[i] if i < len(symbols) else dim.dim_param or f"dim_{i}"))
    return TensorSpec(name=value.name, dtype=dtype, dims=tuple(dims))


def _task(names: list[str], graph: Any, task: str | None, where: str) -> str:
    """Return the task whose outputs the graph has; logits go by their number of dimensions."""
    if task is not None and task not in TEXT_TASKS:
        raise InputError(
            f"unknown task {task!r}, expected one of {', '.join(TEXT_TASKS)}", where=where
        )
    ranks = {v.name: len(v.type.tensor_type.shape.dim) for v in graph.output}
    for candidate in [task] if task else TEXT_TASKS:
        wanted = OUTPUTS[candidate]
        logits_rank = {"sequence-classification": 2, "token-classification": 3}.get(candidate)
        if all(n in names for n in wanted) and logits_rank in (None, ranks[wanted[0]]):
            return candidate
    expected = "; ".join(f"{t}: {', '.join(OUTPUTS[t])}" for t in ([task] if task else TEXT_TASKS))
    raise InputError(
        f"outputs are {', '.join(names)}; expected {expected}",
        where=where,
        hint="Export it again with these output names.",
    )


def _outputs(onnx: Any, graph: Any, task: str, where: str) -> tuple[TensorSpec, ...]:
    symbols = ("batch",) if task == "sequence-classification" else _AXES
    by_name = {v.name: v for v in graph.output}
    outputs = tuple(_tensor(onnx, by_name[n], symbols, where) for n in OUTPUTS[task])
    for spec in outputs:
        if spec.dtype != "float32":
            raise InputError(
                f"output {spec.name} is {spec.dtype}; expected float32",
                where=where,
                hint="Export it in FP32; edgeopt makes the smaller formats.",
            )
    return outputs


def _labels(folder: Path, task: str, outputs: tuple[TensorSpec, ...]) -> tuple[str, ...]:
    if not task.endswith("classification"):
        return ()
    named = _config(folder).get("id2label")
    if isinstance(named, dict):
        return tuple(str(named[key]) for key in sorted(named, key=int))
    width = outputs[0].dims[-1]
    return tuple(f"LABEL_{i}" for i in range(width)) if isinstance(width, int) else ()


def _max_seq_len(folder: Path) -> int:
    value = _config(folder).get("max_position_embeddings")
    return value if isinstance(value, int) else _DEFAULT_MAX_SEQ_LEN


def _config(folder: Path) -> dict[str, Any]:
    path = folder / "config.json"
    if not path.is_file():
        return {}
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as exc:
        raise InputError(f"is not JSON ({exc})", where=str(path)) from exc
    return config if isinstance(config, dict) else {}
