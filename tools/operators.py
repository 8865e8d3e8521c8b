# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Run the models of onnx's own backend tests in every engine, and write the counts as a page.

The models, their inputs and the outputs that they should give come out of the installed package.
Usage: python -m tools.operators [NAME...] (with parts of names only these are shown, and no page is
written)
"""

from __future__ import annotations

import re
import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from edgeopt.model.onnx_read import RANDOM, nodes
from edgeopt.support.trial import Engines, Outcome, Trial, engines
from edgeopt.target import EngineSpec, load_target
from tools.reference.markdown import literal, prose, table

PAGE = Path(__file__).parent.parent / "docs/reference/operators.md"
KINDS = ("node", "simple", "pytorch-operator", "pytorch-converted", "real")
AS_WRITTEN = "onnxruntime"
STAGES = ("agrees", "differs", "fails", "refused")
_TIMEOUT_S = 60.0
_JOBS = 2
_ATOL = {"float16": 1e-3, "bfloat16": 1e-2}
_REASONS = 12
_LETTERS = 150  # of a reason


@dataclass(frozen=True, kw_only=True, slots=True)
class Case:
    """A model of onnx's tests with one call: inputs by name and the outputs expected."""

    name: str
    kind: str
    operator: str
    model: Any
    inputs: Mapping[str, Any]
    expected: Sequence[Any]
    rtol: float


def cases() -> Iterator[Case]:
    """Yield all that the installed onnx has, with the first of their calls."""
    from onnx.backend.test.loader import load_model_tests

    for kind in KINDS:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the arithmetic that the tests themselves do
            found = load_model_tests(kind=kind)
        operators: dict[str, str] = {}
        for test in sorted(found, key=lambda t: t.name):
            model, inputs, outputs = _loaded(test)
            if {n.op_type for n in nodes(model.graph)} & set(RANDOM):
                continue  # no two engines draw the same
            held = {t.name for t in model.graph.initializer}
            fed = [v.name for v in model.graph.input if v.name not in held]
            if len(inputs) > len(fed):  # weights among the inputs are given as well
                fed = [v.name for v in model.graph.input]
            name = test.name.removeprefix("test_")
            whole = re.sub(r"_expanded(_ver\d+)?$", "", name)  # of which it is the definition
            operators[name] = operators.get(whole) or _operator(model, kind)
            yield Case(
                name=name,
                kind=kind,
                operator=operators[name],
                model=model,
                inputs=dict(zip(fed, inputs, strict=False)),
                expected=outputs,
                rtol=float(test.rtol),
            )


def _operator(model: Any, kind: str) -> str:
    """Return what is counted together: the operator of a node's test, else the kind of test.

    The definition of an operator in simpler ones is counted with it.
    """
    if kind != "node":
        return f"({kind})"
    domain = {n.domain for n in model.graph.node} - {"", "ai.onnx"}
    name = str(model.graph.node[0].op_type)
    return f"{min(domain)}.{name}" if domain else name


def _loaded(test: Any) -> tuple[Any, list[Any], list[Any]]:
    import onnx

    if test.model is not None:
        inputs, outputs = test.data_sets[0]
        return test.model, [_array(v) for v in inputs], [_array(v) for v in outputs]
    if test.model_dir is not None:
        folder = Path(test.model_dir)
        model = onnx.load(folder / "model.onnx")
        data = folder / "test_data_set_0"
        return model, _read(data, "input", model), _read(data, "output", model)
    from onnx.backend.test.runner import Runner

    path = Path(onnx.__file__).parent.parent / test.url
    model = onnx.load(path)
    held = {t.name for t in model.graph.initializer}
    inputs = [
        Runner.generate_dummy_data(v, seed=0, name=test.model_name, random=False)
        for v in model.graph.input
        if v.name not in held
    ]
    output = onnx.load_tensor(path.with_name(f"{path.stem}_output_0.pb"))
    return model, inputs, [onnx.numpy_helper.to_array(output)]


def _read(folder: Path, what: str, model: Any) -> list[Any]:
    import onnx

    ports = model.graph.input if what == "input" else model.graph.output
    found = []
    for i in range(len(list(folder.glob(f"{what}_*.pb")))):
        content = (folder / f"{what}_{i}.pb").read_bytes()
        if ports[i].type.HasField("sequence_type"):
            found.append(onnx.numpy_helper.to_list(onnx.SequenceProto.FromString(content)))
        elif ports[i].type.HasField("optional_type"):
            optional = onnx.OptionalProto.FromString(content)
            found.append(onnx.numpy_helper.to_optional(optional))
        else:
            found.append(onnx.numpy_helper.to_array(onnx.TensorProto.FromString(content)))
    return found


def _array(value: Any) -> Any:
    import onnx

    if isinstance(value, onnx.TensorProto):
        return onnx.numpy_helper.to_array(value)
    if isinstance(value, list | tuple):
        return [_array(item) for item in value]
    return value if value is None else np.asarray(value)


def columns() -> dict[str, EngineSpec]:
    """Return what the models are tried in: onnxruntime as they are written, then the target's."""
    specs = {s.engine: s for s in load_target("host").engines}
    specs.pop("tflite")  # which takes no .onnx file
    as_written = replace(specs["onnx"], opset=None, ir_version=None)
    return {AS_WRITTEN: as_written} | specs


def outcomes(case: Case, pool: Engines, folder: Path) -> dict[str, Outcome]:
    """Return what each column makes of one model."""
    import onnx

    file = folder / f"{case.name}.onnx"
    onnx.save(case.model, file)
    kinds = {str(v.dtype) for v in case.expected if isinstance(v, np.ndarray)}
    atol = max((_ATOL.get(kind, 1e-5) for kind in kinds), default=1e-5)
    rtol = max(case.rtol, 1e-2 if kinds & set(_ATOL) else 1e-3)
    found = {
        name: pool.run(
            Trial(
                spec=spec,
                file=file,
                inputs=case.inputs,
                expected=case.expected,
                rtol=rtol,
                atol=atol,
            )
        )
        for name, spec in columns().items()
    }
    file.unlink()
    return found


def run(chosen: Iterable[Case]) -> dict[str, tuple[Case, dict[str, Outcome]]]:
    """Run the models, two at a time."""
    found: dict[str, tuple[Case, dict[str, Outcome]]] = {}

    def work(part: list[Case]) -> None:
        with engines(_TIMEOUT_S) as pool, tempfile.TemporaryDirectory() as folder:
            for case in part:
                made = outcomes(case, pool, Path(folder))
                found[case.name] = case, made
                said = [f"{name} {o.stage} {o.reason[:200]}".strip() for name, o in made.items()]
                print(f"{case.kind} {case.name}: " + " | ".join(said), flush=True)

    listed = list(chosen)
    with ThreadPoolExecutor(_JOBS) as threads:
        list(threads.map(work, [listed[i::_JOBS] for i in range(_JOBS)]))
    return {case.name: found[case.name] for case in listed}


Found = Mapping[str, tuple[Case, Mapping[str, Outcome]]]


def page(found: Found) -> str:
    """Return the page: counts, a row an operator, and the reasons."""
    import onnx

    specs = columns()
    target = specs["onnx"]
    counts = {name: Counter(made[name].stage for _, made in found.values()) for name in specs}
    summary = [
        (_head(name, spec), *(str(counts[name][stage]) for stage in STAGES))
        for name, spec in specs.items()
    ]
    parts = [
        "<!-- Written by: python -m tools.operators -->",
        "# Operators of ONNX",
        f"The {len(found)} models of the backend tests in the package onnx {onnx.__version__}, "
        "each with its inputs and the outputs that it should give, run as `edgeopt` opens an "
        "`.onnx` file for the target `host`. First in onnxruntime as they are written, then in "
        "each engine; "
        f"for onnx they are brought to opset {target.opset} and IR version {target.ir_version} "
        "before, for tvm to opset 17. TFLite artifacts are made of checkpoints, not of `.onnx` "
        "files. A value agrees within a thousandth, or 1e-5 (of 16 bits: a hundredth, 1e-3). "
        "Models that draw random numbers are left out; edgeopt refuses them. Most are of no use to "
        "a transformer: what stands in the way of a file of yours, "
        "[`edgeopt inspect`](commands/inspect.md) tells.",
        table(
            ("engine", "agrees", "runs, and differs", "opens, and fails", "refuses"), summary
        ).rstrip(),
        "What differs is no error to the engine. In a file that is compiled it shows in the check "
        "of each artifact, and that is not shipped.",
        "## What differs",
        *_differences(found),
        "## Why it is refused, or fails",
        *_reasons(found),
        "## By operator",
        "How many of an operator's models agree. A dot stands for all, a dash for none; with "
        "`!` some differ.",
        _by_operator(found),
    ]
    return "\n\n".join(parts) + "\n"


def _head(name: str, spec: EngineSpec) -> str:
    return f"{name} {spec.version}" + (", as written" if name == AS_WRITTEN else "")


def _differences(found: Found) -> Iterator[str]:
    for name in columns():
        by: dict[str, list[str]] = {}
        for case, made in found.values():
            if made[name].stage == "differs":
                by.setdefault(case.operator, []).append(made[name].reason)
        rows = [
            (
                literal(operator),
                str(len(reasons)),
                prose(_short(Counter(reasons).most_common(1)[0][0])),
            )
            for operator, reasons in sorted(by.items())
        ]
        if rows:
            yield f"### {name}"
            yield table((f"in {name}", "models", "such as"), rows).rstrip()


def _reasons(found: Found) -> Iterator[str]:
    for name in columns():
        counted = Counter(
            _general(made[name].reason)
            for _, made in found.values()
            if made[name].stage in ("refused", "fails")
        )
        rows = [(str(count), prose(reason)) for reason, count in counted.most_common(_REASONS)]
        others = counted.total() - sum(int(count) for count, _ in rows)
        if others:
            rows.append((str(others), f"other reasons, {len(counted) - _REASONS} of them"))
        yield f"### {name}"
        yield table(("models", "reason"), rows).rstrip()


def _general(reason: str) -> str:
    """Return a reason without what is of one model: names of nodes and values, numbers, opsets."""
    text = re.sub(r"opset \d+ cannot", "its opset cannot", reason)
    text = re.sub(r"(\w+: )\S+( and \d+ more)?(, \S+)*( \(.*?\))?(?=\)$|;)", r"\1...\4", text)
    text = re.sub(r"\([\w.]*\) of operator", "of operator", text)
    text = re.sub(r"node with name '.*?'|in node \(.*?\)|node \S+ \(\w+\)", "node", text)
    text = re.sub(r"-\d+\b", "", text)
    text = re.sub(r"'[^']*'", "'...'", text)
    return _short(re.sub(r"\b\d+(\.\d+)?\b", "N", text))


def _short(text: str) -> str:
    return text if len(text) <= _LETTERS else text[: _LETTERS - 3] + "..."


def _by_operator(found: Found) -> str:
    by: dict[str, list[Mapping[str, Outcome]]] = {}
    for case, made in found.values():
        by.setdefault(case.operator, []).append(made)
    rows = []
    for operator, made in sorted(by.items(), key=lambda item: item[0].lower()):
        cells = []
        for name in columns():
            stages = Counter(outcome[name].stage for outcome in made)
            agree = stages["agrees"]
            cell = "." if agree == len(made) else str(agree) if agree else "-"
            cells.append(cell + (" !" if stages["differs"] else ""))
        rows.append((literal(operator), str(len(made)), *cells))
    return table(("operator", "models", *columns()), rows).rstrip()


def main() -> None:
    """Run what is asked for."""
    parts = sys.argv[1:]
    found = run(c for c in cases() if not parts or any(part in c.name for part in parts))
    if not parts:
        PAGE.write_text(page(found))
        print(PAGE)


if __name__ == "__main__":
    main()
