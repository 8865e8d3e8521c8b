# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Whisper from its checkpoint to text, by the commands and functions, against transformers."""

from __future__ import annotations

import json
import shutil
import wave
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import edgeopt
from edgeopt.errors import CompileError, InputError
from edgeopt.model import sounds
from edgeopt.runtime.build import build_for_host
from edgeopt.runtime.python import edgeopt_rt
from tests import generators
from tests.commands import edgeopt as command
from tests.programs import SANITIZED
from tests.runtime.generator_bundles import drive, edited, program

torch = pytest.importorskip("torch", reason="needs edgeopt[torch]")
pytest.importorskip("transformers", reason="needs edgeopt[torch]")
pytest.importorskip("onnxruntime", reason="needs edgeopt[onnx]")
pytest.importorskip("ziglang", reason="ziglang is not installed")

pytestmark = pytest.mark.heavy

RATE = 16000
SOUNDS = sounds.make_sounds(3)
SHORT = {"max_new_tokens": 20}


class Made:
    """A bundle in FP32 and INT8, and the network that it was made of."""

    def __init__(self, folder: Path, *, multilingual: bool = True, **options: Any) -> None:
        import transformers

        checkpoint = folder / "tiny"
        self.network = generators.write_whisper(checkpoint, multilingual=multilingual)
        self.tokenizer = transformers.AutoTokenizer.from_pretrained(checkpoint)
        self.extractor = transformers.WhisperFeatureExtractor.from_pretrained(checkpoint)
        self.bundle = edgeopt.compile(
            checkpoint,
            "host",
            output=folder / "tiny.edgeopt",
            precisions=["fp32", "int8"] if multilingual else ["fp32"],
            **options,
        )

    def open(self, **options: Any) -> Any:
        library = str(build_for_host().library)
        how = {"precision": "fp32", "threads": 1, "library": library} | options
        return edgeopt_rt.Generator(self.bundle.path, **how)

    def wanted(self, sound: np.ndarray, **options: Any) -> tuple[list[int], int]:
        """Return the tokens of generate(), and how many of these it begins with."""
        scaled = sound.astype(np.float32) / 32768
        given = self.extractor(scaled, sampling_rate=RATE, return_tensors="pt").input_features
        found = self.network.generate(
            given,
            do_sample=False,
            return_dict_in_generate=True,
            output_scores=True,
            **options,
        )
        every: list[int] = found.sequences[0].tolist()
        return every, len(every) - len(found.scores)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return Made(tmp_path_factory.mktemp("speech"))


@pytest.fixture
def generator(made: Made) -> Iterator[Any]:
    with made.open() as opened:
        yield opened


def test_a_bundle_says_how_its_answers_compare(made: Made) -> None:
    manifest = made.bundle.manifest
    assert (manifest.task.name, manifest.input.kind) == ("automatic-speech-recognition", "audio")
    fp32, int8 = (dict(a.generated or {}) for a in manifest.artifacts)
    assert fp32["texts_same"] == fp32["texts"] == 6
    assert fp32["greedy_same"] == fp32["greedy"] > 200
    assert manifest.artifacts[0].fidelity.cosine_min > 0.999999
    assert int8["steps"] == fp32["steps"]
    assert manifest.artifacts[1].fidelity.cosine_min > 0.9


HOW: list[dict[str, Any]] = [
    {},
    {"language": "de"},
    {"task": "translate"},
    {"language": "fr", "task": "translate"},
]


@pytest.mark.parametrize("how", HOW)
def test_tokens_are_those_of_transformers(how: dict[str, Any], made: Made, generator: Any) -> None:
    for sound in SOUNDS[:2]:
        every, count = made.wanted(sound, **how, **({} if not how else SHORT))
        found = generator.transcribe(sound, **how, max_tokens=20 if how else 0)
        assert found.tokens == every[count:]
        text = made.tokenizer.decode(found.tokens, skip_special_tokens=True)
        if "\ufffd" not in text:
            assert found.text == text
        language = {401: "en", 402: "de", 403: "fr"}[every[1]]
        assert generator.listen(sound, **how) == language
        assert generator.listen(sound.astype(np.float32) / 32768, **how) == language
        assert [generator.next()[1] for _ in range(5)] == found.tokens[:5]


def test_beams_are_those_of_transformers(made: Made) -> None:
    how = edgeopt.Sampling(num_beams=3, max_tokens=12)
    found = edgeopt.transcribe(
        made.bundle, SOUNDS[:2], language="de", precision="fp32", sampling=how
    )
    for sound, answer in zip(SOUNDS[:2], found.answers, strict=True):
        every, _ = made.wanted(sound, language="de", num_beams=3, max_new_tokens=12)
        assert list(answer.tokens) == every[-len(answer.tokens) :]


def test_a_network_of_one_language_has_no_choice(tmp_path: Path) -> None:
    """It is checked on a file of the user's own."""
    own = tmp_path / "own"
    own.mkdir()
    saved(own / "one.wav", SOUNDS[2])
    made = Made(tmp_path, multilingual=False, data=own)
    assert dict(made.bundle.manifest.artifacts[0].generated or {})["texts"] == 1
    with made.open() as opened:
        every, count = made.wanted(SOUNDS[0], **SHORT)
        assert opened.transcribe(SOUNDS[0], max_tokens=20).tokens == every[count:]
        assert opened.listen(SOUNDS[0]) is None
        with pytest.raises(edgeopt_rt.Failure, match="'de', expected none: it has one alone"):
            opened.transcribe(SOUNDS[0], language="de")


def test_the_same_sound_is_not_read_again(generator: Any) -> None:
    with pytest.raises(edgeopt_rt.Failure, match="has no samples, and none were read before"):
        generator.prompt_audio(None)
    first = generator.transcribe(SOUNDS[0], language="de")
    assert generator.transcribe(None, language="de") == first
    assert generator.transcribe(SOUNDS[1], language="de") != first
    generator.reset()
    with pytest.raises(edgeopt_rt.Failure, match="has no samples"):
        generator.transcribe(None, language="de")
    assert generator.transcribe(SOUNDS[0], language="de") == first


def test_the_cache_is_of_the_sound_and_the_answer(made: Made) -> None:
    row = 2 * 2 * 4 * 16 * 4  # keys and values, layers, heads, head, bytes
    with made.open(context=10, max_cache_bytes=110 * row) as opened:
        assert opened.cache_bytes == 10 * row + 100 * row
        assert len(opened.transcribe(SOUNDS[0], language="de").tokens) == 6
    with pytest.raises(edgeopt_rt.Failure, match="room for 9 tokens"):
        made.open(context=10, max_cache_bytes=110 * row - 1)


LOUD = np.zeros(2 * RATE, np.float32)
NAN = LOUD.copy()
NAN[77] = np.nan
WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "rate": ({"samples": LOUD, "rate": 8000}, "has 8000 samples a second, expected 16000"),
    "empty": ({"samples": LOUD[:0]}, "has 0 samples, expected 1 to 32000"),
    "long": ({"samples": np.zeros(32001, np.int16)}, "has 32001 samples, expected 1 to 32000"),
    "nan": ({"samples": NAN}, "sample 77 is not a number"),
    "infinite": ({"samples": [0.0, float("inf")]}, "sample 1 is not a number"),
    "stereo": ({"samples": np.zeros((2, 9), np.float32)}, "of format 'f' in 2 dimensions"),
    "bytes": ({"samples": b"abcd"}, "of format 'B' in 1 dimensions, expected int16 or floats"),
    "words": ({"samples": ["a"]}, "has samples that are not numbers"),
    "start": ({"samples": LOUD, "start": [400, 999]}, "holds 999 at 1, expected 0 to 410"),
    "no start": ({"samples": LOUD, "start": []}, "has 0 tokens, expected 1 to 79"),
    "penalty": ({"samples": LOUD, "repetition_penalty": -1.0}, "repetition_penalty"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_wrong_sound_is_refused_and_changes_nothing(kind: str, generator: Any) -> None:
    wrong, told = WRONG[kind]
    whole = generator.transcribe(SOUNDS[0], language="de", max_tokens=12)
    generator.listen(SOUNDS[0], language="de", max_tokens=12)
    begun = [generator.next() for _ in range(5)]
    with pytest.raises(edgeopt_rt.Failure) as caught:
        generator.prompt_audio(**wrong)
    assert caught.value.code == edgeopt_rt.INPUT
    assert told in str(caught.value)
    rest = [generator.next() for _ in range(8)]
    assert [token for _, token, _ in (*begun, *rest)][:12] == whole.tokens


def test_texts_and_unknown_languages_are_refused(generator: Any) -> None:
    for prompt in ("a", [5, 6]):
        with pytest.raises(edgeopt_rt.Failure, match="is of text, and this bundle takes sound"):
            generator.prompt(prompt)
    for what, name in (("language", "xx"), ("task", "sing")):
        with pytest.raises(edgeopt_rt.Failure, match=f"'{name}', expected one of") as caught:
            generator.transcribe(SOUNDS[0], **{what: name})
        assert caught.value.where == what


def test_no_state_is_kept(generator: Any) -> None:
    generator.prompt_audio(SOUNDS[0])
    with pytest.raises(edgeopt_rt.Failure, match="state: none is kept of sound"):
        generator.save()


def test_a_cancelled_answer_ends_and_the_next_is_right(generator: Any) -> None:
    whole = generator.transcribe(SOUNDS[0], language="de", max_tokens=9)
    generator.listen(SOUNDS[0], language="de", max_tokens=9)
    assert generator.next()[1] == whole.tokens[0]
    generator.cancel()
    assert generator.next()[1:] == (-1, "cancelled")
    assert generator.transcribe(SOUNDS[0], language="de", max_tokens=9) == whole


def saved(path: Path, sound: np.ndarray, rate: int = RATE, channels: int = 1) -> Path:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(sound.tobytes())
    return path


def test_files_are_written_down_by_the_command(made: Made, tmp_path: Path) -> None:
    path = saved(tmp_path / "a.wav", SOUNDS[0])
    words = ["run", made.bundle.path, path, "-p", "fp32", "--max-tokens", 6, "--json"]
    told = command(*words, "--language", "de", "--task", "translate")
    assert told.returncode == 0, told.stderr
    (answer,) = json.loads(told.stdout)["answers"]
    every, count = made.wanted(SOUNDS[0], language="de", task="translate", max_new_tokens=6)
    assert (answer["tokens"], answer["language"]) == (every[count:], "de")
    wrong = command("run", made.bundle.path, path, "--language", "xx")
    assert wrong.returncode == 2
    assert "language: is 'xx', expected one of de, en, fr" in wrong.stderr


def test_files_that_are_not_read_say_what_to_do(made: Made, tmp_path: Path) -> None:
    (tmp_path / "no.wav").write_bytes(b"RIFFabc")
    cases = {
        "has 1 channels of 16 bits at 8000 Hz": saved(tmp_path / "8k.wav", SOUNDS[0], 8000),
        "has 2 channels of 16 bits at 16000 Hz": saved(
            tmp_path / "2.wav", SOUNDS[0][:100], RATE, 2
        ),
        "has no samples": saved(tmp_path / "0.wav", SOUNDS[0][:0]),
        "has 2.5 s, expected up to 2 s": saved(tmp_path / "l.wav", np.zeros(40000, np.int16)),
        "is no WAV file that is read here": tmp_path / "no.wav",
        "cannot be read": tmp_path / "missing.wav",
    }
    for told, path in cases.items():
        with pytest.raises(InputError) as caught:
            edgeopt.transcribe(made.bundle, [path])
        assert caught.value.message.startswith(told)
        assert caught.value.where == str(path)


def test_other_engines_are_refused(made: Made, tmp_path: Path) -> None:
    checkpoint = made.bundle.path.parent / "tiny"
    with pytest.raises(CompileError, match="encoder-decoders are made for onnxruntime alone"):
        edgeopt.compile(checkpoint, "host", engines=["openvino"], output=tmp_path / "x")


def test_no_board_is_asked(made: Made) -> None:
    for words in (("run", made.bundle.path, "a.wav"), ("profile", made.bundle.path)):
        told = command(*words, "--board", "host")
        assert told.returncode == 2
        assert "writes down speech" in told.stderr


def test_other_data_is_refused(made: Made, tmp_path: Path) -> None:
    texts = tmp_path / "texts.txt"
    texts.write_text("a\nb\n")
    checkpoint = made.bundle.path.parent / "tiny"
    with pytest.raises(InputError, match=r"is no folder of .wav files, which tiny takes"):
        edgeopt.compile(checkpoint, "host", data=texts, output=tmp_path / "x")
    with pytest.raises(InputError, match="for which edgeopt has no figures yet"):
        edgeopt.evaluate_bundle(made.bundle, texts)


HOSTILE: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "rate": (
        lambda m: m["input"]["mel"].update(sample_rate=8000),
        "2 manifest.json: sample_rate: ",
    ),
    "no mel": (lambda m: m["input"].pop("mel"), "2 manifest.json: mel: "),
    "bins": (lambda m: m["input"]["mel"].update(bins=128), "3 run: "),
    "samples": (lambda m: m["input"]["mel"].update(samples=64000), "3 run: "),
    "text": (lambda m: m["input"].update(kind="text"), "2 manifest.json: input: "),
    "never first": (
        lambda m: m["generation"].update(never_first=[999]),
        "2 manifest.json: generation: token 999, expected 0 to 410",
    ),
}


def test_nothing_is_allocated_after_opening_and_no_bundle_harms(made: Made, tmp_path: Path) -> None:
    driver = program(*SANITIZED)
    before, after = drive(driver, made.bundle.path).split()
    assert int(before) > 10
    assert int(after) == 0
    for kind, (change, told) in HOSTILE.items():
        assert drive(driver, edited(made, tmp_path / kind, change)).startswith(told), kind
        shutil.rmtree(tmp_path / kind)
