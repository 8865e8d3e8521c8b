# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""The tokenizer of the first SigLIP as one of the tokenizers library.

transformers runs it by sentencepiece, after a cleaning of its own (``SiglipTokenizer``): lower
case, no ASCII punctuation, white space collapsed. Each of that is a step of a normaliser, in the
same order, with sentencepiece's own after it.

Ids differ if a text has a special token's own (``</s>``), between two splittings of one score
(sentencepiece adds up in float32), and for marks that Unicode joins to what is before.
"""

from __future__ import annotations

import re
import string
import sys
from typing import Any

from edgeopt.extras import require
from edgeopt.quiet import quiet

_BLANK = "\u2581"  # how sentencepiece writes a space
_SIGMAS = "\u03c3\u03c2"
"""What Python makes of a capital sigma goes by its place in the word, and a step cannot tell; they
are the same only if a vocabulary has neither."""


def is_siglip(tokenizer: Any) -> bool:
    """Tell whether a tokenizer is the first SigLIP's."""
    return type(tokenizer).__name__ == "SiglipTokenizer"


def converted(tokenizer: Any) -> Any | None:
    """Return a ``tokenizers.Tokenizer`` with the ids of a ``SiglipTokenizer``.

    None for a tokenizer of another class, and for one whose vocabulary or settings no such file
    can hold: one that is not Unigram, with bytes for unknown characters, with blanks kept, or with
    a small sigma.
    """
    if not is_siglip(tokenizer):
        return None
    tokenizers: Any = require("tokenizers", "torch")
    with quiet():
        from transformers.convert_slow_tokenizer import import_protobuf

        held = import_protobuf().ModelProto()
    held.ParseFromString(tokenizer.sp_model.serialized_model_proto())
    trained, cleaned = held.trainer_spec, held.normalizer_spec
    plain = {held.SentencePiece.NORMAL, held.SentencePiece.UNKNOWN, held.SentencePiece.CONTROL}
    lowers = bool(tokenizer.do_lower_case)
    if (
        trained.model_type != trained.UNIGRAM
        or trained.byte_fallback
        or not cleaned.remove_extra_whitespaces
        or not cleaned.escape_whitespaces
        or not cleaned.precompiled_charsmap
        or any(piece.type not in plain for piece in held.pieces)
        or any(_BLANK in piece.piece[1:] for piece in held.pieces)
        or (lowers and any(set(_SIGMAS) & set(piece.piece) for piece in held.pieces))
    ):
        return None
    made = tokenizers.Tokenizer(
        tokenizers.models.Unigram(
            [(piece.piece, piece.score) for piece in held.pieces], trained.unk_id, False
        )
    )
    steps = tokenizers.normalizers
    collapsed = [steps.Replace(tokenizers.Regex(" {2,}"), " "), steps.Strip(False, True)]
    blanks = [_BLANK, *(c for c in map(chr, range(sys.maxunicode + 1)) if _is_blank(c))]
    made.normalizer = steps.Sequence(
        [
            steps.Prepend(" "),
            *([steps.Lowercase()] if lowers else []),
            *(steps.Replace(character, "") for character in string.punctuation),
            *(steps.Replace(character, " ") for character in blanks),
            *collapsed,
            steps.Precompiled(cleaned.precompiled_charsmap),
            *collapsed,
        ]
    )
    made.pre_tokenizer = tokenizers.pre_tokenizers.Metaspace(_BLANK, "never", True)
    end = str(tokenizer.eos_token)
    made.post_processor = tokenizers.processors.TemplateProcessing(
        single=f"$A {end}",
        pair=f"$A {end} $B {end}",
        special_tokens=[(end, tokenizer.eos_token_id)],
    )
    by_id = sorted(tokenizer.added_tokens_decoder.items())
    made.add_special_tokens([token for _, token in by_id])
    return made if all(made.token_to_id(str(token)) == i for i, token in by_id) else None


def _is_blank(character: str) -> bool:
    return character != " " and re.fullmatch(r"\s", character) is not None
