# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Damage checkpoints, .onnx files and tokenizers at random, compile each, and count the outcomes.

A try is good if `edgeopt compile` refuses the input with an error of its own, or makes a bundle
whose answers are those of the user's tool on the same damaged folder; and if nothing else is left
behind. Each runs in a process of its own with a limit of time and memory. Usage:
python -m tools.mutants [--count N] [--first SEED] [--keep FOLDER]
"""

from __future__ import annotations

import argparse
import io
import json
import multiprocessing
import os
import random
import resource
import shutil
import struct
import sys
import tempfile
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np

from tests import checkpoints
from tests.layouts import build

SECONDS = 180
"""A try that takes longer hangs."""

MEMORY = 8 << 30
GOOD = ("refused", "right", "its own tool fails, ours answers")
_ONNX = "onnx"
_LAYOUTS = (
    "distilbert/distilbert-base-uncased-finetuned-sst-2-english",
    "SamLowe/roberta-base-go_emotions",
    "sentence-transformers/all-MiniLM-L6-v2",
    "sentence-transformers/paraphrase-multilingual-MiniLM-L12-v2",
    "google/vit-base-patch16-224",
)
SUBJECTS = (*_LAYOUTS, _ONNX)

_VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 3, 2**31, 2**63, 10**30, 0.5, -0.0, 1e308, float("nan")),
    *("", "x", "0", "é" * 50, "../x", "a" * 100_000, [], {}, [0], ["x"], [[]], {"x": 0}),
)


def write(subject: str, folder: Path) -> Path:
    """Write a checkpoint into ``folder`` as it is before it is damaged; return what is compiled."""
    if subject != _ONNX:
        (layout,) = (one for one in build.layouts() if one.name == subject)
        return build.write(layout, folder)
    from edgeopt.backends.onnx import export_fp32
    from edgeopt.model.importer import import_model

    checkpoints.write(folder)
    path = folder / "model.onnx"
    export_fp32(import_model(folder), path, opset=17, ir_version=8, batch=None, seq_len=None)
    (folder / "model.safetensors").unlink()
    return path


def damage(folder: Path, seed: int) -> str:
    """Damage one file of ``folder``; return which and how, in a line."""
    draw = random.Random(seed)
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    path = draw.choice(files)
    ways: list[Callable[[Path, random.Random], str]] = [_bytes]
    if path.suffix == ".json":
        ways = [_document, _document, _document, _bytes]
    elif path.suffix == ".safetensors":
        ways = [_header, _header, _weights, _bytes]
    elif path.suffix == ".onnx":
        ways = [_graph, _graph, _graph, _bytes]
    return f"{path.relative_to(folder)}: {draw.choice(ways)(path, draw)}"


def _bytes(path: Path, draw: random.Random) -> str:
    data = bytearray(path.read_bytes())
    kind = draw.choice(("cut", "flipped", "inserted", "zeroed", "emptied", "doubled", "replaced"))
    at, count = draw.randrange(len(data)), draw.choice((1, 4, 64, 1024))
    if kind == "cut":
        del data[at:]
    elif kind == "flipped":
        for _ in range(count):
            data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
    elif kind == "inserted":
        data[at:at] = draw.randbytes(count)
    elif kind == "zeroed":
        data[at : at + count] = bytes(len(data[at : at + count]))
    elif kind == "emptied":
        data.clear()
    elif kind == "doubled":
        data += bytes(data)
    else:
        data = bytearray(draw.randbytes(len(data)))
    path.write_bytes(data)
    return f"bytes {kind}"


def _document(path: Path, draw: random.Random) -> str:
    document = json.loads(path.read_text())
    said = _change(document, draw)
    path.write_text(json.dumps(document))
    return said


def _places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, Any, tuple[Any, ...]]]:
    """Yield (container, key, path) of everything within ``value``, of a long list a few."""
    items: list[tuple[Any, Any]] = []
    if isinstance(value, dict):
        items = list(value.items())
    elif isinstance(value, list):
        items = list(enumerate(value))
    for key, inner in items if len(items) < 40 else [*items[:3], *items[-3:]]:
        yield value, key, (*path, key)
        yield from _places(inner, (*path, key))


def _change(document: Any, draw: random.Random) -> str:
    """Change one value within a JSON document, in place."""
    places = list(_places(document))
    if not places:
        return "left as it is, for it is empty"
    holder, key, path = draw.choice(places)
    where = ".".join(map(str, path))
    kind = draw.choice(("replaced", "replaced", "replaced", "deleted", "renamed", "nested"))
    if kind == "replaced":
        holder[key] = draw.choice(_VALUES)
        return f"{where} = {json.dumps(holder[key])[:40]}"
    if kind == "nested":
        holder[key] = [holder[key]]
    elif kind == "renamed" and isinstance(holder, dict):
        holder[f"{key}x"] = holder.pop(key)
    else:
        del holder[key]
        kind = "deleted"
    return f"{where} {kind}"


def _header(path: Path, draw: random.Random) -> str:
    """Change the JSON in front of the weights: their names, floats, shapes and places."""
    data = path.read_bytes()
    (size,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + size])
    name = draw.choice([name for name in header if name != "__metadata__"])
    said = _change({name: header[name]} if draw.random() < 0.3 else header[name], draw)
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data[8 + size :])
    return f"header of {name}: {said}"


def _weights(path: Path, draw: random.Random) -> str:
    """Change a weight's values, or leave it out."""
    from safetensors.numpy import load_file, save_file

    weights = load_file(path)
    name = draw.choice(sorted(weights))
    value = weights[name]
    kind = draw.choice(("not a number", "infinite", "zero", "huge", "left out", "turned", "short"))
    if kind == "left out":
        del weights[name]
    elif kind == "turned":
        weights[name] = np.ascontiguousarray(value.T)
    elif kind == "short":
        weights[name] = np.ascontiguousarray(value[:-1])
    elif value.dtype.kind == "f":
        number = {"not a number": np.nan, "infinite": np.inf, "zero": 0.0, "huge": 1e30}[kind]
        with np.errstate(over="ignore"):
            weights[name] = np.full_like(value, number)
    save_file(weights, path, metadata={"format": "pt"})
    return f"{name} {kind}"


def _graph(path: Path, draw: random.Random) -> str:
    """Change the graph of an .onnx file, as a careless tool would."""
    import onnx

    proto = onnx.load(path)
    graph = proto.graph
    node = draw.choice(graph.node)
    kind = draw.choice(_GRAPH)
    said = f"{node.op_type} {node.name}"
    if kind == "operator":
        node.op_type = draw.choice(("Relu", "Add", "NoSuch", "", "Softmax", "Gather"))
    elif kind == "input" and node.input:
        node.input[draw.randrange(len(node.input))] = draw.choice(
            ("", "nowhere", node.output[0], graph.node[-1].output[0], graph.input[0].name)
        )
    elif kind == "node":
        graph.node.remove(node)
    elif kind == "attribute" and node.attribute:
        attribute = draw.choice(node.attribute)
        attribute.i, attribute.f = draw.choice((-1, 0, 7, 2**40)), 1e30
        said += f" {attribute.name}"
    elif kind == "weight":
        tensor = draw.choice(graph.initializer)
        said = tensor.name
        part = draw.choice(("dims", "type", "values"))
        if part == "dims":
            tensor.dims.append(draw.choice((-1, 0, 2, 2**40)))
        elif part == "type":
            tensor.data_type = draw.choice((0, 7, 10, 99))
        else:
            tensor.raw_data = tensor.raw_data[: len(tensor.raw_data) // 2]
    elif kind == "opset":
        proto.opset_import[0].version = draw.choice((0, 1, 9, 13, 99))
    elif kind == "shape":
        value = draw.choice([*graph.input, *graph.output])
        said = value.name
        value.type.tensor_type.shape.dim[0].dim_value = draw.choice((-1, 0, 1, 7, 2**40))
    elif kind == "type":
        value = draw.choice([*graph.input, *graph.output])
        said = value.name
        value.type.tensor_type.elem_type = draw.choice((0, 1, 8, 9, 10, 99))
    else:
        graph.output.pop()
        kind = "output"
    path.write_bytes(proto.SerializeToString())
    return f"{kind} of {said}"


_GRAPH = ("operator", "input", "node", "attribute", "weight", "opset", "shape", "type", "output")


def attempt(subject: str, source: Path, scratch: Path, seed: int) -> tuple[str, str]:
    """Damage a copy of ``source`` (a folder), compile it, and return outcome and words."""
    folder = scratch / "given" / source.name
    shutil.copytree(source, folder)
    how = damage(folder, seed)
    given = folder / "model.onnx" if subject == _ONNX else folder
    made = scratch / "made"
    for name in ("made", "temporary", "state"):
        (scratch / name).mkdir()
    said = io.StringIO()
    with redirect_stdout(said), redirect_stderr(said):
        code = _compile(given, made / "bundle", scratch)
    text = said.getvalue().strip()
    left = sorted(p.name for name in ("made", "temporary") for p in (scratch / name).iterdir())
    if left != (["bundle"] if code == 0 else []):
        return "left something behind", f"{how}; exit {code}; {', '.join(left)}"
    if code == 0:
        outcome, words = _held(subject, folder, made / "bundle")
        return outcome, f"{how}; {words}"
    clear = code in (2, 4) and "error: " in text and "Traceback" not in text
    return "refused" if clear else "no clear error", f"{how}; exit {code}; {text[-2000:]}"


def _compile(given: Path, output: Path, scratch: Path) -> int:
    from edgeopt.cli import cli
    from edgeopt.cli.output import run

    tempfile.tempdir = str(scratch / "temporary")
    os.environ |= {"TMPDIR": tempfile.tempdir, "XDG_STATE_HOME": str(scratch / "state")}
    asked = ["compile", str(given), "--target", "host", "-o", str(output)]
    code = run(cli, [*asked, "--engine", "onnx", "--precision", "fp32"])
    tempfile.tempdir = None
    return code


def _held(subject: str, folder: Path, bundle: Path) -> tuple[str, str]:
    """Hold the bundle's answers against the tool that its users have, on the damaged folder."""
    from edgeopt.runtime.host import open_session
    from tests.layouts import test_checkpoints

    with open_session(bundle) as session:
        try:
            if subject == _ONNX:
                _hold_onnx(session, folder)
            else:
                (layout,) = (one for one in build.layouts() if one.name == subject)
                tool, _, kind = layout.tool.partition(":")
                test_checkpoints.HELD[tool](session, folder, kind)
        except AssertionError as exc:
            return "wrong", str(exc)[:500]
        # The tool may end in anything on a damaged folder.
        except Exception as exc:  # noqa: BLE001
            return "its own tool fails, ours answers", f"{type(exc).__name__}: {exc}"[:500]
    return "right", ""


def _hold_onnx(session: Any, folder: Path) -> None:
    import onnxruntime
    import transformers

    tokens = transformers.AutoTokenizer.from_pretrained(str(folder))
    engine = onnxruntime.InferenceSession(str(folder / "model.onnx"))
    names = [value.name for value in engine.get_inputs()]
    limit = int(min(tokens.model_max_length, 40))  # the positions that the network has
    for text in build.TEXTS:
        encoded = tokens(
            text, truncation=True, max_length=limit, return_tensors="np", return_token_type_ids=True
        )
        wanted = engine.run(["logits"], {name: encoded[name] for name in names})[0]
        session.run(text)
        assert np.abs(session.outputs()["logits"] - wanted).max() < 1e-4


def _child(subject: str, source: Path, scratch: Path, seed: int, pipe: Any) -> None:
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
    silent = os.open(scratch / "said", os.O_WRONLY | os.O_CREAT)  # what libraries write
    os.dup2(silent, 1)
    os.dup2(silent, 2)
    try:
        pipe.send(attempt(subject, source, scratch, seed))
    except BaseException:  # noqa: BLE001 - it is told
        pipe.send(("a fault of this tool", traceback.format_exc()))


def tries(count: int, first: int, keep: Path | None = None) -> Iterator[tuple[int, str, str, str]]:
    """Yield seed, subject, outcome and words of ``count`` tries; keep the folders of bad ones."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["transformers", "onnxruntime", "onnx"])
    with tempfile.TemporaryDirectory(prefix="edgeopt-mutants-") as place:
        sources = {}
        for number, subject in enumerate(SUBJECTS):
            folder = Path(place) / str(number) / "model"
            folder.parent.mkdir()
            write(subject, folder)
            sources[subject] = folder
        for seed in range(first, first + count):
            subject = SUBJECTS[seed % len(SUBJECTS)]
            scratch = Path(place) / f"try-{seed}"
            scratch.mkdir()
            near, far = context.Pipe(duplex=False)
            child = context.Process(
                target=_child, args=(subject, sources[subject], scratch, seed, far)
            )
            child.start()
            far.close()
            try:
                found = near.recv() if near.poll(SECONDS) else ("hung", f"over {SECONDS} s")
            except EOFError:
                child.join()
                found = ("crashed", f"exit {child.exitcode}")
            child.kill()
            child.join()
            yield seed, subject, *found
            if keep is not None and found[0] not in GOOD:
                shutil.copytree(scratch, keep / str(seed), ignore_dangling_symlinks=True)
            shutil.rmtree(scratch)


def main() -> None:
    """Print each try that is not good, and at the end how many there were of each outcome."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=500)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--keep", type=Path)
    asked = parser.parse_args()
    counts: Counter[tuple[str, str]] = Counter()
    for seed, subject, outcome, words in tries(asked.count, asked.first, asked.keep):
        counts[subject, outcome] += 1
        print(f"{seed} {subject}: {outcome}: {words.splitlines()[0] if words else ''}", flush=True)
        if outcome not in GOOD:
            print(words, flush=True)
    print()
    for (subject, outcome), number in sorted(counts.items()):
        print(f"{number:5} {subject}: {outcome}")
    sys.exit(any(outcome not in GOOD for _, outcome in counts))


if __name__ == "__main__":
    main()
