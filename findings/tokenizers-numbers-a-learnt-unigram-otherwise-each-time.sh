#!/usr/bin/env bash
# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0

# tokenizers 0.23.3: UnigramTrainer learns the same pieces from the same texts, but gives them other ids
# in each process, on one thread too: a network that was trained with one run's file reads nonsense
# with another's. The ids of BpeTrainer are the same each time. Seen on 2026-12-01:
#   in 6 processes: bpe 1 numbering; unigram 1 set of pieces, several numberings
#
# Makes a temporary folder and venv, installs the pinned package, and exits with 1 if it is otherwise.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q tokenizers==0.23.3
export TOKENIZERS_PARALLELISM=false RAYON_NUM_THREADS=1

cat > "$folder/learn.py" <<'END'
import hashlib
import json
import random
import sys

from tokenizers import Tokenizer, models, pre_tokenizers, trainers

kind, order = sys.argv[1:]
draw = random.Random(0)
parts = ["sta", "ti", "on", "re", "lo", "mi", "ne", "tra", "ver", "is", "um", "ka", "pel", "do"]
words = ["".join(draw.choices(parts, k=draw.randint(1, 4))) for _ in range(400)]
texts = [" ".join(draw.choices(words, k=12)) for _ in range(200)]
how = {"vocab_size": 120, "special_tokens": ["?"], "show_progress": False}
if kind == "bpe":
    made, trainer = Tokenizer(models.BPE()), trainers.BpeTrainer(**how)
else:
    made, trainer = Tokenizer(models.Unigram()), trainers.UnigramTrainer(unk_token="?", **how)
made.pre_tokenizer = pre_tokenizers.Metaspace()
made.train_from_iterator(texts, trainer)
ids = made.get_vocab()
pieces = sorted(ids, key=ids.get if order == "by-id" else None)
print(hashlib.sha256(json.dumps(pieces).encode()).hexdigest())
END
several() {
  for _ in 1 2 3 4 5 6; do "$folder/venv/bin/python" "$folder/learn.py" "$@"; done | sort -u | wc -l
}
bpe=$(several bpe by-id) pieces=$(several unigram by-piece) unigram=$(several unigram by-id)
[ "$unigram" -gt 1 ] && unigram=several
echo "in 6 processes: bpe $bpe numbering; unigram $pieces set of pieces, $unigram numberings"
[ "$bpe $pieces $unigram" = "1 1 several" ]
