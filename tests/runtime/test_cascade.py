# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Early exit on the device: cascade.json and two bundles through the runtime library."""

from __future__ import annotations

import ctypes
import itertools
import json
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import edgeopt
from edgeopt.errors import InputError
from edgeopt.run.cascade import _logits
from edgeopt.run.early_exit import Cascade, Part, confidence, load
from edgeopt.runtime.build import build_for_host, library_sources
from edgeopt.runtime.python import edgeopt_rt
from tests import checkpoints
from tests.lazily import lazily
from tests.programs import SANITIZED, compiled
from tests.runtime.allocations import COUNTER, WRAPPED

for name in ("torch", "transformers", "onnxruntime", "ziglang"):
    lazily(name, reason=f"needs {name}")

pytestmark = pytest.mark.heavy

TEXTS = tuple(" ".join(words) for words in itertools.permutations(checkpoints.WORDS, 2))
BATCH = 7  # TEXTS are not a multiple of it


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Two bundles of the same labels, what each makes of TEXTS, and a cascade of them."""

    small: edgeopt.Bundle
    large: edgeopt.Bundle
    alone: tuple[Any, Any]
    logits: np.ndarray
    cascade: Cascade

    def save(self, path: Path, **changes: Any) -> Path:
        replace(self.cascade, **changes).save(path)
        return path


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    folder = tmp_path_factory.mktemp("pair")
    made, parts = [], []
    for name, layers in (("small", 1), ("large", 2)):
        checkpoint = checkpoints.write(folder / name, num_hidden_layers=layers)
        bundle = edgeopt.compile(
            checkpoint, "host", output=folder / f"{name}.edgeopt", engines=["onnx"],
            precisions=["fp32"],
        )  # fmt: skip
        made.append(bundle)
        digest = bundle.manifest.digest
        parts.append(Part(name=name, digest=digest, engine="onnx", precision="fp32"))
    alone = tuple(edgeopt.read(bundle, TEXTS).results for bundle in made)
    return Pair(
        small=made[0],
        large=made[1],
        alone=(alone[0], alone[1]),
        logits=_logits(made[0], alone[0]),
        cascade=Cascade(
            first=parts[0], second=parts[1], temperature=1.0, threshold=0.5, max_drop=0.01,
            doubt=0.1, chosen_on=500, spoilt=1, measure="accuracy", early=0.5, accuracy=0.9,
            accuracy_first=0.8, accuracy_second=0.9, texts=500,
        ),
    )  # fmt: skip


@pytest.fixture(scope="module")
def opened(pair: Pair) -> Iterator[tuple[Any, Any]]:
    """Both bundles, opened by the binding."""
    library = str(build_for_host().library)
    places = (pair.small.path, pair.large.path)
    small, large = (edgeopt_rt.Bundle(path, library) for path in places)
    with small, large:
        yield small, large


def between(confidences: np.ndarray, share: float) -> float:
    """A threshold that about ``share`` of the texts do not reach, as far as can be from any."""
    ranked = np.sort(confidences)
    at = round(share * len(ranked))
    near = range(max(at - 5, 1), min(at + 6, len(ranked)))
    best = max(near, key=lambda i: ranked[i] - ranked[i - 1])
    assert ranked[best] - ranked[best - 1] > 1e-5
    return float(ranked[best] + ranked[best - 1]) / 2


@pytest.mark.parametrize("temperature", [0.31, 1.0, 4.7])
def test_it_decides_as_python_does(
    pair: Pair, opened: tuple[Any, Any], tmp_path: Path, temperature: float
) -> None:
    for share in (0.2, 0.5, 0.8):
        threshold = between(confidence(pair.logits, temperature), share)
        path = pair.save(tmp_path / "cascade.json", temperature=temperature, threshold=threshold)
        expected = edgeopt.read_cascade(pair.small, pair.large, path, TEXTS)
        assert abs(1 - sum(expected.early) / len(TEXTS) - share) < 0.05
        for batch in (1, BATCH):
            results, early = [], []
            with edgeopt_rt.Cascade(path, *opened, batch=batch) as cascade:
                for at in range(0, len(TEXTS), batch):
                    results += cascade.run_texts(TEXTS[at : at + batch])
                    early += cascade.early
            assert tuple(early) == expected.early
            for one, two in zip(results, expected.results, strict=True):
                assert [item.label for item in one.items] == [item.label for item in two.items]
                scores = [item.score for item in two.items]
                assert [item.score for item in one.items] == pytest.approx(scores, abs=1e-5)
                assert (one.tokens, one.truncated) == (two.tokens, two.truncated)


def test_a_score_of_0_is_no_infinite_certainty(
    pair: Pair, opened: tuple[Any, Any], tmp_path: Path
) -> None:
    checkpoint = checkpoints.write(tmp_path / "steep", initializer_range=30.0)
    steep = edgeopt.compile(
        checkpoint, "host", output=tmp_path / "s.edgeopt", engines=["onnx"], precisions=["fp32"]
    )
    part = replace(pair.cascade.first, digest=steep.manifest.digest)
    results = edgeopt.read(steep, TEXTS).results
    assert sum(r.items[1].score == r.items[2].score == 0 for r in results) > len(TEXTS) / 3
    # If a score of 0 stands for 1e-30, this is the confidence of such a text: log(1e-30) = -69.
    highest = 1 / (1 + 2 * np.exp(-69.07755 / 40))
    library = opened[0]._library._name
    for threshold, leave in ((highest - 1e-3, True), (highest + 1e-3, False)):
        path = pair.save(
            tmp_path / "cascade.json", first=part, temperature=40.0, threshold=threshold
        )
        expected = edgeopt.read_cascade(steep, pair.large, path, TEXTS)
        small = edgeopt_rt.Bundle(steep.path, library)
        with small, edgeopt_rt.Cascade(path, small, opened[1], batch=len(TEXTS)) as cascade:
            cascade.run_texts(TEXTS)
            assert tuple(cascade.early) == expected.early
            assert any(cascade.early) is leave


@pytest.mark.parametrize(("threshold", "leave"), [(0, True), (1.0001, False), (2.0, False)])
def test_all_or_none_leave_early(
    pair: Pair, opened: tuple[Any, Any], tmp_path: Path, threshold: float, leave: bool
) -> None:
    path = pair.save(tmp_path / "cascade.json", threshold=threshold)
    with edgeopt_rt.Cascade(path, *opened, batch=len(TEXTS)) as cascade:
        results = cascade.run_texts(list(TEXTS))
        assert cascade.early == [leave] * len(TEXTS)
        expected = pair.alone[0 if leave else 1]
        assert [r.label for r in results] == [r.items[0].label for r in expected]
        assert cascade.run("the tool", "a library").label in checkpoints.LABELS
    assert [r.items[0].label for r in pair.alone[0]] != [r.items[0].label for r in pair.alone[1]]


def test_where_none_may_leave_the_small_model_is_not_opened(
    pair: Pair, opened: tuple[Any, Any], tmp_path: Path
) -> None:
    absent = replace(pair.cascade.first, engine="tvm")
    path = pair.save(tmp_path / "cascade.json", first=absent, threshold=0.5)
    with pytest.raises(edgeopt_rt.Failure, match="small: the bundle has no tvm fp32 artifact"):
        edgeopt_rt.Cascade(path, *opened)
    pair.save(path, first=absent, threshold=1.5)
    with edgeopt_rt.Cascade(path, *opened) as cascade:
        assert cascade.run("the tool").label in checkpoints.LABELS
        assert cascade.early == [False]


def test_a_run_that_fails_leaves_no_results(
    pair: Pair, opened: tuple[Any, Any], tmp_path: Path
) -> None:
    path = pair.save(tmp_path / "cascade.json")
    with edgeopt_rt.Cascade(path, *opened, batch=2, max_text_bytes=20) as cascade:
        assert len(cascade.run_texts(["the tool", "a tool"])) == len(cascade.early) == 2
        for texts, message in (
            ([], "texts: 0 of them, the cascade was opened for 1 to 2"),
            (["a"] * 3, "texts: 3 of them, the cascade was opened for 1 to 2"),
            (["a", "a" * 21], r"text: has 21 bytes, the session was opened for up to 20"),
        ):
            with pytest.raises(edgeopt_rt.Failure, match=message):
                cascade.run_texts(texts)
            assert cascade.early == []
            assert not cascade._library.eo_cascade_result(cascade._handle, 0)
            assert cascade._library.eo_cascade_early(cascade._handle, 0) == 0


def refused(path: Path, opened: tuple[Any, Any], **options: Any) -> tuple[int, str]:
    with pytest.raises(edgeopt_rt.Failure) as caught:
        edgeopt_rt.Cascade(path, *opened, **options)
    return caught.value.code, str(caught.value)


def test_other_bundles_are_refused(pair: Pair, opened: tuple[Any, Any], tmp_path: Path) -> None:
    path = pair.save(tmp_path / "cascade.json")
    small, large = (part.digest[:12] for part in (pair.cascade.first, pair.cascade.second))
    assert refused(path, (opened[1], opened[0])) == (
        edgeopt_rt.INPUT,
        f"{path}: was found for the small bundle small {small}, but large {large} was given; find"
        " it for these bundles with: edgeopt cascade SMALL LARGE --data FILE",
    )
    assert refused(path, (opened[0], opened[0]))[1].startswith(
        f"{path}: was found for the large bundle large {large}, but small {small} was given; "
    )


@pytest.mark.parametrize(
    ("architecture", "changes", "message"),
    [
        (
            "BertForSequenceClassification",
            {"id2label": {0: "a", 1: "b"}, "label2id": {"a": 0, "b": 1}},
            "small: has 3 labels, but other has 2",
        ),
        (
            "BertForSequenceClassification",
            {
                "id2label": {0: "games", 1: "b", 2: "net"},
                "label2id": {"games": 0, "b": 1, "net": 2},
            },
            "small: has other labels than other: label 1 is libs, there b",
        ),
        (
            "BertForSequenceClassification",
            {"problem_type": "multi_label_classification"},
            "other: is for sequence-classification without softmax, but a cascade is for one label"
            " a text",
        ),
        (
            "DistilBertForQuestionAnswering",
            {},
            "other: is for question-answering, but a cascade is for one label a text",
        ),
    ],
)  # fmt: skip
def test_bundles_that_make_no_cascade_are_refused(
    pair: Pair,
    opened: tuple[Any, Any],
    tmp_path: Path,
    architecture: str,
    changes: dict[str, Any],
    message: str,
) -> None:
    checkpoint = checkpoints.write(tmp_path / "other", architecture, **changes)
    bundle = edgeopt.compile(
        checkpoint, "host", output=tmp_path / "o.edgeopt", engines=["onnx"], precisions=["fp32"]
    )
    other = replace(pair.cascade.second, digest=bundle.manifest.digest)
    path = pair.save(tmp_path / "cascade.json", second=other)
    with edgeopt_rt.Bundle(bundle.path, opened[0]._library._name) as found:
        assert refused(path, (opened[0], found)) == (edgeopt_rt.INPUT, message)


def test_options_that_contradict_it_are_refused(
    pair: Pair, opened: tuple[Any, Any], tmp_path: Path
) -> None:
    path = pair.save(tmp_path / "cascade.json")
    assert refused(path, opened, engine="tflite") == (
        edgeopt_rt.INPUT,
        "engine: is tflite, but the cascade was found for onnx of small; leave it NULL",
    )
    assert refused(path, opened, precision="int8") == (
        edgeopt_rt.INPUT,
        "precision: is int8, but the cascade was found for fp32 of small; leave it NULL",
    )
    assert refused(path, opened, threads=-1)[1] == "threads: expected up to 1024, found -1"
    with edgeopt_rt.Cascade(path, *opened, engine="onnx", precision="fp32") as cascade:
        assert cascade.run("the tool").label in checkpoints.LABELS


@pytest.mark.parametrize("more", [8 - ctypes.sizeof(edgeopt_rt._Options), 0, 64])
def test_options_of_another_header_are_taken(
    pair: Pair,
    opened: tuple[Any, Any],
    onnxruntime_library: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    more: int,
) -> None:
    monkeypatch.setenv("EDGEOPT_RT_LIBRARIES", str(onnxruntime_library))
    size = ctypes.sizeof(edgeopt_rt._Options) + more
    given = ctypes.create_string_buffer(size)
    given[:4] = size.to_bytes(4, "little")
    library, handle, failure = opened[0]._library, ctypes.c_void_p(), edgeopt_rt._Failure()
    options = ctypes.cast(given, ctypes.POINTER(edgeopt_rt._Options))
    path = os.fsencode(pair.save(tmp_path / "cascade.json"))
    rest = (opened[0]._handle, opened[1]._handle, options, ctypes.byref(handle), failure)
    assert library.eo_cascade_open(path, *rest) == 0, failure.message
    library.eo_cascade_close(handle)
    if more > 0:
        given[size - 1] = 1
        assert library.eo_cascade_open(path, *rest) == edgeopt_rt.UNSUPPORTED
        assert (failure.where, handle.value) == (b"options", None)


LARGEST = 2**53
NUMBERS = {"temperature": (1e-9, 1e9), "threshold": (0, 2)}
NUMBERS |= dict.fromkeys(("max_drop", "doubt", "early", "accuracy"), (0, 1))
NUMBERS |= dict.fromkeys(("accuracy_first", "accuracy_second"), (0, 1))
WHOLE = {"chosen_on": 1, "texts": 1, "spoilt": 0}


def wrong() -> Iterator[tuple[str, Any, str]]:
    """A key, a value that it must not have, and what is told."""
    for key, (low, high) in NUMBERS.items():
        told = f"{key}: expected a number from {low:g} to {high:.10g}, found "
        for value in (low - 0.001 - low * 1.1, high * 1.001, "0.5", None, True, [1]):
            yield key, value, told + json.dumps(value)
    for key, low in WHOLE.items():
        told = f"{key}: expected a whole number from {low} to {LARGEST}, found "
        for value in (low - 1, LARGEST + 1, 5.0, "5", False):
            yield key, value, told + json.dumps(value)
    for key in ("first", "second"):
        yield key, "small", f'{key}: expected an object, found "small"'
        yield key, {}, f"{key}.name: is missing, expected a string"
    yield "measure", "speed", 'measure: expected accuracy or same label, found "speed"'
    yield "measure", 1, "measure: expected accuracy or same label, found 1"
    yield (
        "schema_version",
        0,
        f"schema_version: expected a whole number from 1 to {LARGEST}, found 0",
    )
    yield "schema_version", 2, "schema version 2, this runtime reads 1"
    yield "thresold", 0.5, "thresold: unknown key"


def test_what_is_wrong_in_the_file_is_told(
    pair: Pair, opened: tuple[Any, Any], tmp_path: Path
) -> None:
    path = pair.save(tmp_path / "cascade.json")
    sound = json.loads(path.read_text())
    cases = [(sound | {key: value}, told) for key, value, told in wrong()]
    cases += [
        (
            {k: v for k, v in sound.items() if k != key},
            f"{key}: is missing, expected "
            + ("accuracy or same label" if key == "measure" else "a"),
        )
        for key in sound
    ]
    for part, key in itertools.product(("first", "second"), sound["first"]):
        for value, told in (
            (1, "a string, found 1"),
            (" ", 'some text, found " "'),
            ("a\0b", 'some text, found "a\\u0000b"'),
        ):
            changed = sound | {part: sound[part] | {key: value}}
            cases.append((changed, f"{part}.{key}: expected {told}"))
        cases.append((sound | {part: sound[part] | {"nmae": "x"}}, f"{part}.nmae: unknown key"))
    for document, told in cases:
        path.write_text(json.dumps(document))
        code, message = refused(path, opened)
        assert message.startswith(f"{path}: {told}"), (message, told)
        assert code == (edgeopt_rt.UNSUPPORTED if "runtime reads" in told else edgeopt_rt.INPUT)
        if "\\u0000" not in told:  # which only C takes for the end of a string
            with pytest.raises(InputError):
                load(path)


def test_numbers_at_the_ends_of_their_ranges_are_taken(
    pair: Pair, opened: tuple[Any, Any], tmp_path: Path
) -> None:
    for end in (0, 1):
        changes: dict[str, Any] = {key: float(ends[end]) for key, ends in NUMBERS.items()}
        changes |= {key: LARGEST if end else low for key, low in WHOLE.items()}
        path = pair.save(tmp_path / "cascade.json", **changes)
        with edgeopt_rt.Cascade(path, *opened) as cascade:
            assert cascade.run("the tool").label in checkpoints.LABELS


def test_a_file_that_is_none_is_told(pair: Pair, opened: tuple[Any, Any], tmp_path: Path) -> None:
    path = tmp_path / "cascade.json"
    missing = refused(path, opened)
    assert missing == (edgeopt_rt.FILE, f"{path}: cannot be opened (No such file or directory)")
    assert refused(tmp_path, opened) == (
        edgeopt_rt.FILE,
        f"{tmp_path}: cannot be read (Is a directory)",
    )
    text = pair.save(path).read_text()
    twice = text.replace('"doubt"', '"threshold": 0.1, "doubt"')
    for content, told in (
        ("", "is not JSON: cut off at byte 0"),
        ("[]", "expected a JSON object"),
        ("\N{ZERO WIDTH NO-BREAK SPACE}" + text, "is not JSON: expected a value at byte 0"),
        (text.replace("0.5", "NaN", 1), "is not JSON: expected a value"),
        (twice, "a key stands there twice"),
        (text + " " * 20_000, "is too long for what edgeopt cascade writes"),
    ):
        path.write_text(content)
        code, message = refused(path, opened)
        assert (code, message.startswith(f"{path}: {told}")) == (edgeopt_rt.INPUT, True), message


DRIVER = (
    COUNTER
    + r"""
static char text[4096], changed[4096];

static int opens(const char *path, size_t bytes, eo_bundle *small, eo_bundle *large,
                 eo_failure *failure)
{
    eo_cascade *cascade;
    FILE *file = fopen(path, "wb");
    if (file == NULL || fwrite(changed, 1, bytes, file) != bytes || fclose(file) != 0) {
        abort();
    }
    return eo_cascade_open(path, small, large, NULL, &cascade, failure);
}

int main(int argc, char **argv)
{
    eo_session_options options = EO_SESSION_OPTIONS;
    eo_failure failure;
    eo_bundle *small, *large;
    eo_cascade *cascade;
    FILE *file;
    size_t bytes;
    int before, after, left = 0;

    options.libraries = argv[4];
    options.batch = 5;
    if (argc != 6 || eo_bundle_open(argv[2], &small, &failure) != EO_OK ||
        eo_bundle_open(argv[3], &large, &failure) != EO_OK ||
        eo_cascade_open(argv[1], small, large, &options, &cascade, &failure) != EO_OK) {
        return printf("%s\n", failure.message), 1;
    }
    before = allocations;
    for (uint32_t i = 0; i < 40; i++) {
        eo_text texts[5];
        for (uint32_t j = 0; j < 5; j++) {
            const char *words = "the tool of a library and data in python for text to a tool";
            texts[j] = (eo_text){words + i % 7 + j, 3 + i, NULL, 0};
        }
        if (eo_cascade_run_texts(cascade, texts, 1 + i % 5, &failure) != EO_OK) {
            return printf("%s\n", failure.message), 1;
        }
        for (uint32_t j = 0; j < 1 + i % 5; j++) {
            left += (int)eo_cascade_early(cascade, j);
            if (eo_cascade_result(cascade, j)->item_count != 3) {
                return 1;
            }
        }
        if (eo_cascade_result(cascade, 1 + i % 5) != NULL) {
            return 1;
        }
    }
    after = allocations;
    eo_cascade_close(cascade);

    /* Cut off anywhere, and with any byte of it another. The large bundle is the wrong one, so that
     * what is still sound opens no session. */
    file = fopen(argv[1], "rb");
    bytes = file == NULL ? 0 : fread(text, 1, sizeof text, file);
    memcpy(changed, text, sizeof text);
    for (size_t i = 0; i + 2 < bytes; i++) {
        if (opens(argv[5], i, small, small, &failure) != EO_EINPUT ||
            strstr(failure.message, "is not JSON") == NULL) {
            return printf("%zu bytes: %s\n", i, failure.message), 1;
        }
    }
    for (size_t i = 0; i < bytes; i++) {
        static const char others[] = "\"-9{]e \\\x80";
        for (size_t j = 0; j < sizeof others; j++) {
            memcpy(changed, text, bytes);
            changed[i] = others[j];
            if (opens(argv[5], bytes, small, small, j % 2 ? &failure : NULL) == EO_OK) {
                return printf("byte %zu as %d\n", i, others[j]), 1;
            }
        }
    }
    eo_bundle_close(small);
    eo_bundle_close(large);
    fclose(file);
    printf("%d %d %d\n", before, after - before, left);
    return 0;
}
"""
)


def test_runs_allocate_nothing_and_no_damage_is_read(
    pair: Pair, onnxruntime_library: Path, tmp_path: Path
) -> None:
    source = tmp_path / "driver.c"
    source.write_text(DRIVER)
    wraps = [f"-Wl,--wrap={name}" for name in WRAPPED]
    libraries = ("-ldl", "-lm", "-lpthread")
    program = compiled("driver", *SANITIZED, *wraps, source, *library_sources(), *libraries)
    threshold = between(confidence(pair.logits, 1.0), 0.5)
    path = pair.save(tmp_path / "cascade.json", threshold=threshold)
    words = [program, path, pair.small.path, pair.large.path, onnxruntime_library]
    done = subprocess.run(
        [*words, tmp_path / "changed.json"],
        env=os.environ | {"HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    opening, running, early = map(int, done.stdout.split())
    assert opening > 10
    assert running == 0
    assert 0 < early < 40 * 3
