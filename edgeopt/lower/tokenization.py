# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""The device's tokenizer, held against that of the user's own tool, before anything ships.

The agent tokenizes on this machine as the runtime does on a device; what it says of every text is
compared with transformers' tokenizer as it loads from the user's folder.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edgeopt import cache, closure, progress
from edgeopt.bundle.describe import describe, tokenizer_files
from edgeopt.bundle.write import write
from edgeopt.errors import CompileError
from edgeopt.lower.asking import ODD
from edgeopt.model import Model, importer, texts
from edgeopt.model.answer import Original, Text
from edgeopt.model.samples import Samples
from edgeopt.model.siglip_tokenizer import is_siglip
from edgeopt.model.tasks import QUESTION_ANSWERING, SEQUENCE_CLASSIFICATION, TOKEN_CLASSIFICATION
from edgeopt.quiet import quiet
from edgeopt.runtime.build import build_for_host, sources_digest
from edgeopt.target import Target

MOST_TEXTS = 4_000
"""Of the user's own, with which it takes a few seconds."""

PAIRS = 64
_MOST_BYTES = 65_536  # of one text, as the runtime takes by default
_TIMEOUT_S = 600.0
_OFFSETS = (TOKEN_CLASSIFICATION, QUESTION_ANSWERING)

HARD = (
    *ODD,
    " ",
    "\n",
    "it's don't I'M we'Ve you'll",
    "x" * 300,
    "3.14 1,000,000 ½ ²³ Ⅷ ٣",
    "ﬁ ﬂ Ａｂｃ ﾊﾛｰ ㎏ ℌ",
    "e\u0301 n\u0303 o\u0308 \u1e9b\u0323 \uac00\u11a8",
    "\u0000\u0001\u0007\u001f\u007f\u0085\u00ad\ufeff\ufffd",
    "a\u00a0b\u2002c\u3000d\u2028e\u200be\u200df",
    "\U0001f1e9\U0001f1ea \U0001f469\u200d\U0001f4bb \u2764\ufe0f \U0001f44d\U0001f3fd",
    "\U00020000\U0001d54f\u0301 \U0001f600\U0001f600",
    "नमस्ते ไทย עִבְרִית العربية မြန်မာ",
    "!@#$%^&*()_+-=[]{}|;':\",./<>? «» „“ – — … ₤€",
    "  two  blanks   three ",
    "UPPER lower MiXeD ǅ ß ẞ İ ı ſ Σς",
    "https://example.org/a_b?c=d&e=f#g name@example.org C:\\path\\file",
    "<b>bold</b> & &amp; <|x|> [x] {y}",
    "▁ ▁▁a b▁c ``quoted'' ''x <0x41> ﬁ\u0301 ™\u0308 \u0600\u06611 \ufdfa",
    "aaaaaaa ------- ....... ======= \r\n\r\n\t  x  \n",
)
"""Where tokenizers differ: normalization, blanks, control characters, scripts, joined marks."""


def check(
    model: Model, target: Target, original: Original, own: Samples | None, data: Path | str | None
) -> None:
    """Compare token by token. Raises CompileError with the text and the first token that differs.

    ``own`` are the user's texts, the first of the file ``data``. Raises CompileError as well if
    the runtime does not read such a tokenizer.
    """
    given = _given(model, original, own)
    key = cache.key(
        model=model.digest,
        source=importer.fingerprint(model.source) if model.source is not None else "",
        tool=original.name,
        texts=[_line(text) for text, _ in given],
        agent=sources_digest(),
        code=closure.code(__name__),
    )

    def build(directory: Path) -> None:
        with progress.step(f"Comparing tokens of {len(given)} texts with {original.name}"):
            _compare(model, target, original, given, data)

    cache.entry("tokens", key, build)


def _given(model: Model, original: Original, own: Samples | None) -> list[tuple[Text, int | None]]:
    """Return texts with the number that the user's own ones have, from 0."""
    mine = [str(text) for text in (own or ())][:MOST_TEXTS]
    shipped = texts.read_texts(None, 1_000)
    added = sorted(original.tokenizer.get_added_vocab())[:16]
    if is_siglip(original.tokenizer):  # no normaliser knows what stands before a text's own </s>
        progress.note(f"{model.name}: a text that has {' or '.join(added)} in it is read otherwise")
        added = []
    inside = [form for token in added for form in (token, f"a {token} b", f"a{token}b {token}.")]
    found: list[tuple[Text, int | None]] = [(text, i) for i, text in enumerate(mine)]
    found += [(text, None) for text in (*shipped, *HARD, *inside)]
    found = [(t, i) for t, i in found if len(str(t).encode("utf-8", "replace")) <= _MOST_BYTES]
    if model.task in (SEQUENCE_CLASSIFICATION, QUESTION_ANSWERING):
        firsts = [*HARD, *mine, *shipped][: PAIRS // 2] + list(shipped[: PAIRS // 2])
        # An empty second text is one to transformers in a list of pairs, and none in a single call.
        found += [((a, b), None) for a, b in zip(firsts, firsts[::-1], strict=True) if b]
    return found


def _line(text: Text) -> dict[str, str]:
    return {"text": text} if isinstance(text, str) else {"text": text[0], "pair": text[1]}


def _compare(
    model: Model,
    target: Target,
    original: Original,
    given: Sequence[tuple[Text, int | None]],
    data: Path | str | None,
) -> None:
    lines = [_line(text) for text, _ in given]
    with tempfile.TemporaryDirectory(prefix="edgeopt-tokens-") as scratch:
        place = Path(scratch) / "tokens.edgeopt"
        write(place, describe(model, target, ()), tokenizer_files(model))
        with quiet():  # tokenizers warn of what is longer than their limit
            whole = [_wanted(original, text, None) for text, _ in given]
        for limit in (None, model.text.max_seq_len):
            if limit and model.task == QUESTION_ANSWERING:  # it reads in windows, cut otherwise
                continue
            told = _asked(model, place, lines, limit)
            wanted = whole
            if limit:  # what has room is not cut
                with quiet():
                    wanted = [
                        uncut if len(uncut["ids"]) <= limit else _wanted(original, text, limit)
                        for uncut, (text, _) in zip(whole, given, strict=True)
                    ]
            for (text, number), theirs, ours in zip(given, wanted, told, strict=True):
                if wrong := _differs(model, theirs, ours):
                    where = _where(text, number, data)
                    cut = f", cut to {limit} tokens" if limit else ""
                    raise CompileError(
                        f"the device would read other tokens than {original.name}: {where}{cut}: "
                        f"{wrong}",
                        where=model.name,
                        hint="Save the tokenizer again with transformers' save_pretrained(); its "
                        "tokenizer.json is what the device reads.",
                    )


def _asked(
    model: Model, place: Path, lines: Sequence[dict[str, str]], limit: int | None
) -> list[dict[str, Any]]:
    """Return what the agent says of each line."""
    words = [str(build_for_host().agent), "tokens", "--bundle", str(place)]
    words += ["--seq-len", str(limit)] if limit else []
    done = subprocess.run(
        words,
        input="".join(json.dumps(line) + "\n" for line in lines).encode(),
        capture_output=True,
        timeout=_TIMEOUT_S,
        check=False,
    )
    events = [json.loads(line) for line in done.stdout.splitlines()]
    found = [event for event in events if event["event"] == "tokens"]
    wrong = next((e for e in events if e["event"] == "error"), None)
    if wrong is not None and not found:
        raise CompileError(
            f"the runtime on the device does not read this tokenizer: {wrong['message']}",
            where=f"{model.name}: {wrong['where']}",
            hint="Compile a copy of the folder without the tokenizer's files: such a bundle takes "
            "token ids, and your app makes them.",
        )
    if wrong is not None or len(found) != len(lines):
        raise CompileError(
            f"the runtime does not tokenize {_short(_text(lines[len(found)]))}"
            + (f": {wrong['message']}" if wrong else f" (it ended with {done.returncode})")
        )
    return found


def _text(line: dict[str, str]) -> Text:
    return (line["text"], line["pair"]) if "pair" in line else line["text"]


def _wanted(original: Original, text: Text, limit: int | None) -> dict[str, list[int]]:
    tokenizer = original.tokenizer
    first, second = (text, None) if isinstance(text, str) else text
    options: dict[str, Any] = {"truncation": True, "max_length": limit} if limit else {}
    encoded = tokenizer(first, second, return_offsets_mapping=tokenizer.is_fast, **options)
    found = {"ids": encoded["input_ids"]}
    if "token_type_ids" in encoded:
        found["types"] = encoded["token_type_ids"]
    if tokenizer.is_fast:
        sides = encoded.sequence_ids(0)
        bytes_to = [_bytes_before(side) for side in (first, second or "")]
        spans = list(zip(encoded["offset_mapping"], sides, strict=True))
        for name, at in (("begins", 0), ("ends", 1)):
            found[name] = [0 if s is None else bytes_to[s][span[at]] for span, s in spans]
    return found


def _bytes_before(text: str) -> list[int]:
    """Return how many bytes of UTF-8 stand before each character, and all of them."""
    if text.isascii():
        return list(range(len(text) + 1))
    found = [0]
    for character in text:
        found.append(found[-1] + len(character.encode("utf-8", "surrogatepass")))
    return found


def _differs(model: Model, wanted: dict[str, list[int]], found: dict[str, Any]) -> str:
    inputs = {spec.name for spec in model.main.signature.inputs}
    compared = ["ids"]
    if "token_type_ids" in inputs and "types" in wanted:
        compared.append("types")
    if model.task in _OFFSETS and "begins" in wanted:
        compared += ["begins", "ends"]
    for name in compared:
        a, b = wanted[name], found[name]
        at = next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), None)
        if at is None and len(a) != len(b):
            at = min(len(a), len(b))
        if at is not None:
            x, y = (str(side[at]) if at < len(side) else "nothing" for side in (a, b))
            what = {"ids": "id", "types": "type", "begins": "begin", "ends": "end"}[name]
            return f"token {at} has {what} {x}, on the device {y}"
    return ""


def _where(text: Text, number: int | None, data: Path | str | None) -> str:
    place = "" if number is None or data is None else f"{data}: line {_line_of(data, number)}, "
    return place + _short(text)


def _short(text: Text) -> str:
    shown = repr(text)
    return shown if len(shown) <= 80 else shown[:77] + "..."


def _line_of(data: Path | str, number: int) -> int:
    """Return the line of the user's text ``number``: blank ones do not count as texts."""
    lines = (i for i, line in enumerate(texts.lines(Path(data)), start=1) if line.strip())
    return next((line for i, line in enumerate(lines) if i == number), number + 1)
