# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""The imported model: what came in, before anything is done to it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from edgeopt.model.audio import LogMel
from edgeopt.model.image import ImageInput
from edgeopt.model.network_call import FileSource
from edgeopt.model.onnx_call import OnnxFile
from edgeopt.model.pooling import Pooling
from edgeopt.model.search import PLAIN, Search
from edgeopt.model.signature import Signature, State
from edgeopt.model.tasks import Task
from edgeopt.values import Range

if TYPE_CHECKING:
    import torch

MAIN = "main"
"""The graph of a model that has one."""

SUFFIXES = (".onnx", ".tflite", ".keras", ".h5", ".hdf5", ".pt2", ".pt", ".pth", ".bin", ".ckpt",
            ".safetensors")  # fmt: skip
"""How files end that a model comes in."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class TorchSource:
    """A graph as a module in eval mode and FP32.

    It is called with the signature's inputs by position and returns a tuple of tensors in the
    order of the outputs. If it was ``exported`` by torch.export, sizes are symbols in it, which
    torch's older tracer does not follow. ``identity`` is a hash of all that the module was made of,
    "" if that is not known: what a converter makes of it can be kept under it.
    """

    module: torch.nn.Module
    exported: bool = False
    identity: str = ""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class OnnxSource:
    """A graph as an .onnx file: ``path`` has the signature's inputs and outputs.

    Artifacts are made of it. ``given`` is the file as it came, which is the reference, and how it
    is called.
    """

    path: Path
    given: OnnxFile


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Graph:
    """One graph of a model.

    Inputs are ``input_ids``, ``attention_mask`` and, if the model has them,
    ``token_type_ids``: int64, (batch, seq); for images ``pixel_values``: float32,
    (batch, 3, height, width), or (batch, height, width, 3) if the network was made so. Outputs are
    those of the task (``edgeopt.model.tasks``). If modules behind the network are part of it,
    feature extraction returns ``sentence_embedding`` (batch, size). ``states`` go from call to
    call.
    """

    source: TorchSource | OnnxSource | FileSource
    signature: Signature
    states: tuple[State, ...] = ()

    @property
    def is_torch(self) -> bool:
        """True if the graph is a module, which can be changed and trained."""
        return isinstance(self.source, TorchSource)

    @property
    def module(self) -> torch.nn.Module:
        """The module. Raises TypeError for a graph that is no PyTorch module."""
        if not isinstance(self.source, TorchSource):
            raise TypeError("a network in a file has no module")
        return self.source.module


@dataclass(frozen=True, kw_only=True, slots=True)
class TextInput:
    """How a text becomes the network's input.

    ``tokenizer`` is a directory with the tokenizer's files (``tokenizer.json``, ...), or None;
    ``pad_id`` is the token id that fills a text up to a length, where the mask is 0. ``seq_lens``
    are the only lengths that the model takes, () for all up to ``max_seq_len``. ``prompt`` is put
    before every text (of a pair before the first).
    """

    tokenizer: Path | None
    max_seq_len: int
    pad_id: int = 0
    seq_lens: tuple[int, ...] = ()
    prompt: str = ""

    kind: ClassVar[str] = "text"


@dataclass(frozen=True, kw_only=True, slots=True)
class AudioInput:
    """How sound becomes the network's input, and of which tokens the text is that it answers."""

    mel: LogMel
    text: TextInput

    kind: ClassVar[str] = "audio"


@dataclass(frozen=True, kw_only=True, slots=True)
class Speech:
    """What can be asked of a network that hears several languages.

    ``languages`` and ``tasks`` are tokens by name ("de"; "transcribe", "translate"). An answer
    begins with ``begin``, a language, a task, and ``end``. If it ``detects``, a language that is
    not named is the likeliest behind ``begin``.
    """

    languages: Mapping[str, Annotated[int, Range(0, 2**31 - 1)]]
    tasks: Mapping[str, Annotated[int, Range(0, 2**31 - 1)]]
    begin: Annotated[int, Range(0, 2**31 - 1)]
    end: tuple[Annotated[int, Range(0, 2**31 - 1)], ...]
    detects: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Forced:
    """The tokens of an encoder-decoder that are not chosen by their logits.

    The decoder begins with ``start``, which is no part of the answer; the answer begins with
    ``first``, and has ``last`` at the last place that there is room for. Tokens of ``never`` are
    not chosen, and those of ``never_first`` not for the answer's first. All are () for none.

    Of speech, ``start`` may have a language and a task in it; ``speech`` has the others.
    """

    start: tuple[int, ...] = ()
    first: tuple[int, ...] = ()
    last: tuple[int, ...] = ()
    never: tuple[int, ...] = ()
    never_first: tuple[int, ...] = ()
    speech: Speech | None = None


UNFORCED = Forced()


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Model:
    """A trained transformer with all that belongs to it.

    ``graphs`` are by name; a model of one graph has ``MAIN``. ``input`` is how a text, an image or
    sound becomes what the graphs take. ``pooling`` is how a sentence embedding is made of
    ``last_hidden_state``, if the checkpoint says so. ``stops`` are the tokens that end a generated
    text, ``forced`` those that are not chosen, and ``search`` is how an answer is found.
    ``activation`` makes scores of ``logits``: softmax, sigmoid, or none. ``origin`` tells where it
    came from (plain JSON values); ``digest`` is a SHA-256 of the weights, the configuration and
    the tokenizer. ``source`` is the folder, or the .onnx file, as the user's own tool would open
    it; None for a module made in Python.
    """

    name: str
    task: Task
    input: TextInput | ImageInput | AudioInput
    graphs: Mapping[str, Graph]
    labels: tuple[str, ...]
    activation: str
    pooling: Pooling | None
    stops: tuple[int, ...] = ()
    forced: Forced = UNFORCED
    search: Search = PLAIN
    source: Path | None = None
    origin: Mapping[str, Any]
    digest: str

    @property
    def main(self) -> Graph:
        """The one graph. Raises ValueError for a model that has others."""
        if set(self.graphs) != {MAIN}:
            raise ValueError(f"{self.name} has the graphs {', '.join(self.graphs)}")
        return self.graphs[MAIN]

    @property
    def module(self) -> torch.nn.Module:
        """The module of the one graph. Raises ValueError or TypeError if there is none."""
        return self.main.module

    @property
    def text(self) -> TextInput:
        """How a text becomes the input, or of which tokens the text is that sound becomes.

        Raises TypeError for a model of something else.
        """
        if isinstance(self.input, AudioInput):
            return self.input.text
        if not isinstance(self.input, TextInput):
            raise TypeError(f"{self.name} takes no texts, but an {self.input.kind}")
        return self.input

    def with_module(self, module: torch.nn.Module) -> Model:
        """Return this model with another module for its one graph."""
        return self.with_source(TorchSource(module=module))

    def with_source(self, source: TorchSource) -> Model:
        """Return this model with another source for its one graph."""
        return replace(self, graphs={MAIN: replace(self.main, source=source)})


def name_of(source: str | Path) -> str:
    """Return the name that the Model of ``source`` gets: the last part of its path or hub name.

    If that part is just ``model`` or ``pytorch_model``, it is the name of the folder around it.
    """
    path = Path(source)
    if path.is_file():  # a file of a hub's cache is a link to one that is named by its hash
        path = Path(os.path.abspath(path))
    elif path.exists():
        path = path.resolve()
    name = path.name
    for suffix in SUFFIXES:
        name = name.removesuffix(suffix)
    if name not in ("model", "pytorch_model") or not path.parent.name:
        return name
    # As Optimum and sentence-transformers lay it out: NAME/onnx/model.onnx.
    around = path.parent.parent if path.parent.name == "onnx" else path.parent
    return around.name or path.parent.name
