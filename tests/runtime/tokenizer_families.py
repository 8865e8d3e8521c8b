# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Tokenizers as the most used checkpoints have them, trained on our own texts.

Each family is a tokenizer.json whose parts, and their order and options, are those of its
checkpoints; the vocabulary is small. ``FAMILIES`` has a function for each that makes it.
"""

from __future__ import annotations

import base64
import copy
import io
import json
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest

from tests.runtime import tokenizer_texts as texts

tokenizers = pytest.importorskip("tokenizers", reason="the torch extra is not installed")

ROOT = Path(__file__).parents[2]
MASK = "▁"
GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
GPT4 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
CLIP = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
QWEN2 = GPT4.replace("{1,3}", "")

Json = dict[str, Any]


def _lines() -> Iterator[str]:
    yield from (line for text in texts.SHIPPED for line in text.splitlines() if line.strip())
    for path in sorted((ROOT / "docs").glob("*.md")):
        yield from (line for line in path.read_text("utf-8").splitlines() if line.strip())
    yield from (*texts.WORDS, "漢字 x" * 3)


@lru_cache(maxsize=1)
def _sentencepiece() -> tuple[list[list[Any]], str]:
    """Return the pieces and scores of a model that sentencepiece trains, and its charsmap."""
    trainer = pytest.importorskip("sentencepiece", reason="sentencepiece is not installed")
    from sentencepiece import sentencepiece_model_pb2

    made = io.BytesIO()
    trainer.SentencePieceTrainer.train(
        sentence_iterator=_lines(),
        model_writer=made,
        model_type="unigram",
        vocab_size=3000,
        hard_vocab_limit=False,
        normalization_rule_name="nmt_nfkc",
        minloglevel=2,
    )
    proto = sentencepiece_model_pb2.ModelProto()
    proto.ParseFromString(made.getvalue())
    pieces = [[piece.piece, piece.score] for piece in proto.pieces if piece.type == 1]
    charsmap = base64.b64encode(proto.normalizer_spec.precompiled_charsmap).decode()
    return pieces, charsmap


def pieces() -> list[list[Any]]:
    """Return the pieces and scores that families with a Unigram model have."""
    return copy.deepcopy(_sentencepiece()[0])


def precompiled() -> Json:
    """Return the normalizer that sentencepiece calls nmt_nfkc."""
    return {"type": "Precompiled", "precompiled_charsmap": _sentencepiece()[1]}


def added(id_: int, content: str, **flags: bool) -> Json:
    """Return an entry of ``added_tokens``; what is not said is false."""
    defaults = {"single_word": False, "lstrip": False, "rstrip": False}
    defaults |= {"normalized": False, "special": False}
    return {"id": id_, "content": content} | defaults | flags


def with_added(document: Json) -> Json:
    """Return a tokenizer with added tokens of every kind, after those that are there."""
    made = copy.deepcopy(document)
    vocabulary = made["model"]["vocab"]
    if isinstance(vocabulary, list):
        vocabulary = {piece: id_ for id_, (piece, _) in enumerate(vocabulary)}
    first = len(made["model"]["vocab"]) + sum(
        token["content"] not in vocabulary for token in made["added_tokens"]
    )
    extra = [
        ("Foo Bar", {"normalized": True}),
        ("solo", {"single_word": True}),
        ("SOLO", {"single_word": True, "normalized": True}),
        ("left", {"lstrip": True}),
        ("right", {"rstrip": True}),
        ("both", {"lstrip": True, "rstrip": True}),
        ("[MASK", {}),
        ("\ufffd!", {}),
        ("é", {"normalized": True, "lstrip": True}),
    ]
    for content, flags in extra:
        id_ = vocabulary.get(content, first)
        first += content not in vocabulary
        made["added_tokens"].append(added(id_, content, **flags))
    return made


def metaspace(scheme: str = "always", split: bool = True) -> Json:
    """Return the pre-tokenizer Metaspace."""
    return {
        "type": "Metaspace",
        "replacement": MASK,
        "prepend_scheme": scheme,
        "split": split,
    }


def sequence(kind: str, *parts: Json) -> Json:
    """Return a Sequence of normalizers or pretokenizers."""
    return {"type": "Sequence", kind: list(parts)}


def replace(content: str, *, string: str = "", regex: str = "") -> Json:
    """Return the normalizer Replace."""
    pattern = {"String": string} if string else {"Regex": regex}
    return {"type": "Replace", "pattern": pattern, "content": content}


def split(behavior: str, *, string: str = "", regex: str = "", invert: bool = False) -> Json:
    """Return the pre-tokenizer Split."""
    pattern = {"String": string} if string else {"Regex": regex}
    return {"type": "Split", "pattern": pattern, "behavior": behavior, "invert": invert}


def byte_level(prefix: bool = False, trim: bool = True, regex: bool = True) -> Json:
    """Return the pre-tokenizer, or post-processor, ByteLevel."""
    return {
        "type": "ByteLevel",
        "add_prefix_space": prefix,
        "trim_offsets": trim,
        "use_regex": regex,
    }


def template(single: str, pair: str, ids: dict[str, int]) -> Json:
    """Return a TemplateProcessing, of texts such as "<s> $A:0 </s>"."""
    made = tokenizers.processors.TemplateProcessing(
        single=single, pair=pair, special_tokens=list(ids.items())
    )
    bare = tokenizers.Tokenizer(tokenizers.models.WordLevel({"x": 0}, unk_token="x"))
    bare.post_processor = made
    return json.loads(bare.to_str())["post_processor"]


def document(model: Json, **parts: Any) -> Json:
    """Return a tokenizer.json."""
    made = {"version": "1.0", "truncation": None, "padding": None, "added_tokens": []}
    made |= {"normalizer": None, "pre_tokenizer": None, "post_processor": None, "decoder": None}
    return made | parts | {"model": model}


def unigram(vocabulary: list[list[Any]], unknown: int, byte_fallback: bool = False) -> Json:
    """Return a Unigram model."""
    return {
        "type": "Unigram",
        "unk_id": unknown,
        "vocab": vocabulary,
        "byte_fallback": byte_fallback,
    }


_WORDS = (
    {"type": "WhitespaceSplit"},
    metaspace(),
)
_ROBERTA = ("<s> $A </s>", "<s> $A </s> </s> $B </s>")
_BERT = ("[CLS]:0 $A:0 [SEP]:0", "[CLS]:0 $A:0 [SEP]:0 $B:1 [SEP]:1")


def xlm_roberta() -> Json:
    """Return the tokenizer of XLM-R, BGE-M3 and multilingual E5."""
    heads = [[token, 0.0] for token in ("<s>", "<pad>", "</s>", "<unk>")]
    vocabulary = [*heads, *pieces(), ["<mask>", 0.0]]
    tokens = [added(i, t[0], special=True) for i, t in enumerate(heads)]
    mask = added(len(vocabulary) - 1, "<mask>", special=True, lstrip=True)
    return document(
        unigram(vocabulary, 3),
        added_tokens=[*tokens, mask],
        normalizer=precompiled(),
        pre_tokenizer=sequence("pretokenizers", *_WORDS),
        post_processor=template(*_ROBERTA, {"<s>": 0, "</s>": 2}),
    )


def xlm_roberta_converted() -> Json:
    """Return the same as newer conversions write it; so do BigBird's and NLLB's."""
    steps = (
        precompiled(),
        {"type": "Strip", "strip_left": False, "strip_right": True},
        replace(MASK, regex=" {2,}"),
    )
    return xlm_roberta() | {
        "normalizer": sequence("normalizers", *steps),
        "pre_tokenizer": metaspace(),
    }


def albert() -> Json:
    """Return the tokenizer of ALBERT; XLNet's and RemBERT's normalize alike."""
    heads = [[token, 0.0] for token in ("<pad>", "<unk>", "[CLS]", "[SEP]", "[MASK]")]
    vocabulary = [*heads, *pieces()]
    for piece in vocabulary:  # as AlbertConverter does with "9,"
        if len(piece[0]) > 1 and piece[0][-1] == "," and piece[0][-2].isdigit():
            piece[1] -= 100
    tokens = [added(i, t[0], special=True) for i, t in enumerate(heads)]
    tokens[4] |= {"lstrip": True}
    steps = (
        replace('"', string="``"),
        replace('"', string="''"),
        {"type": "NFKD"},
        {"type": "StripAccents"},
        {"type": "Lowercase"},
        precompiled(),
        replace(" ", regex=" {2,}"),
    )
    return document(
        unigram(vocabulary, 1),
        added_tokens=tokens,
        normalizer=sequence("normalizers", *steps),
        pre_tokenizer=sequence("pretokenizers", *_WORDS),
        post_processor=template(*_BERT, {"[CLS]": 2, "[SEP]": 3}),
    )


def t5() -> Json:
    """Return the tokenizer of T5 and its 100 sentinels."""
    heads = [["<pad>", 0.0], ["</s>", 0.0], ["<unk>", 0.0]]
    vocabulary = [*heads, *pieces(), *([f"<extra_id_{i}>", 0.0] for i in range(99, -1, -1))]
    tokens = [added(i, t[0], special=True) for i, t in enumerate(heads)]
    first = len(vocabulary) - 100
    tokens += [added(first + i, vocabulary[first + i][0], special=True) for i in range(100)]
    return document(
        unigram(vocabulary, 2),
        added_tokens=tokens,
        normalizer=precompiled(),
        pre_tokenizer=sequence("pretokenizers", *_WORDS),
        post_processor=template("$A </s>", "$A </s> $B </s>", {"</s>": 1}),
    )


def camembert() -> Json:
    """Return the tokenizer of CamemBERT."""
    heads = [["<s>NOTUSED", 0.0], ["<pad>", 0.0], ["</s>NOTUSED", 0.0], ["<unk>", 0.0]]
    heads += [["<unk>NOTUSED", -100.0], ["<s>", 0.0], ["</s>", 0.0]]
    vocabulary = [*heads, *pieces(), ["<mask>", 0.0]]
    tokens = [added(i, heads[i][0], special=True) for i in (0, 1, 2, 3, 4, 5, 6)]
    mask = added(len(vocabulary) - 1, "<mask>", special=True, lstrip=True)
    return document(
        unigram(vocabulary, 3),
        added_tokens=[*tokens, mask],
        normalizer=precompiled(),
        pre_tokenizer=sequence("pretokenizers", *_WORDS),
        post_processor=template(*_ROBERTA, {"<s>": 5, "</s>": 6}),
    )


def deberta_v3() -> Json:
    """Return the tokenizer of DeBERTa-v3 as the hub's files have it."""
    heads = [[token, 0.0] for token in ("[PAD]", "[CLS]", "[SEP]", "[UNK]")]
    vocabulary = [*heads, *pieces()]
    tokens = [added(i, t[0], special=True, normalized=i == 3) for i, t in enumerate(heads)]
    tokens.append(added(len(vocabulary), "[MASK]", special=True))
    steps = (
        {"type": "Strip", "strip_left": True, "strip_right": True},
        precompiled(),
        replace(" ", regex=" {2,}"),
    )
    return document(
        unigram(vocabulary, 3),
        added_tokens=tokens,
        normalizer=sequence("normalizers", *steps),
        pre_tokenizer=sequence("pretokenizers", metaspace()),
        post_processor=template(*_BERT, {"[CLS]": 1, "[SEP]": 2}),
    )


def deberta_v2_saved() -> Json:
    """Return the tokenizer of DeBERTa-v2 as transformers 5 saves it, parting punctuation."""
    steps = (
        {"type": "Lowercase"},
        replace(" ", regex=r"\s{2,}|[\n\r\t]"),
        {"type": "NFC"},
        {"type": "Strip", "strip_left": False, "strip_right": True},
    )
    made = deberta_v3() | {"normalizer": sequence("normalizers", *steps)}
    made["pre_tokenizer"] = sequence(
        "pretokenizers", {"type": "Punctuation", "behavior": "Isolated"}, metaspace()
    )
    return made


@lru_cache(maxsize=2)
def _bpe(pre_tokenizer: str, normalizer: str, bytes_first: bool) -> Json:
    """Return a BPE model; its vocabulary begins with four special tokens, then has the bytes."""
    trained = tokenizers.Tokenizer.from_str(
        json.dumps(
            document(
                {"type": "BPE", "vocab": {}, "merges": []},
                pre_tokenizer=json.loads(pre_tokenizer),
                normalizer=json.loads(normalizer),
            )
        )
    )
    heads = ["<unk>", "<s>", "</s>", "<pad>"]
    alphabet: list[str] = []
    if bytes_first:
        heads += [f"<0x{byte:02X}>" for byte in range(256)]
    else:
        alphabet = tokenizers.pre_tokenizers.ByteLevel.alphabet()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=3000,
        special_tokens=heads,
        initial_alphabet=alphabet,
        limit_alphabet=400,
        show_progress=False,
    )
    trained.train_from_iterator(_lines(), trainer)
    return json.loads(trained.to_str())["model"]


def _characters() -> Json:
    """Return a BPE of characters, with the bytes to fall back to."""
    made = _bpe(
        json.dumps(split("MergedWithPrevious", string=MASK)),
        json.dumps(replace(MASK, string=" ")),
        True,
    )
    return copy.deepcopy(made) | {"unk_token": "<unk>", "fuse_unk": True, "byte_fallback": True}


def _bytes() -> Json:
    """Return a BPE of bytes."""
    return copy.deepcopy(_bpe(json.dumps(byte_level()), "null", False))


_LLAMA_TOKENS = [added(i, t, special=True) for i, t in enumerate(("<unk>", "<s>", "</s>"))]


def llama2() -> Json:
    """Return the tokenizer of Llama 2 and Mistral."""
    steps = ({"type": "Prepend", "prepend": MASK}, replace(MASK, string=" "))
    return document(
        _characters(),
        added_tokens=[dict(token) for token in _LLAMA_TOKENS],
        normalizer=sequence("normalizers", *steps),
        post_processor=template("<s> $A", "<s> $A <s>:1 $B:1", {"<s>": 1}),
    )


def llama2_saved() -> Json:
    """Return the same as transformers 5 saves it."""
    made = llama2() | {"normalizer": None, "pre_tokenizer": metaspace("first", split=False)}
    made["model"]["unk_token"] = None
    return made


def gemma() -> Json:
    """Return the tokenizer of Gemma, with line ends and tags as tokens."""
    model = _characters()
    first = len(model["vocab"])
    extra = ["\n\n", "\n\n\n", "▁▁", "▁▁▁▁", "<h1>", "</h1>", "<start_of_turn>"]
    tokens = [dict(token) for token in _LLAMA_TOKENS]
    used = set(model["vocab"])
    for content in extra:
        tokens.append(added(model["vocab"].get(content, first), content))
        first += content not in used
    return document(
        model,
        added_tokens=tokens,
        normalizer=replace(MASK, string=" "),
        pre_tokenizer=split("MergedWithPrevious", string=" "),
        post_processor=template("<s> $A", "<s> $A <s>:1 $B:1", {"<s>": 1}),
    )


def _llama3(pattern: str, normalizer: Json | None, ignore_merges: bool) -> Json:
    model = _bytes() | {"ignore_merges": ignore_merges}
    first = len(model["vocab"])
    tokens = [added(i, t, special=True) for i, t in enumerate(("<unk>", "<s>", "</s>"))]
    names = ("<|begin_of_text|>", "<|eot_id|>", "<|im_start|>")
    tokens += [added(first + i, t, special=True) for i, t in enumerate(names)]
    return document(
        model,
        added_tokens=tokens,
        normalizer=normalizer,
        pre_tokenizer=sequence(
            "pretokenizers", split("Isolated", regex=pattern), byte_level(regex=False)
        ),
        post_processor={
            "type": "Sequence",
            "processors": [
                byte_level(prefix=True, trim=False),
                template(
                    "<|begin_of_text|> $A",
                    "<|begin_of_text|> $A <|begin_of_text|>:1 $B:1",
                    {"<|begin_of_text|>": first},
                ),
            ],
        },
    )


def llama3() -> Json:
    """Return the tokenizer of Llama 3, which splits as GPT-4's does."""
    return _llama3(GPT4, None, True)


def qwen2() -> Json:
    """Return the tokenizer of Qwen 2, whose digits stand alone."""
    return _llama3(QWEN2, {"type": "NFC"}, False)


def gpt2() -> Json:
    """Return the tokenizer of GPT-2."""
    model = _bytes()
    model["merges"] = [" ".join(pair) for pair in model["merges"]]
    return document(
        model,
        added_tokens=[added(len(model["vocab"]), "<|endoftext|>", special=True)],
        pre_tokenizer=byte_level(),
        post_processor=byte_level(prefix=True, trim=False),
    )


def gpt2_split() -> Json:
    """Return the same with its regular expression written out."""
    splits = sequence("pretokenizers", split("Isolated", regex=GPT2), byte_level(regex=False))
    return gpt2() | {"pre_tokenizer": splits}


def modernbert() -> Json:
    """Return the tokenizer of ModernBERT and GPT-NeoX, with blanks as tokens."""
    model = _bytes()
    first = len(model["vocab"])
    blanks = [" " * n for n in range(24, 1, -1)]
    tokens = [added(first + i, blank, normalized=True) for i, blank in enumerate(blanks)]
    for name in ("[UNK]", "[CLS]", "[SEP]", "[PAD]", "[MASK]"):
        tokens.append(added(first + len(tokens), name, special=True, lstrip=name == "[MASK]"))
    ids = {token["content"]: token["id"] for token in tokens}
    return document(
        model,
        added_tokens=tokens,
        normalizer={"type": "NFC"},
        pre_tokenizer=byte_level(),
        post_processor=template(
            "[CLS] $A [SEP]",
            "[CLS] $A [SEP] $B [SEP]",
            {"[CLS]": ids["[CLS]"], "[SEP]": ids["[SEP]"]},
        ),
    )


def word_level() -> Json:
    """Return a tokenizer whose words are the tokens."""
    words = sorted({word for line in _lines() for word in line.lower().split()} | set("'.,-()"))
    vocabulary = {word: i for i, word in enumerate(["[UNK]", *words])}
    return document(
        {"type": "WordLevel", "vocab": vocabulary, "unk_token": "[UNK]"},
        added_tokens=[added(0, "[UNK]", special=True)],
        normalizer=sequence("normalizers", {"type": "NFKC"}, {"type": "Lowercase"}),
        pre_tokenizer={"type": "Whitespace"},
    )


def wordpiece() -> Json:
    """Return a WordPiece whose parts go on with another mark than ##, of short words."""
    trained = tokenizers.Tokenizer(tokenizers.models.WordPiece({"[UNK]": 0}, unk_token="[UNK]"))
    trained.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    trainer = tokenizers.trainers.WordPieceTrainer(
        vocab_size=3000,
        special_tokens=["[UNK]", "[CLS]", "[SEP]"],
        continuing_subword_prefix="@@",
        show_progress=False,
    )
    trained.train_from_iterator(_lines(), trainer)
    model = json.loads(trained.to_str())["model"]
    model |= {"continuing_subword_prefix": "@@", "max_input_chars_per_word": 12}
    steps = ({"type": "Nmt"}, {"type": "NFKD"}, {"type": "StripAccents"})
    return document(
        model,
        added_tokens=[added(1, "[CLS]", special=True), added(2, "[SEP]", special=True)],
        normalizer=sequence("normalizers", *steps),
        pre_tokenizer=sequence(
            "pretokenizers",
            {"type": "WhitespaceSplit"},
            {"type": "Punctuation", "behavior": "MergedWithNext"},
        ),
        post_processor=template(*_BERT, {"[CLS]": 1, "[SEP]": 2}),
    )


@lru_cache(maxsize=1)
def _suffixed() -> Json:
    """Return CLIP's model: bytes, of which the last of each word is marked."""
    trained = tokenizers.Tokenizer(tokenizers.models.BPE(end_of_word_suffix="</w>"))
    trained.normalizer = tokenizers.normalizers.Lowercase()
    trained.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = tokenizers.pre_tokenizers.ByteLevel.alphabet()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=3000,
        end_of_word_suffix="</w>",
        initial_alphabet=alphabet,
        show_progress=False,
    )
    trained.train_from_iterator(_lines(), trainer)
    made = json.loads(trained.to_str())["model"]
    for piece in (*(f"{byte}</w>" for byte in sorted(alphabet)), *CLIP_ENDS):
        made["vocab"].setdefault(piece, len(made["vocab"]))
    return made | {"unk_token": CLIP_ENDS[1], "continuing_subword_prefix": ""}


CLIP_ENDS = ("<|startoftext|>", "<|endoftext|>")


def clip() -> Json:
    """Return the tokenizer of CLIP as the hub's files have it."""
    model = copy.deepcopy(_suffixed())
    start, end = CLIP_ENDS
    return document(
        model,
        added_tokens=[
            added(model["vocab"][start], start, special=True, normalized=True),
            added(model["vocab"][end], end, special=True),
        ],
        normalizer=sequence(
            "normalizers", {"type": "NFC"}, replace(" ", regex=r"\s+"), {"type": "Lowercase"}
        ),
        pre_tokenizer=sequence(
            "pretokenizers", split("Removed", regex=CLIP, invert=True), byte_level()
        ),
        post_processor={
            "type": "RobertaProcessing",
            "sep": [end, model["vocab"][end]],
            "cls": [start, model["vocab"][start]],
            "trim_offsets": False,
            "add_prefix_space": False,
        },
    )


def clip_saved() -> Json:
    """Return the same as transformers 5 saves it, in which no byte is unknown."""
    made = clip()
    regex = rf"<\|startoftext\|>|<\|endoftext\|>|{CLIP}"
    made["pre_tokenizer"] = sequence(
        "pretokenizers", split("Removed", regex=regex, invert=True), byte_level()
    )
    for token in made["added_tokens"]:
        token["normalized"] = False
    return made


FAMILIES: dict[str, Callable[[], Json]] = {
    "xlm-roberta": xlm_roberta,
    "xlm-roberta-converted": xlm_roberta_converted,
    "albert": albert,
    "t5": t5,
    "camembert": camembert,
    "deberta-v3": deberta_v3,
    "deberta-v2-saved": deberta_v2_saved,
    "llama-2": llama2,
    "llama-2-saved": llama2_saved,
    "gemma": gemma,
    "llama-3": llama3,
    "qwen-2": qwen2,
    "gpt-2": gpt2,
    "gpt-2-split": gpt2_split,
    "modernbert": modernbert,
    "clip": clip,
    "clip-saved": clip_saved,
    "word-level": word_level,
    "wordpiece": wordpiece,
}
