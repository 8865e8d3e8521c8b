# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import ctypes.util
import importlib.metadata
import json
import os
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgeopt._version import __version__
from edgeopt.model.signature import Signature
from tests.runtime.agent_runs import Case, Run, spec, write_model

pytestmark = pytest.mark.heavy  # starts the agent for each


def test_an_agreeing_model_is_timed_with_raw_samples(case: Case) -> None:
    done = case.run("--runs", "130", "--warmup", "3", "--threads", "2")
    assert (done.status, done.stderr) == (0, "")
    assert done.one("hello")["agent"] == __version__
    engine = done.one("engine")
    assert engine["version"] == importlib.metadata.version("onnxruntime")
    assert engine["load_ns"] > 0
    golden = done.one("golden")
    assert golden["directory"] == "golden/golden0"
    assert (golden["output"], golden["cosine"], golden["max_abs_error"]) == ("out", 1, 0)
    assert len(done.one("warmup")["ns"]) == 3
    chunks = done.all("samples")
    assert [c["first"] for c in chunks] == [0, 64, 128]
    assert [len(c["wall_ns"]) for c in chunks] == [64, 64, 2]
    assert all(ns > 0 for c in chunks for ns in c["wall_ns"] + c["cpu_ns"])
    memory = done.all("memory")
    assert [event["phase"] for event in memory] == ["before", "loaded", "first", "steady"]
    assert memory[0]["rss_bytes"] < memory[1]["rss_bytes"] <= memory[1]["peak_bytes"] + 1_000_000
    assert done.events[-1] == {"event": "done", "outputs_agree": True}


def test_runs_go_on_for_a_time(case: Case) -> None:
    done = case.run("--runs", "3", "--warmup", "0", "--duration-ms", "100")
    times = [ns for chunk in done.all("samples") for ns in chunk["wall_ns"]]
    assert len(times) > 3
    assert sum(times) < 10e9
    assert done.one("first")["wall_ns"] > 0


def test_blocks_are_timed_as_they_are_asked_for(case: Case) -> None:
    with subprocess.Popen(
        case.words("blocks", "--warmup", "2"), stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as agent:
        assert agent.stdin is not None
        assert agent.stdout is not None

        def until(kind: str) -> list[dict[str, object]]:
            assert agent.stdout is not None
            events: list[dict[str, object]] = []
            while not events or events[-1]["event"] != kind:
                events.append(json.loads(agent.stdout.readline()))
            return events

        def ask(line: bytes) -> None:
            assert agent.stdin is not None
            agent.stdin.write(line)
            agent.stdin.flush()

        until("ready")
        for line, count in ((b"\n\n70\n", 70), (b"2\n", 2)):
            ask(line)
            events = until("block")
            assert events[-1]["runs"] == count
            assert [e["first"] for e in events[:-1]] == [0, 64][: len(events) - 1]
            assert sum(len(e["wall_ns"]) for e in events[:-1]) == count  # type: ignore[arg-type, misc]
        agent.stdin.close()
        assert until("done")[-1]["outputs_agree"] is True
    assert agent.returncode == 0


@pytest.mark.parametrize("line", [b"x\n", b"-1\n", b"99999999999999\n"])
def test_what_is_no_number_of_runs_is_refused(case: Case, line: bytes) -> None:
    with subprocess.Popen(
        case.words("blocks", "--warmup", "0"), stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as agent:
        assert agent.stdout is not None
        for told in agent.stdout:
            if json.loads(told)["event"] == "ready":
                break
        rest, _ = agent.communicate(line)
        assert json.loads(rest.splitlines()[-1]) == {
            "event": "error",
            "where": "stdin",
            "message": "expected a number of runs in each line",
        }
    assert agent.returncode == 1


def another_golden(case: Case) -> None:
    """Add a golden call whose values run the other way."""
    folder = case.golden.parent / "golden1"
    ids, out = case.ids, case.out
    case.ids = np.ascontiguousarray(ids[:, ::-1])
    case.out = ((case.ids * case.mask)[..., None] * np.array([1, 2, 3])).astype(np.float32)
    case.write_golden(folder, case.out)
    case.goldens.append(folder)
    case.ids, case.out = ids, out


def test_each_row_of_a_batch_is_held_to_its_own_golden(case: Case) -> None:
    another_golden(case)
    done = case.run("--batch", "3", "--runs", "4")
    assert (done.status, done.stderr) == (0, "")
    golden = done.all("golden")
    assert [g["directory"][-1] for g in golden] == ["1", "0", "0", "1", "0"]
    assert all((g["cosine"], g["max_abs_error"]) == (1, 0) for g in golden)
    assert len(done.one("samples")["wall_ns"]) == 4
    assert done.events[-1] == {"event": "done", "outputs_agree": True}
    for batch in ("0", "1025"):
        told = case.run("--batch", batch).one("error")
        assert told["message"] == f"expected 1 to 1024, found {batch}"


def test_a_batch_whose_rows_are_mixed_up_is_never_timed(case: Case) -> None:
    another_golden(case)
    write_model(case.model, mixes_rows=True)
    assert case.run("--runs", "3").events[-1] == {"event": "done", "outputs_agree": True}
    done = case.run("--batch", "2", "--runs", "3")
    assert [g["agrees"] for g in done.all("golden")] == [True, True, False, False]
    assert done.all("samples") == []
    assert done.events[-1] == {"event": "done", "outputs_agree": False}


def test_an_artifact_of_one_input_takes_no_batch(case: Case) -> None:
    case.artifact = replace(
        case.artifact,
        inputs=tuple(replace(s, dims=(1, *s.dims[1:])) for s in case.artifact.inputs),
        outputs=tuple(replace(s, dims=(1, *s.dims[1:])) for s in case.artifact.outputs),
    )
    assert case.run("--batch", "2").one("error")["message"] == (
        "onnx fp32 takes one input at a time"
    )


def test_a_wrong_golden_is_never_timed(case: Case) -> None:
    wrong = case.golden.parent / "golden1"
    case.write_golden(wrong, -case.out)
    case.goldens.append(wrong)
    done = case.run()
    assert done.status == 0
    assert [g["agrees"] for g in done.all("golden")] == [False, True]
    assert done.all("golden")[0]["cosine"] == pytest.approx(-1)
    assert done.all("warmup") == done.all("samples") == []
    assert done.events[-1] == {"event": "done", "outputs_agree": False}


def test_masked_positions_do_not_count_and_others_do(case: Case) -> None:
    golden = case.out.copy()
    golden[:, 6:] = 1e6
    case.write_golden(case.golden, golden)
    assert case.run().one("golden")["max_abs_error"] == 0
    golden[:, 5, 0] += 0.5
    case.write_golden(case.golden, golden)
    assert case.run().one("golden")["max_abs_error"] == 0.5


def test_nan_disagrees_and_is_null_in_json(case: Case) -> None:
    golden = case.out.copy()
    golden[0, 0, 0] = np.nan
    case.write_golden(case.golden, golden)
    case.bound = -1
    event = case.run().one("golden")
    assert (event["cosine"], event["max_abs_error"], event["agrees"]) == (None, None, False)
    assert event["reason"] == "NaN or infinity"


def test_another_shape_disagrees(case: Case) -> None:
    case.write_golden(case.golden, case.out[:, :4])
    event = case.run().one("golden")
    assert (event["agrees"], event["reason"]) == (False, "shape (1, 8, 3), expected (1, 4, 3)")


def test_names_are_mapped_and_int32_becomes_int64(case: Case) -> None:
    write_model(case.model, ids_name="args_0", mask_dtype="INT64")
    case.artifact = Signature(
        inputs=(
            spec("args_0", "int64", "batch", "seq"),
            spec("attention_mask", "int64", "batch", "seq"),
        ),
        outputs=case.artifact.outputs,
    )
    case.signature = replace(
        case.signature, outputs=(spec("hidden", "float32", "batch", "seq", 3),)
    )
    np.save(case.golden / "in.attention_mask.npy", case.mask.astype(np.int32))
    (case.golden / "out.out.npy").rename(case.golden / "out.hidden.npy")
    done = case.run()
    assert done.one("golden")["output"] == "hidden"
    assert done.events[-1] == {"event": "done", "outputs_agree": True}


def failure(done: Run, status: int = 1) -> tuple[str, str]:
    assert done.status == status, done.events
    event = done.one("error")
    assert done.events[-1] is event
    return event["where"], event["message"]


def test_an_id_past_int32_is_refused(case: Case) -> None:
    case.mask = case.mask * 2**40
    case.write_golden(case.golden, case.out)
    assert failure(case.run()) == (
        "attention_mask",
        "value 1099511627776 does not fit the artifact's int32",
    )


def test_a_missing_golden_is_named(case: Case) -> None:
    (case.golden / "in.ids.npy").rename(case.golden / "in.tokens.npy")
    assert failure(case.run()) == ("golden/golden0/in.ids.npy", "is not in this bundle")
    assert failure(case.run("--seq-len", "9")) == (
        "--seq-len",
        "the bundle has no golden call of 9 tokens",
    )


def test_what_the_manifest_says_of_the_artifact_must_be_so(case: Case) -> None:
    right = case.artifact
    case.artifact = replace(right, inputs=(right.inputs[0], spec("mask", "int32", "batch", "seq")))
    assert failure(case.run()) == ("mask", "is not in the artifact")
    case.artifact = replace(right, inputs=(right.inputs[1], right.inputs[1]))
    assert failure(case.run()) == ("attention_mask", "is not in the artifact")
    case.artifact = replace(right, inputs=case.signature.inputs)
    assert failure(case.run()) == ("attention_mask", "is int32 in the artifact, not int64")
    case.artifact = replace(right, outputs=(spec("out", "float32", "batch", "seq"),))
    assert failure(case.run()) == (
        "out",
        "its shape is not that of the task feature-extraction",
    )
    case.artifact = replace(right, outputs=(spec("out", "float32", "batch", "seq", 4),))
    assert failure(case.run())[0] == "run"


def npy(
    descr: str = "<f4", order: str = "False", shape: str = "(1, 8, 3)", body: int = 96
) -> bytes:
    header = f"{{'descr': '{descr}', 'fortran_order': {order}, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + bytes(body)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is not a .npy file"),
        (b"PK\x03\x04aaaaaaaa", "is not a .npy file"),
        (npy()[:9], "is not a .npy file"),
        (npy()[:40], "is too long, or cut off"),
        (b"\x93NUMPY\x03\x00" + bytes(8), ".npy version 3.0, expected 1.0 or 2.0"),
        (b"\x93NUMPY\x02\x00\xff\xff\xff\xff", "header of 4294967295 bytes"),
        (npy()[:-1], "does not hold exactly the 96 bytes"),
        (npy(body=97), "does not hold exactly the 96 bytes"),
        (npy(descr="<f8"), "dtype is not little-endian"),
        (npy(descr=">f4"), "dtype is not little-endian"),
        (npy(order="True"), "is in Fortran order"),
        (npy(shape="(99999999999999999999999, 2)"), "shape is malformed"),
        (npy(shape="(100000, 100000, 100000)"), "shape is malformed"),
        (npy(shape="(4611686018427387905, 4)"), "shape is malformed"),
        (npy(shape="(-1, 4)"), "shape is malformed"),
        (npy(shape="(1,1,1,1,1,1,1,1,1)"), "shape is malformed"),
        (npy(shape="(1, 8"), "shape is malformed"),
    ],
)
def test_a_damaged_npy_is_refused_with_its_place(case: Case, content: bytes, message: str) -> None:
    path = case.golden / "out.out.npy"
    path.write_bytes(content)
    where, found = failure(case.run())
    assert where == "golden/golden0/out.out.npy"
    assert message in found


def test_npy_version_2_is_read(case: Case) -> None:
    with (case.golden / "out.out.npy").open("wb") as file:
        np.lib.format.write_array(file, case.out, version=(2, 0))
    assert case.run().one("golden")["agrees"] is True


def test_absent_files_are_named(case: Case, tmp_path: Path) -> None:
    absent = str(tmp_path / "absent")
    assert failure(case.run(bundle=tmp_path / "absent")) == (
        absent,
        "cannot be opened (No such file or directory)",
    )
    assert failure(case.run("--libraries", absent)) == (
        "onnx",
        f"no libonnxruntime.so.1* in {absent}",
    )


def test_a_library_of_something_else_is_refused(case: Case, tmp_path: Path) -> None:
    math = ctypes.util.find_library("m")
    other = tmp_path / "libonnxruntime.so.1"
    other.symlink_to(Path("/lib") / f"{os.uname().machine}-linux-gnu" / str(math))
    assert failure(case.run("--libraries", str(tmp_path))) == (
        str(other),
        "has no OrtGetApiBase: it is not onnxruntime's library",
    )


@pytest.mark.parametrize(
    ("arguments", "where", "message"),
    [
        ((), "arguments", "no command"),
        (("fly",), "fly", "unknown command"),
        (("run", "--engin", "onnx"), "--engin", "unknown option"),
        (("run", "--runs"), "--runs", "needs a value"),
        (("run", "--runs", "-1"), "--runs", "expected 0 to 1000000000, found -1"),
        (("run", "--threads", "4x"), "--threads", "expected 1 to 1024, found 4x"),
        (("run", "--option", "ids"), "--option", "expected NAME=VALUE, found ids"),
        (("run", "--engine", "onnx"), "--bundle", "is missing"),
    ],
)
def test_bad_arguments_exit_2(
    agent: Path, arguments: tuple[str, ...], where: str, message: str
) -> None:
    found = failure(Run(agent, *arguments), status=2)
    assert found[0] == where
    assert message in found[1]


def test_engine_options(case: Case) -> None:
    done = case.run("--option", "graph_optimization=disable")
    assert done.events[-1]["outputs_agree"] is True
    done = case.run("--option", "session.intra_op.allow_spinning=0")
    assert done.events[-1]["outputs_agree"] is True
    assert "found most" in failure(case.run("--option", "graph_optimization=most"))[1]
    assert failure(case.run("--option", "speed=1"))[1].startswith("unknown option of engine onnx")


def test_the_targets_cpus_are_used_where_there_are_such(case: Case) -> None:
    any_cpus = case.run().one("engine")["cpus"]
    case.cpus = "0"
    assert case.run().one("engine")["cpus"] == "0"
    case.cpus = "900"
    assert case.run().one("engine")["cpus"] == any_cpus
    done = case.run("--cpus", "900")
    assert failure(done)[0] == "cpus"
    assert "900 cannot be set" in failure(done)[1]


def test_info_tells_cpu_and_engine(agent: Path, onnxruntime_library: Path) -> None:
    done = Run(agent, "info", "--engine", "onnx", "--libraries", str(onnxruntime_library))
    assert done.status == 0
    assert done.one("cpu")["arch"] == os.uname().machine
    assert done.one("cpu")["cores_online"] == os.sysconf("SC_NPROCESSORS_ONLN")
    assert done.one("cpu")["features"]
    assert done.one("engine")["version"] == importlib.metadata.version("onnxruntime")


def test_text_that_is_not_utf8_is_still_json(agent: Path) -> None:
    done = subprocess.run([agent, b'\xff"\n\xc3\xa9'], capture_output=True, check=False)
    assert done.stdout.startswith(b'{"event":"error","where":"\\ufffd\\"\\u000a\xc3\xa9"')


def test_it_ends_when_a_host_that_spoke_goes_away(case: Case) -> None:
    command = [
        case.program, "run", "--bundle", case.write(), "--libraries", case.library,
        "--runs", "1000000000",
    ]  # fmt: skip
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stdin=pipe, stderr=subprocess.DEVNULL) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(b"\n")
        process.stdin.flush()
        for _ in range(3):
            assert b'"error"' not in process.stdout.readline()
        process.stdin.close()
        *_, last = process.stdout
        assert process.wait(timeout=20) == 1
    assert json.loads(last) == {"event": "error", "where": "stdin", "message": "the host is gone"}


def test_it_ends_when_its_reader_goes_away(case: Case) -> None:
    command = [
        case.program, "run", "--bundle", case.write(), "--libraries", case.library,
        "--runs", "1000000000",
    ]  # fmt: skip
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        while b'"samples"' not in process.stdout.readline():
            pass
        process.stdout.close()
        began = time.monotonic()
        assert process.wait(timeout=20) == 3
        assert time.monotonic() - began < 5


def test_tokens_are_told_without_a_network(agent: Path, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers", reason="needs edgeopt[torch]")
    from edgeopt.bundle.describe import describe, tokenizer_files
    from edgeopt.bundle.write import write
    from edgeopt.model.importer import import_model
    from edgeopt.target import load_target
    from tests import checkpoints

    folder = checkpoints.write(tmp_path / "m")
    model = import_model(folder)
    place = tmp_path / "b.edgeopt"
    write(place, describe(model, load_target("host"), ()), tokenizer_files(model))
    lines = [
        {"text": "a tool, naïve"},
        {"text": "the data", "pair": "a library\0 日本"},
        {"text": ""},
    ]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    done = Run(agent, "tokens", "--bundle", str(place), text=text)
    assert done.status == 0
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    for line, found in zip(lines, done.all("tokens"), strict=True):
        encoded = tokenizer(line["text"], line.get("pair"), return_token_type_ids=True)
        assert found["ids"] == encoded["input_ids"]
        assert found["types"] == encoded["token_type_ids"]
        assert found["total"] == len(found["begins"]) == len(found["ends"])
    assert done.all("tokens")[0]["ends"][1:4] == [1, 6, 7]
    cut = Run(agent, "tokens", "--bundle", str(place), "--seq-len", "4", text=text)
    assert [len(found["ids"]) for found in cut.all("tokens")] == [4, 4, 2]
    assert [found["total"] for found in cut.all("tokens")] == [
        found["total"] for found in done.all("tokens")
    ]


def test_tokens_of_what_is_no_text_are_refused(agent: Path, case: Case) -> None:
    case.run()  # which writes the bundle
    done = Run(agent, "tokens", "--bundle", str(case.bundle), text='{"text": "a"}\n')
    assert (done.status, done.one("error")["message"]) == (1, "has no tokenizer")


def test_golden_texts_are_run_before_anything_is_timed(
    agent: Path, onnxruntime_library: Path, tmp_path: Path
) -> None:
    pytest.importorskip("transformers", reason="needs edgeopt[torch]")
    import edgeopt
    from edgeopt.bundle.golden import TEXTS
    from edgeopt.bundle.verify import verify
    from edgeopt.bundle.write import write
    from tests import checkpoints

    folder = checkpoints.write(tmp_path / "m")
    made = edgeopt.compile(
        folder, "host", output=tmp_path / "a.edgeopt", engines=["onnx"], precisions=["fp32"]
    )
    words = ["run", "--libraries", str(onnxruntime_library), "--runs", "2", "--bundle"]
    done = Run(agent, *words, str(made.path))
    told = [event for event in done.all("golden") if event["directory"] == TEXTS]
    assert [event["output"] for event in told] == [f"text {i}" for i in range(len(told))]
    assert len(told) > 2
    assert all(event["agrees"] and event["max_abs_error"] < 1e-5 for event in told)
    assert done.events[-1] == {"event": "done", "outputs_agree": True}
    assert len(done.one("samples")["wall_ns"]) == 2

    document = json.loads((made.path / TEXTS).read_text())
    document["texts"][1]["values"][0] += 0.01
    files = {name: made.path / name for name in made.manifest.files} | {TEXTS: tmp_path / "t.json"}
    (tmp_path / "t.json").write_text(json.dumps(document))
    other = write(tmp_path / "b.edgeopt", made.manifest, files)
    done = Run(agent, *words, str(other.path))
    told = [event for event in done.all("golden") if event["directory"] == TEXTS]
    assert [i for i, event in enumerate(told) if not event["agrees"]] == [1]
    assert done.events[-1] == {"event": "done", "outputs_agree": False}
    assert not done.all("samples")
    (check,) = verify(other).artifacts
    assert (check.agrees, check.runtime) == (True, False)
    assert "is off by 0.01, more than 0.001, from that of transformers" in str(check.reason)

    document["error_max"] = {}
    (tmp_path / "t.json").write_text(json.dumps(document))
    done = Run(agent, *words, str(write(tmp_path / "c.edgeopt", made.manifest, files).path))
    assert done.one("error")["message"] == "expected texts, and error_max for fp32"
