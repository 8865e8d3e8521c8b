# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Compile with a fault planted, verify what comes of it, and say what caught the fault."""

from __future__ import annotations

import contextlib
import importlib
import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from edgeopt import progress
from edgeopt.bundle import Bundle, open_bundle
from edgeopt.bundle.verify import verify
from edgeopt.errors import EdgeoptError
from edgeopt.model.importer import import_model
from edgeopt.pipeline import compile
from edgeopt.quiet import quiet
from edgeopt.target import Target, load_target
from tests import checkpoints, sentences
from tools.planted_faults.faults import Fault

LENGTHS = (16, 32)
_FRESH = ("artifact", "conversion", "judged", "layers", "reference", "answers", "tokens")
"""What of the cache is thrown away before a fault is planted: it has no key for one."""

CHECKS = (
    ("cosine", r"^cosine |: cosine "),
    ("layers", r"times what its 8 bits explain"),
    ("answers", r"answers differ from those of"),
    ("decisions", r"share of the same decisions"),
    ("order", r"rank correlation"),
    ("neighbours", r"same nearest neighbours"),
    ("context", r"padding, or others in a batch"),
    ("tokens", r"would read other tokens"),
    ("engine", r"cannot run this artifact|does not run it"),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """What became of a fault. ``caught`` is the check's name, "" if none did; ``said`` is the
    layer that the message names, and ``text`` the message."""

    fault: Fault
    caught: str
    said: str
    text: str

    @property
    def named(self) -> bool | None:
        """Whether the layer named is the one with the fault; None if there is none to name."""
        if not self.fault.layer or not self.caught:
            return None
        return self.said.startswith(self.fault.layer)


class Workshop:
    """Networks and a cache of their own in ``folder``. Close it: it changes the environment."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.cache = folder / "cache"
        self._before = os.environ.get("EDGEOPT_CACHE")
        os.environ["EDGEOPT_CACHE"] = str(self.cache)
        self._networks: dict[str, Path] = {}
        self._bundle: Path | None = None

    def close(self) -> None:
        """Leave the environment as it was."""
        os.environ.pop("EDGEOPT_CACHE", None)
        if self._before is not None:
            os.environ["EDGEOPT_CACHE"] = self._before

    def network(self, name: str) -> Path:
        """Return the checkpoint of this name, which is made the first time."""
        if name not in self._networks:
            self._networks[name] = _write(name, self.folder / name)
        return self._networks[name]

    def try_fault(self, fault: Fault) -> Outcome:
        """Plant one fault and return what caught it."""
        scratch = self.folder / "scratch"
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir(parents=True)
        target = host((fault.engine,))
        if fault.bundled is not None:
            return self._try_bundle(fault, target, scratch)
        self.forget()
        text = caught = ""
        told: list[str] = []
        try:
            source: Any = self.network(fault.network)
            if fault.imported is not None:
                source = fault.imported(import_model(source), scratch)
            with planted(fault), progress.listen(lambda event: told.append(event.text)):
                bundle = compile(
                    source,
                    target,
                    output=scratch / "made.edgeopt",
                    engines=[fault.engine],
                    precisions=[fault.precision],
                )
            text = verified(open_bundle(bundle.path))
            caught = "verify" if text else ""
        except EdgeoptError as exc:
            text = str(exc)
            caught = next((name for name, words in CHECKS if re.search(words, text, re.M)), "")
            caught = caught or f"refused ({type(exc).__name__})"
        finally:
            self.forget()
        return Outcome(fault=fault, caught=caught, said=_layer(text), text=text)

    def _try_bundle(self, fault: Fault, target: Target, scratch: Path) -> Outcome:
        assert fault.bundled is not None
        if self._bundle is None:
            self._bundle = compile(
                self.network(fault.network),
                target,
                output=self.folder / "sound.edgeopt",
                engines=["onnx"],
                precisions=["fp32"],
            ).path
        copy = scratch / "copy.edgeopt"
        shutil.copytree(self._bundle, copy)
        fault.bundled(copy)
        try:
            text = verified(open_bundle(copy))
        except EdgeoptError as exc:
            text = str(exc)
        kind = "hashes" if text.startswith("changed") else "verify"
        return Outcome(fault=fault, caught=kind if text else "", said="", text=text)

    def forget(self) -> None:
        """Throw away what the cache holds of a fault."""
        for kind in _FRESH:
            shutil.rmtree(self.cache / kind, ignore_errors=True)


def host(engines: tuple[str, ...]) -> Target:
    """Return the target ``host`` with but these engines."""
    whole = load_target("host")
    chosen = tuple(spec for spec in whole.engines if spec.engine in engines)
    return replace(whole, seq_lens=LENGTHS, engines=chosen)


@contextlib.contextmanager
def planted(fault: Fault) -> Iterator[None]:
    """Have the backend hand on what ``fault`` makes of its artifact, as the recipe asks for it.

    What is lowered with other options, or in another precision, to find the cause, is sound.
    """
    module: Any = importlib.import_module(f"edgeopt.backends.{fault.engine}")
    whole = module.lower

    def lower(
        model: Any, target: Any, spec: Any, precision: str, calls: Any, directory: Path, **more: Any
    ) -> Any:
        here = precision == fault.precision and not more
        if here and fault.calibrated is not None:
            calls = fault.calibrated(calls)
        artifact = whole(model, target, spec, precision, calls, directory, **more)
        if here and fault.lowered is not None:
            artifact = fault.lowered(model, artifact, directory)
        return artifact

    module.lower = lower
    try:
        yield
    finally:
        module.lower = whole


def verified(bundle: Bundle) -> str:
    """Return what ``edgeopt verify`` finds in a bundle, "" for nothing."""
    found = verify(bundle)
    if found.changed:
        return f"changed: {found.changed}"
    wrong = [a for a in found.artifacts if a.agrees is False or a.runtime is False]
    return "\n".join(a.reason or f"cosine {a.cosine_min}" for a in wrong)


def _layer(text: str) -> str:
    found = re.search(r"First layer to leave the reference: (\S+)", text)
    return found.group(1) if found else ""


def _write(name: str, folder: Path) -> Path:
    architectures = {
        "classifier": "BertForSequenceClassification",
        "roberta": "RobertaForSequenceClassification",
        "images": "DeiTForImageClassification",
    }
    if name == "embedder":
        body = checkpoints.write(folder.parent / "embedder-of", "BertModel")
        return sentences.write(folder, body=vary(body, "BertModel"))
    architecture = architectures[name]
    if name == "classifier":  # of the class that gives a pair's second text a type of its own
        checkpoints.write(folder, architecture)
        sentences.edit(folder / "tokenizer_config.json", tokenizer_class="BertTokenizer")
        return vary(folder, architecture)
    return vary(checkpoints.write(folder, architecture), architecture)


def vary(folder: Path, architecture: str, seed: int = 1) -> Path:
    """Give biases and normalisations values: at first all are 0 or 1, and a lost one unseen."""
    with quiet():
        import torch
        import transformers

        network = getattr(transformers, architecture).from_pretrained(folder)
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for name, parameter in network.named_parameters():
                if parameter.dim() == 1 or name.endswith("position_embeddings"):
                    noise = torch.randn(parameter.shape, generator=generator)
                    parameter.add_(0.2 * noise)
        network.save_pretrained(folder)
    return folder
