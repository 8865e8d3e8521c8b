# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Texts and images through the runtime library, held against PyTorch and transformers."""

from __future__ import annotations

import json
import platform
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import edgeopt
from edgeopt.bundle import Bundle
from edgeopt.errors import BoardError, BundleError, InputError
from edgeopt.model.pooling import Pooling
from edgeopt.quiet import quiet
from edgeopt.runtime.build import build_for_host
from edgeopt.runtime.host import open_session
from edgeopt.runtime.python import edgeopt_rt
from tests import checkpoints, every_engine

torch = pytest.importorskip("torch", reason="needs edgeopt[torch]")
pytest.importorskip("transformers", reason="needs edgeopt[torch]")
pytest.importorskip("onnxruntime", reason="needs edgeopt[onnx]")
pytest.importorskip("ziglang", reason="needs edgeopt[cross]")

pytestmark = pytest.mark.heavy

TEXTS = (
    "a library for text and data",
    "The tool, of python 3.",
    "naïve 日本語 x",
    "",
    "in " * 60,
)
CONTEXT = " ".join(f"the tool {word} of a library {n}." for n in range(6) for word in "abcdef")

Compile = Callable[..., tuple[Path, Bundle]]


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Compile:
    """Compile a tiny checkpoint once; return its folder and its bundle."""
    made: dict[str, tuple[Path, Bundle]] = {}

    def make(architecture: str, **changes: Any) -> tuple[Path, Bundle]:
        key = f"{architecture}{changes}"
        if key not in made:
            folder = tmp_path_factory.mktemp("reading")
            checkpoint = checkpoints.write(folder / "checkpoint", architecture, **changes)
            bundle = edgeopt.compile(
                checkpoint, "host", output=folder / "b.edgeopt", engines=["onnx"],
                precisions=["fp32"],
            )  # fmt: skip
            made[key] = checkpoint, bundle
        return made[key]

    return make


def pipeline(task: str, folder: Path, **options: Any) -> Any:
    with quiet():
        import transformers

        made = transformers.pipeline(task, model=str(folder), device="cpu", **options)

    def call(*arguments: Any, **more: Any) -> Any:
        """Ask for one text, whose findings some pipelines put into a list of one."""
        found = made(*arguments, **more)
        return found[0] if found and isinstance(found[0], list) else found

    return call


@pytest.mark.parametrize(
    "changes", [{}, {"problem_type": "multi_label_classification"}, {"problem_type": "regression"}]
)
def test_labels_and_scores_are_those_of_the_pipeline(
    compiled: Compile, changes: dict[str, str]
) -> None:
    folder, bundle = compiled("BertForSequenceClassification", **changes)
    classify = pipeline("text-classification", folder, top_k=None)
    for text, result in zip(TEXTS, edgeopt.read(bundle, TEXTS).results, strict=True):
        expected = classify(text, truncation=True, max_length=38)
        assert [item.label for item in result.items] == [e["label"] for e in expected]
        scores = [item.score for item in result.items]
        assert scores == pytest.approx([e["score"] for e in expected], abs=1e-5)
    assert [r.truncated for r in edgeopt.read(bundle, TEXTS).results] == [False] * 4 + [True]


@pytest.mark.parametrize("typed", [False, True])
def test_pairs_are_read_as_the_tokenizer_joins_them(tmp_path: Path, typed: bool) -> None:
    folder = checkpoints.write(tmp_path / "checkpoint")
    path = folder / "tokenizer_config.json"
    names = ["input_ids", "attention_mask", *(["token_type_ids"] if typed else [])]
    path.write_text(json.dumps(json.loads(path.read_text()) | {"model_input_names": names}))
    bundle = edgeopt.compile(
        folder, "host", output=tmp_path / "b.edgeopt", engines=["onnx"], precisions=["fp32"]
    )
    classify = pipeline("text-classification", folder, top_k=None)
    (result,) = edgeopt.read(bundle, [("a tool", "the data of python")]).results
    expected = classify({"text": "a tool", "text_pair": "the data of python"})
    scores = [item.score for item in result.items]
    assert scores == pytest.approx([e["score"] for e in expected], abs=1e-4)
    assert bundle.manifest.input.token_types is typed


@pytest.mark.parametrize("labels", [("B-LIB", "I-LIB", "O"), ("I-NET", "B-LIB", "I-LIB")])
def test_entities_are_those_of_the_pipeline(compiled: Compile, labels: tuple[str, ...]) -> None:
    folder, bundle = compiled(
        "BertForTokenClassification",
        id2label=dict(enumerate(labels)),
        label2id={name: i for i, name in enumerate(labels)},
    )
    find = pipeline("token-classification", folder, aggregation_strategy="simple")
    found = 0
    for text, result in zip(TEXTS, edgeopt.read(bundle, TEXTS).results, strict=True):
        if text.startswith("in in"):
            continue  # the pipeline does not cut
        expected = find(text) if text else []
        assert [(i.begin, i.end) for i in result.items] == [
            (e["start"], e["end"]) for e in expected
        ]
        assert [i.label.removeprefix("B-").removeprefix("I-") for i in result.items] == [
            e["entity_group"] for e in expected
        ]
        scores = [item.score for item in result.items]
        assert scores == pytest.approx([e["score"] for e in expected], abs=1e-4)
        found += len(expected)
    assert found > 3


def answers(folder: Path, question: str, context: str, max_tokens: int) -> list[tuple[float, str]]:
    """Every span with its score, best first, as transformers' question-answering pipeline (4.x)
    finds them in overlapping windows."""
    with quiet():
        import transformers

        network = transformers.AutoModelForQuestionAnswering.from_pretrained(str(folder)).eval()
        tokenizer = transformers.AutoTokenizer.from_pretrained(str(folder))
    room = max_tokens - len(tokenizer(question)["input_ids"]) - 1
    encoded = tokenizer(
        question, context, truncation="only_second", max_length=max_tokens, stride=room // 2,
        return_overflowing_tokens=True, padding=True, return_tensors="pt",
    )  # fmt: skip
    with torch.inference_mode():
        output = network(**{name: encoded[name] for name in tokenizer.model_input_names})
    best: dict[tuple[int, int], float] = {}
    for row in range(len(encoded["input_ids"])):
        kept = np.array([s == 1 for s in encoded.sequence_ids(row)])
        counted = kept.copy()
        counted[0] = True
        parts = []
        for logits in (output.start_logits[row].numpy(), output.end_logits[row].numpy()):
            powers = np.where(counted, np.exp(logits - logits[counted].max()), 0)
            parts.append(np.where(kept, powers / powers.sum(), 0))
        scores = np.tril(np.triu(np.outer(*parts)), 14)
        for first, last in zip(*np.nonzero(scores), strict=True):
            begin = encoded.word_to_chars(row, encoded.token_to_word(row, first), 1).start
            end = encoded.word_to_chars(row, encoded.token_to_word(row, last), 1).end
            score = float(scores[first, last])
            best[begin, end] = max(best.get((begin, end), 0.0), score)
    ranked = sorted(best.items(), key=lambda item: -item[1])
    return [(score, context[begin:end]) for (begin, end), score in ranked]


@pytest.mark.parametrize(
    "architecture", ["BertForQuestionAnswering", "DistilBertForQuestionAnswering"]
)
@pytest.mark.parametrize("context", [CONTEXT[:40], CONTEXT, "naïve 日本語 tool, the data"])
def test_answers_are_found_in_every_window(
    compiled: Compile, architecture: str, context: str
) -> None:
    folder, bundle = compiled(architecture)
    (result,) = edgeopt.read(bundle, [("the tool?", context)]).results
    expected = answers(folder, "the tool?", context, bundle.manifest.max_seq_len)
    assert [i.score for i in result.items[:4]] == pytest.approx(
        [score for score, _ in expected[:4]], rel=1e-3
    )
    assert result.items[0].text == expected[0][1]


def test_a_question_without_a_context_or_without_room_is_refused(compiled: Compile) -> None:
    _, bundle = compiled("BertForQuestionAnswering")
    with pytest.raises(InputError, match="question answering needs the context as pair"):
        edgeopt.read(bundle, ["the tool?"])
    with pytest.raises(InputError, match="only the second text is cut"):
        edgeopt.read(bundle, [("the tool " * 60, "a library")])


@pytest.mark.parametrize("mode", ["mean", "cls", "max"])
def test_embeddings_are_pooled_and_normalised(tmp_path: Path, compiled: Compile, mode: str) -> None:
    from edgeopt.model.importer import import_model
    from tests.runtime.poolings import write_pooling

    folder = checkpoints.write(tmp_path / "checkpoint", "BertModel")
    write_pooling(folder, mode)
    bundle = edgeopt.compile(
        folder, "host", output=tmp_path / "b.edgeopt", engines=["onnx"], precisions=["fp32"]
    )
    with quiet():
        import transformers

        network = transformers.AutoModel.from_pretrained(str(folder)).eval()
        tokenizer = transformers.AutoTokenizer.from_pretrained(str(folder))
    assert import_model(folder).pooling == Pooling(mode=mode, normalize=True)
    for text, result in zip(TEXTS, edgeopt.read(bundle, TEXTS).results, strict=True):
        encoded = tokenizer(text, truncation=True, max_length=38, return_tensors="pt")
        with torch.inference_mode():
            hidden = network(**encoded).last_hidden_state[0]
        pooled = {"mean": hidden.mean(0), "cls": hidden[0], "max": hidden.max(0).values}[mode]
        expected = (pooled / pooled.norm()).numpy()
        assert result.vector == pytest.approx(expected, abs=1e-5)


def test_images_are_classified_as_by_the_pipeline(compiled: Compile, tmp_path: Path) -> None:
    image_module = pytest.importorskip("PIL.Image", reason="Pillow is not installed")
    folder, bundle = compiled("ViTForImageClassification")
    classify = pipeline("image-classification", folder, top_k=3)
    generator = np.random.default_rng(0)
    pixels = generator.integers(0, 256, (45, 70, 3), dtype=np.uint8)
    image_module.fromarray(pixels).save(tmp_path / "image.ppm")
    expected = classify(str(tmp_path / "image.ppm"))
    with open_session(bundle.path, batch=2) as session:
        one = session.run(image=(tmp_path / "image.ppm").read_bytes())
        two = session.run_images([(70, 45, pixels.tobytes())] * 2)
        for result in (one, *two):
            assert [item.label for item in result.items] == [e["label"] for e in expected]
            scores = [item.score for item in result.items]
            assert scores == pytest.approx([e["score"] for e in expected], abs=1e-3)
        with pytest.raises(edgeopt_rt.Failure, match="is a model of images, not of texts"):
            session.run(text="a")
        with pytest.raises(edgeopt_rt.Failure, match="expected 70 x 45 x 3"):
            session.run(image=(70, 45, b"abc"))


@pytest.mark.parametrize("packed", [False, True])
def test_a_batch_gives_what_single_texts_give(
    compiled: Compile, tmp_path: Path, packed: bool
) -> None:
    from edgeopt.bundle.pack import pack

    _, bundle = compiled("BertForSequenceClassification")
    path = pack(bundle, tmp_path / "b.zip") if packed else bundle.path
    with open_session(path, batch=5) as many, open_session(path) as one:
        for count in (1, 2, 3, 5):
            results = many.run_texts(list(TEXTS[:count]))
            for text, result in zip(TEXTS, results, strict=False):
                single = one.run(text=text)
                assert result.label == single.label
                assert result.score == pytest.approx(single.score, abs=1e-5)
        with pytest.raises(
            edgeopt_rt.Failure, match="6 of them, the session was opened for 1 to 5"
        ):
            many.run_texts(["a"] * 6)


def test_sessions_of_one_bundle_run_in_threads(compiled: Compile) -> None:
    _, bundle = compiled("BertForSequenceClassification")
    (expected,) = edgeopt.read(bundle, TEXTS[:1]).results
    found: list[float] = []
    session = open_session(bundle.path)

    def work() -> None:
        with edgeopt_rt.Session(session.bundle) as own:
            found.extend(own.run(text=TEXTS[0]).score for _ in range(50))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    session.close()
    assert len(found) == 200
    assert found == pytest.approx([expected.items[0].score] * 200, abs=1e-6)


def test_tensors_by_hand(compiled: Compile) -> None:
    folder, bundle = compiled("BertForSequenceClassification")
    with quiet():
        import transformers

        network = transformers.AutoModelForSequenceClassification.from_pretrained(
            str(folder)
        ).eval()
    with open_session(bundle.path, seq_lens=[8, 20]) as session:
        session.select(1, 5)
        inputs = session.inputs()
        assert {name: array.shape for name, array in inputs.items()} == dict.fromkeys(
            inputs, (1, 8)
        )
        inputs["input_ids"][:] = [[2, 5, 6, 7, 3, 0, 0, 0]]
        inputs["attention_mask"][:] = [[1, 1, 1, 1, 1, 0, 0, 0]]
        inputs["token_type_ids"][:] = 0
        session.execute()
        with torch.inference_mode():
            expected = network(torch.tensor([[2, 5, 6, 7, 3]])).logits.numpy()
        assert session.outputs()["logits"] == pytest.approx(expected, abs=1e-5)
        with pytest.raises(edgeopt_rt.Failure, match="1 times 21 tokens is more than"):
            session.select(1, 21)


def test_onnxruntime_pads_no_single_text(compiled: Compile) -> None:
    """A text has its own length there; texts of one batch have the length that fits them all."""
    _, bundle = compiled("BertForSequenceClassification")

    def length(session: edgeopt_rt.Session, seq_len: int) -> int:
        session.select(1, seq_len)
        return int(session.inputs()["input_ids"].shape[1])

    with open_session(bundle.path, engine="onnx") as session:
        assert [length(session, n) for n in (1, 2, 17, 25, 37)] == [1, 2, 17, 25, 37]
        longest = length(session, 0)
        assert length(session, longest - 1) == longest - 1
    with open_session(bundle.path, engine="onnx", batch=2) as session:
        assert length(session, 17) > 17


def test_what_the_options_cannot_be_is_told(compiled: Compile) -> None:
    _, bundle = compiled("BertForSequenceClassification")
    for options, message in (
        ({"engine": "tpu"}, "the bundle has no tpu artifact"),
        ({"engine": "onnx", "precision": "int8"}, "the bundle has no onnx int8 artifact"),
        ({"threads": -1}, "expected up to 1024, found -1"),
        ({"batch": 5000}, "expected up to 1024, found 5000"),
        ({"seq_lens": [99]}, "onnx fp32 does not take 99 tokens"),
        ({"cpus": "1-"}, "expected CPUs such as 4-7 or 0,2, found 1-"),
        ({"cpus": "900"}, "900 cannot be set"),
        ({"options": {"speed": "1"}}, "unknown option of engine onnx"),
    ):
        with pytest.raises((InputError, BoardError), match=message):
            open_session(bundle.path, **options)
    with open_session(bundle.path, max_text_bytes=10) as session:
        with pytest.raises(edgeopt_rt.Failure, match="opened for up to 10"):
            session.run(text="a library for text")
        assert session.run(text="a library").label in checkpoints.LABELS
    with open_session(bundle.path, cpus="0") as session:
        assert session.run(text="a library").label in checkpoints.LABELS


def test_a_bundle_that_is_none_is_told(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="cannot be opened"):
        edgeopt.read(tmp_path / "absent", ["a"])


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Bundle]:
    """A checkpoint, and its bundle for every engine in FP32 and INT8."""
    folder = tmp_path_factory.mktemp("everywhere")
    checkpoint = checkpoints.write(folder / "checkpoint")
    return checkpoint, every_engine.bundle(checkpoint, folder / "b.edgeopt")


@pytest.fixture
def everywhere(classifier: tuple[Path, Bundle]) -> Bundle:
    return classifier[1]


def test_every_engine_reads_texts_like_pytorch(classifier: tuple[Path, Bundle]) -> None:
    folder, bundle = classifier
    classify = pipeline("text-classification", folder, top_k=None)
    engines = {a.engine for a in bundle.manifest.artifacts}
    assert platform.machine() != "x86_64" or len(engines) > 1
    for engine in engines:
        with open_session(bundle.path, engine=engine, precision="fp32") as session:
            assert session.engine == engine
            results = [session.run(text=text) for text in TEXTS[:3]]
        for text, result in zip(TEXTS[:3], results, strict=True):
            expected = classify(text)
            assert [i.label for i in result.items] == [e["label"] for e in expected]
            assert [i.score for i in result.items] == pytest.approx(
                [e["score"] for e in expected], abs=1e-4
            )


def test_neither_padding_nor_neighbours_enter_an_answer(everywhere: Bundle) -> None:
    texts = [*TEXTS[:4], "in " * 28]
    for entry in everywhere.manifest.artifacts:
        options = {"engine": entry.engine, "precision": entry.precision}
        # OpenVINO's float32 sums differ by shape: now and then by a step of a static range.
        most = 0.01 if entry.engine == "openvino" and entry.precision == "int8" else 1e-5
        with open_session(everywhere.path, **options) as session:
            alone = [scores(session.run(text=text)) for text in texts]
        with open_session(everywhere.path, seq_lens=[32], **options) as session:
            padded = [scores(session.run(text=text)) for text in texts]
        assert padded == [pytest.approx(one, abs=most) for one in alone], options
        if entry.artifact.main.seq_lens:  # one text at a time
            continue
        with open_session(everywhere.path, batch=4, **options) as session:
            for rows in ((0, 1), (1, 4, 2, 3), (3, 3, 4), (4, 0, 0, 4)):
                found = [scores(r) for r in session.run_texts([texts[row] for row in rows])]
                assert found == [pytest.approx(alone[row], abs=most) for row in rows], options


def scores(result: Any) -> dict[str, float]:
    return {item.label: item.score for item in result.items}


def packed_weights() -> tuple[set[str], set[str]]:
    """Return the memory files that hold packed weights here: shared ones, and LiteRT's own."""
    lines = Path("/proc/self/maps").read_text().splitlines()
    files = {(words[4], " ".join(words[5:])) for words in map(str.split, lines) if len(words) > 5}
    shared = {inode for inode, name in files if "memfd:edgeopt packed weights" in name}
    return shared, {inode for inode, name in files if "memfd:XNNPack" in name}


def test_sessions_of_one_bundle_share_the_weights_that_litert_packed(everywhere: Bundle) -> None:
    options = {"engine": "tflite", "precision": "fp32"}
    if all(a.engine != "tflite" for a in everywhere.manifest.artifacts):
        pytest.skip("LiteRT (edgeopt[tflite]) is not installed")
    with edgeopt_rt.Bundle(everywhere.path, library=str(build_for_host().library)) as bundle:
        before = packed_weights()
        with edgeopt_rt.Session(bundle, **options) as first:
            (file,) = packed_weights()[0] - before[0]
            answer = first.run(text=TEXTS[0]).items
            with edgeopt_rt.Session(bundle, **options) as second:
                assert second.run(text=TEXTS[0]).items == answer
                assert packed_weights() == (before[0] | {file}, before[1])
        with edgeopt_rt.Session(bundle, **options) as third:  # nobody is left who has the file
            assert third.run(text=TEXTS[0]).items == answer
            assert packed_weights()[0] - before[0] - {file}
        assert packed_weights() == before


def test_values_that_an_input_cannot_have_are_refused_by_every_engine(everywhere: Bundle) -> None:
    inputs = everywhere.manifest.main.signature.inputs
    limits = {spec.name: spec.limit for spec in inputs if spec.limit is not None}
    assert limits == {
        "input_ids": len(checkpoints.VOCABULARY),
        "attention_mask": 2,
        "token_type_ids": 2,
    }
    for entry in everywhere.manifest.artifacts:
        options = {"engine": entry.engine, "precision": entry.precision}
        with open_session(everywhere.path, **options) as session:
            session.select(1, 8)
            inputs = session.inputs()
            for array in inputs.values():
                array[:] = 1
            session.execute()
            expected = session.outputs()["logits"].copy()
            for name, limit in limits.items():
                for wrong in (limit, limit + 5, -1, 2**31 - 1, -(2**31)):
                    inputs[name][0, 3] = wrong
                    message = f"{name}.*holds {wrong} at 3, expected 0 to {limit - 1}"
                    with pytest.raises(edgeopt_rt.Failure, match=message) as caught:
                        session.execute()
                    assert caught.value.code == edgeopt_rt.INPUT
                inputs[name][0, 3] = limit - 1
                session.execute()
                inputs[name][0, 3] = 1
            session.execute()
            assert session.outputs()["logits"] == pytest.approx(expected, abs=1e-6)
