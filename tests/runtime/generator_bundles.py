# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Bundles that generate, as they are or with another manifest, and a C program for them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import edgeopt
from edgeopt import cache
from edgeopt.bundle.manifest import _digest
from edgeopt.runtime.build import build_for_host, library_sources
from edgeopt.runtime.python import edgeopt_rt
from tests import generators
from tests.programs import compiled
from tests.runtime.allocations import COUNTER, WRAPPED


class Made:
    """A bundle, and the network and tokenizer that it was made of."""

    def __init__(
        self,
        folder: Path,
        family: str,
        tokenizer: Any = None,
        factor: float = 3.0,
        asked: Mapping[str, Any] | None = None,
        engines: Sequence[str] = ("onnx",),
    ) -> None:
        """Compile one of ``tests.generators``, in FP32.

        ``asked`` is what generation_config.json has besides, and ``factor`` is of an
        encoder-decoder's weights.
        """
        import transformers

        self.encodes = family in generators.ENCODER_DECODERS
        if self.encodes:
            self.network = generators.write_encoder_decoder(folder / family, family, factor)
            self.network.generation_config.update(**asked or {})
            self.network.generation_config.save_pretrained(folder / family)
        else:
            self.network = generators.write(folder / family, family, tokenizer)
        self.tokenizer = transformers.AutoTokenizer.from_pretrained(folder / family)
        self.bundle = edgeopt.compile(
            folder / family,
            "host",
            output=folder / f"{family}.edgeopt",
            engines=engines,
            precisions=["fp32"],
        )

    def open(self, **options: Any) -> Any:
        """Open the bundle in the runtime library, with one thread."""
        library = str(build_for_host().library)
        return edgeopt_rt.Generator(self.bundle.path, library=library, threads=1, **options)

    def greedy(self, ids: list[int], count: int, **options: Any) -> list[int]:
        """Return the tokens of generate()."""
        import torch

        given = torch.tensor([ids])
        found = self.network.generate(
            given,
            attention_mask=torch.ones_like(given),
            max_new_tokens=count,
            **{"do_sample": False, "pad_token_id": 0} | options,
        )
        answer: list[int] = found[0, 1 if self.encodes else len(ids) :].tolist()
        return answer


def program(*flags: str) -> Path:
    """Return generator_driver.c, compiled with the library and a count of allocations."""
    source = Path(__file__).with_name("generator_driver.c")
    return compiled("generator", *flags, *_driver(source), *library_sources(), *_LINKED)


_LINKED = ("-ldl", "-lm", "-pthread", *(f"-Wl,--wrap={name}" for name in WRAPPED))


def _driver(source: Path) -> list[Path]:
    text = COUNTER + source.read_text().split("*/\n", 1)[1]

    def build(folder: Path) -> None:
        (folder / "counted.c").write_text(text)

    return [cache.entry("test-source", cache.key(text=text), build) / "counted.c"]


def drive(driver: Path, bundle: Path) -> str:
    """Run it on ``bundle``; return what it wrote."""
    import onnxruntime

    place = Path(onnxruntime.__file__).parent / "capi"
    done = subprocess.run(
        [driver, str(bundle), str(place)],
        capture_output=True,
        text=True,
        env=os.environ | {"ASAN_OPTIONS": "detect_leaks=0"},
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout.strip()


def edited(made: Any, folder: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    """Return a copy of the bundle whose manifest is changed, as a whole."""
    shutil.copytree(made.bundle.path, folder)
    path = folder / "manifest.json"
    document = json.loads(path.read_text())
    change(document)
    document["digest"] = _digest(document)
    path.write_text(json.dumps(document))
    return folder
