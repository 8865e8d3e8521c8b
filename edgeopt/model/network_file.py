# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Make a Model of a network in a file that is neither a checkpoint nor ``.onnx``.

Nothing that the file says of itself is believed: it is run in the tool that its user has, on
made-up texts or images, and what it answers decides. That run is the reference as well.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from edgeopt import cache, closure, progress
from edgeopt.errors import InputError
from edgeopt.model import (
    MAIN,
    Graph,
    Model,
    OnnxSource,
    TextInput,
    TorchSource,
    file_settings,
    image,
    name_of,
    onnx_file,
    onnx_outputs,
    sentence,
    tokenizer,
)
from edgeopt.model.image import CHANNELS, ImageInput
from edgeopt.model.network_call import FileSource, Network, Port, feeds_of
from edgeopt.model.onnx_call import POSITIONS, Feed
from edgeopt.model.onnx_outputs import Chosen, plain
from edgeopt.model.signature import Signature, TensorSpec
from edgeopt.model.tasks import (
    IMAGE_CLASSIFICATION,
    INPUTS,
    PIXELS,
    QUESTION_ANSWERING,
    activation,
)

_SHORT, _LONG = 8, 11  # tokens of the made-up texts; no size of a network is 11
_MOST_ROWS = 1 << 22  # of a table of tokens; the largest vocabularies have a quarter of a million
_LONGEST = 1 << 16
_PROBED = 1024
_SAME = 1e-3  # of the largest value: what padding may change
_SCORES = ("softmax", "sigmoid")


@dataclass(frozen=True, kw_only=True, slots=True)
class Opened:
    """A file to be imported.

    ``path`` is it, and ``home`` the file whose folder has config.json, tokenizer and
    preprocessor_config.json. ``network`` runs it. ``exact`` tells that the engine on the device
    gets the file as it is, so that nothing may be cast, added or left out. ``kind`` and ``files``
    (SHA-256 by name) are for the manifest, and ``source`` makes the graph's source of its inputs
    and of what was chosen of its outputs.
    """

    path: Path
    home: Path
    kind: str
    network: Network
    files: Mapping[str, str]
    source: Callable[[tuple[Feed, ...], Chosen], TorchSource | OnnxSource | FileSource]
    exact: bool = False
    tools: Mapping[str, str] | None = None


def import_network(opened: Opened, prompt: str | None = None) -> Model:
    """Return the Model of an opened file of texts or images.

    Inputs are token ids, and maybe the attention mask, token types and positions, (batch, seq),
    under any usual name; or pixels, (batch, height, width, 3) or (batch, 3, height, width).
    Outputs are those of a task, which names, shapes and config.json tell. Tokenizer, config.json
    and preprocessor_config.json are looked for as beside an ``.onnx`` file. Raises InputError if
    the file is not such a network, disagrees with config.json, or gives other answers for a padded
    text.
    """
    ranks = [len(port.dims) for port in opened.network.inputs]
    if ranks == [4]:
        if prompt is not None:
            raise InputError("a model of images has no prompts", where=str(opened.path))
        return _Images(opened).model()
    return _texts(opened, prompt)


def _texts(opened: Opened, prompt: str | None) -> Model:
    where, path = str(opened.path), opened.home
    home = file_settings.home_of(path)
    said = sentence.read(home, prompt)
    config = file_settings.read_config(said.body)
    if home.absolute() != path.absolute().parent:
        progress.note(f"{where}: its config.json and tokenizer are those of {home}")
    feeds, batch = _feeds(opened, config)
    fixed = opened.network.seq_lens
    folder = file_settings.tokens_home(path, said.body)
    tokens = tokenizer.collect(folder, lower=said.lower)
    if tokens is None:
        progress.note(f"{opened.path.name} has no tokenizer: it is checked on made-up token ids")
    limit = max(fixed) if fixed else file_settings.limit(config, folder, said)
    tried = (fixed[0], fixed[-1]) if fixed else (min(_SHORT, limit), min(_LONG, limit))
    probe = _Probe(opened.network, feeds, where)
    rows = {f.ours: probe.rows(f.ours, tried[0]) for f in feeds if f.ours in _TABLES}
    vocabulary = rows["input_ids"] or file_settings.number(config, "vocab_size")
    if tokens is not None and vocabulary:
        tokenizer.check_ids(tokens, vocabulary, where)
    pad_id = tokenizer.padding(tokens, vocabulary or 1 << 31, config.get("pad_token_id"))
    probe.take(vocabulary or 2, pad_id)
    runs = [(n, probe.run(n)) for n in dict.fromkeys(tried)]
    probe.check_same(*runs[0])
    chosen = onnx_outputs.choose(
        runs,
        architecture=file_settings.architecture(config),
        vocabulary=vocabulary or 2,
        task=None,
        where=where,
    )
    _check_outputs(opened, runs[0][1], chosen)
    if any(not np.isfinite(found[n]).all() for _, found in runs for n in chosen.given):
        raise InputError(
            f"{' or '.join(chosen.given)} is not finite for an ordinary text",
            where=where,
            hint="A weight is NaN or infinite, or the training diverged.",
        )
    if batch is None and (opened.exact or not probe.takes_two(tried[0], chosen)):
        batch = 1
    if not fixed or tried[-1] > tried[0]:
        probe.check_padding(tried[0], tried[-1], chosen)
    if not fixed:
        limit = probe.longest(limit)
    labels = file_settings.labels_of(config, said.body, chosen, where)
    ours = [f for f in feeds if f.used and f.ours != POSITIONS]
    first: int | str = batch or "batch"
    dims: tuple[int | str, ...] = (chosen.width,)
    if chosen.ours == chosen.task.outputs:  # no embedding in their place
        dims = tuple(chosen.width if dim == "width" else dim for dim in chosen.task.dims[1:])
    signature = Signature(
        inputs=tuple(
            TensorSpec(
                name=f.ours, dtype="int64", dims=(first, "seq"), limit=rows.get(f.ours) or None
            )
            for f in ours
        ),
        outputs=tuple(
            TensorSpec(name=n, dtype="float32", dims=(first, *dims)) for n in chosen.ours
        ),
    )
    return _made(
        opened,
        Model(
            name=name_of(opened.path),
            task=chosen.task,
            input=TextInput(
                tokenizer=tokens,
                max_seq_len=limit,
                pad_id=pad_id,
                seq_lens=fixed,
                prompt=said.prompt,
            ),
            graphs={MAIN: Graph(source=opened.source(feeds, chosen), signature=signature)},
            source=opened.path,
            labels=labels,
            activation=_activation(opened, chosen, labels, config, said.activation),
            pooling=file_settings.pooling_of(said, chosen, where),
            origin={},
            digest="",
        ),
        tokenizer=tokenizer.hashes(tokens) if tokens else {},
        pad_id=pad_id,
        beside=dict(said.files),
        prompt=said.prompt,
        limit=limit,
        outputs=list(chosen.given),
    )


_TABLES = ("input_ids", "token_type_ids")


def _made(opened: Opened, model: Model, **parts: Any) -> Model:
    """Return ``model`` with its origin and digest."""
    network = opened.network
    return replace(
        model,
        origin={
            "kind": opened.kind,
            "source": opened.path.name,
            "weights_sha256": dict(opened.files),
        }
        | ({"tools": dict(opened.tools)} if opened.tools else {}),
        digest=cache.key(
            kind=opened.kind,
            weights=dict(opened.files),
            tool=network.tool,
            task=model.task.name,
            labels=list(model.labels),
            signature=asdict(model.main.signature),
            activation=model.activation,
            code=closure.code(__name__, "edgeopt.model.importer"),
            **parts,
        ),
    )


def _feeds(opened: Opened, config: Mapping[str, Any]) -> tuple[tuple[Feed, ...], int | None]:
    """Return the inputs in our order, and the batch if it is fixed."""
    where, ports = str(opened.path), opened.network.inputs
    feeds: list[Feed] = []
    batches: set[int] = set()
    names = [port.name for port in ports]
    for port in ports:
        ours = onnx_file.SYNONYMS.get(plain(port.name), plain(port.name))
        if len(ports) == 1 and ours not in INPUTS and len(port.dims) == 2:
            ours = "input_ids"
        if ours not in (*INPUTS, POSITIONS) or ours in {f.ours for f in feeds}:
            shown = ", ".join(f"{p.name} {p.dtype} {_dims(p)}" for p in ports) or "none"
            raise InputError(
                f"inputs are {shown}; expected {', '.join(INPUTS[:2])} and maybe "
                f"{INPUTS[2]}, (batch, seq), or {PIXELS}, (batch, height, width, {CHANNELS})",
                where=where,
                hint="Name its inputs so. The runtime fills in texts and images, and no others.",
            )
        _check_dtype(port, ours, opened)
        if (batch := port.dims[0]) is not None:
            batches.add(batch)
        feeds.append(Feed(name=port.name, ours=ours, dtype=port.dtype))
    lengths = {port.dims[1] for port in ports}
    if None in lengths and (opened.exact or len(lengths) > 1):
        raise InputError(
            "takes texts of any length"
            if len(lengths) == 1
            else "its inputs are of different lengths",
            where=where,
            hint="The runtime runs a .tflite file at the lengths that it was converted for: "
            "convert it again with a fixed one, such as (1, 128)."
            if opened.exact
            else "Save it with the same length for all.",
        )
    if opened.exact and POSITIONS in {f.ours for f in feeds}:
        raise InputError(
            f"takes {POSITIONS}, which the runtime does not fill in",
            where=where,
            hint="Convert it again without this input: the network then makes them itself.",
        )
    onnx_file.check_feeds(
        feeds, names, batches, {n for n in lengths if n and n > _LONGEST}, config, where
    )
    if changed := [f for f in feeds if f.name != f.ours]:
        progress.note(
            f"{where}: input {', '.join(f.name for f in changed)} is taken as "
            + ", ".join(f.ours for f in changed)
        )
    order = (*INPUTS, POSITIONS)
    return tuple(sorted(feeds, key=lambda f: order.index(f.ours))), next(iter(batches), None)


def _check_dtype(port: Port, ours: str, opened: Opened) -> None:
    taken = ("int64", "int32") if opened.exact else ("int64", "int32", "float32")
    if port.dtype not in ("bool", "float16") and ours == "attention_mask" and not opened.exact:
        return
    if port.dtype not in taken or len(port.dims) != 2:
        raise InputError(
            f"input {port.name} is {port.dtype} {_dims(port)}; expected "
            f"{' or '.join(taken[:2])} (batch, seq)",
            where=str(opened.path),
            hint="The tokenizer stands beside the network in its own files."
            if port.dtype == "string"
            else "The runtime fills in ids, masks and types as integers."
            if opened.exact
            else None,
        )


def _dims(port: Port) -> str:
    return "(" + ", ".join("?" if n is None else str(n) for n in port.dims) + ")"


def _check_outputs(opened: Opened, found: Mapping[str, np.ndarray], chosen: Chosen) -> None:
    """Raise InputError if the engine on the device would give more than the task has."""
    extra = [name for name in found if name not in chosen.given]
    if not opened.exact or not (extra or chosen.column):
        return
    raise InputError(
        f"gives {', '.join(extra)} besides {', '.join(chosen.given)}"
        if extra
        else f"gives a score a text, (batch,), in {chosen.given[0]}; expected (batch, 1)",
        where=str(opened.path),
        hint=f"The runtime reads the outputs of {chosen.task} alone ({', '.join(chosen.ours)}): "
        "convert it again with these.",
    )


def _activation(
    opened: Opened,
    chosen: Chosen,
    labels: Sequence[str],
    config: Mapping[str, Any],
    function: str | None = None,
) -> str:
    """Return what makes scores of the logits: nothing if the network has done so."""
    if chosen.task.labelled and opened.network.operator(chosen.given[0]) in _SCORES:
        progress.note(
            f"{opened.path}: {chosen.given[0]} are scores already, which nothing is done to"
        )
        return "none"
    if function is not None:
        raise InputError(
            f"its scores are made by {function}, which is not in the graph", where=str(opened.path)
        )
    return activation(chosen.task, len(labels), config.get("problem_type"))


class _Probe:
    """Runs the network on made-up texts."""

    def __init__(self, network: Network, feeds: tuple[Feed, ...], where: str) -> None:
        self._network, self._feeds, self._where = network, feeds, where
        self._rows, self._pad_id = 2, 0

    def take(self, rows: int, pad_id: int) -> None:
        """Have the texts made of ``rows`` ids, none of them the padding's."""
        self._rows, self._pad_id = rows, pad_id

    def rows(self, name: str, tokens: int) -> int:
        """Return the rows of the table in which ids are looked up: the least id that is refused.

        0 if none is. Networks without bounds checks (those of a GPU) refuse none.
        """

        def takes(value: int) -> bool:
            batch = self._batch(tokens, tokens, 1)
            batch[name] = np.zeros_like(batch[name])
            batch[name][0, 0] = value
            return self._tried(batch) is not None

        if not takes(0):
            self._fail(tokens, 1, self._batch(tokens, tokens, 1))
        high = 2
        while takes(high):
            if high >= _MOST_ROWS:
                return 0
            high *= 2
        low = high // 2 if takes(high // 2) else 0
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if takes(middle) else (low, middle)
        return high

    def _batch(self, tokens: int, length: int, texts: int) -> dict[str, np.ndarray]:
        ids = (np.arange(texts * length, dtype=np.int64) * 7 + 5) % self._rows
        ids[ids == self._pad_id] = (self._pad_id + 1) % self._rows
        rows, mask = ids.reshape(texts, length), np.ones((texts, length), np.int64)
        rows[:, tokens:], mask[:, tokens:] = self._pad_id, 0
        return {"input_ids": rows, "attention_mask": mask, "token_type_ids": np.zeros_like(rows)}

    def _tried(self, batch: Mapping[str, np.ndarray]) -> dict[str, np.ndarray] | None:
        try:
            return self._network.run(feeds_of(self._feeds, batch))
        # Each tool raises its own, without a common base.
        except Exception:  # noqa: BLE001
            return None

    def _fail(self, tokens: int, texts: int, batch: Mapping[str, np.ndarray]) -> None:
        try:
            self._network.run(feeds_of(self._feeds, batch))
        # As above.
        except Exception as exc:
            lines = str(exc).strip().splitlines() or [type(exc).__name__]
            raise InputError(
                f"{self._network.tool} cannot run it on {texts} text of {tokens} tokens "
                f"({re.sub(r'/[^ ]*/', '', lines[0])[:240]})",
                where=self._where,
                hint="Save it again; dimensions declared free must be free inside as well.",
            ) from exc

    def run(self, tokens: int, *, padded: int = 0, texts: int = 1) -> dict[str, np.ndarray]:
        """Return all outputs by the file's names; ``padded`` is the length with padding."""
        batch = self._batch(tokens, padded or tokens, texts)
        found = self._tried(batch)
        if found is None:
            self._fail(tokens, texts, batch)
            raise InputError("gives an answer only sometimes", where=self._where)
        return found

    def check_same(self, tokens: int, first: Mapping[str, np.ndarray]) -> None:
        """Raise InputError if the same text gives other answers a second time."""
        again = self.run(tokens)
        if any(not np.array_equal(first[n], again[n], equal_nan=True) for n in first):
            raise InputError(
                "gives other answers when the same text is read again",
                where=self._where,
                hint="Save it as it is used for inference (training=False, model.eval()).",
            )

    def takes_two(self, tokens: int, chosen: Chosen) -> bool:
        """Tell whether two texts at once give what each gives alone."""
        two = self._tried(self._batch(tokens, tokens, 2))
        if two is None:
            return False
        one = self.run(tokens)
        return all(two[n].shape[:1] == (2,) and _near(two[n][:1], one[n]) for n in chosen.given)

    def check_padding(self, tokens: int, padded: int, chosen: Chosen) -> None:
        """Raise InputError if padding, which a device adds, changes the answer."""
        alone, more = self.run(tokens), self.run(tokens, padded=padded)
        by_token = chosen.task == QUESTION_ANSWERING or alone[chosen.given[0]].ndim == 3
        for name in chosen.given:
            found = more[name][:, :tokens] if by_token else more[name]
            if not _near(found, alone[name]):
                masked = any(f.ours == "attention_mask" for f in self._feeds)
                raise InputError(
                    "gives another answer for a padded text"
                    + ("" if masked else ": it takes no attention_mask"),
                    where=self._where,
                    hint="A device pads texts to a few lengths. Save it again with an "
                    "attention_mask that leaves padding out.",
                )

    def longest(self, limit: int) -> int:
        """Return the most tokens up to ``limit`` that a text may have."""

        def takes(tokens: int) -> bool:
            return self._tried(self._batch(tokens, tokens, 1)) is not None

        if limit > _PROBED or takes(limit):
            return limit
        low, high = min(_SHORT, limit), limit
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if takes(middle) else (low, middle)
        progress.note(f"{self._where}: takes at most {low} tokens")
        return low


def _near(found: np.ndarray, expected: np.ndarray) -> bool:
    if found.shape != expected.shape:
        return False
    scale = max(float(np.abs(expected).max(initial=0.0)), 1e-6)
    return bool(np.abs(found - expected).max(initial=0.0) <= _SAME * scale)


class _Images:
    """Imports a network that takes one image."""

    def __init__(self, opened: Opened) -> None:
        self._opened = opened
        (self._port,) = opened.network.inputs
        self._where = str(opened.path)

    def model(self) -> Model:
        """Return the Model. Raises InputError if it is no classifier of RGB images."""
        opened = self._opened
        home = file_settings.home_of(opened.home)
        if (opened.home.parent / image.FILE).is_file():
            home = opened.home.parent
        config = file_settings.read_config(home)
        spec = image.read_spec(home, str(config.get("model_type", "")))
        last, batch = self._layout(spec)
        feeds = (Feed(name=self._port.name, ours=PIXELS, dtype=self._port.dtype),)
        sides = (spec.height, spec.width)
        dims = (*sides, CHANNELS) if last else (CHANNELS, *sides)
        one = self._run(feeds, 1, dims)
        chosen = self._choose(one)
        _check_outputs(opened, one, chosen)
        again = self._run(feeds, 1, dims)
        if not np.array_equal(one[chosen.given[0]], again[chosen.given[0]]):
            raise InputError(
                "gives other answers when the same image is seen again",
                where=self._where,
                hint="Save it as it is used for inference (training=False, model.eval()).",
            )
        if batch is None and (opened.exact or not self._takes_two(feeds, dims, one, chosen)):
            batch = 1
        labels = file_settings.labels_of(config, home, chosen, self._where)
        first: int | str = batch or "batch"
        signature = Signature(
            inputs=(TensorSpec(name=PIXELS, dtype="float32", dims=(first, *dims)),),
            outputs=(TensorSpec(name=chosen.ours[0], dtype="float32", dims=(first, chosen.width)),),
        )
        return _made(
            opened,
            Model(
                name=name_of(opened.path),
                task=IMAGE_CLASSIFICATION,
                input=spec,
                graphs={MAIN: Graph(source=opened.source(feeds, chosen), signature=signature)},
                source=opened.path,
                labels=labels,
                activation=_activation(opened, chosen, labels, config),
                pooling=None,
                origin={},
                digest="",
            ),
            image=asdict(spec),
            outputs=list(chosen.given),
        )

    def _layout(self, spec: ImageInput) -> tuple[bool, int | None]:
        """Return whether the channels stand last, and the batch if it is fixed."""
        port, dims = self._port, self._port.dims
        sides = (spec.height, spec.width)
        for last, shape in ((False, (CHANNELS, *sides)), (True, (*sides, CHANNELS))):
            free = [i for i, n in enumerate(dims[1:]) if n is None]
            fits = all(n in (None, m) for n, m in zip(dims[1:], shape, strict=True))
            if fits and dims[0] in (None, 1) and port.dtype == "float32":
                if dims[3 if last else 1] != CHANNELS or (free and self._opened.exact):
                    continue
                return last, dims[0]
        raise InputError(
            f"its input {port.name} is {port.dtype} {_dims(port)}; {image.FILE} makes images of "
            f"float32 (1, {spec.height}, {spec.width}, {CHANNELS}) or "
            f"(1, {CHANNELS}, {spec.height}, {spec.width})",
            where=self._where,
            hint="Put the preprocessor_config.json beside it that the network was trained with.",
        )

    def _run(
        self, feeds: tuple[Feed, ...], count: int, dims: Sequence[int]
    ) -> dict[str, np.ndarray]:
        generator = np.random.default_rng(0)
        pixels = generator.uniform(-1, 1, (count, *dims)).astype(np.float32)
        try:
            return self._opened.network.run(feeds_of(feeds, {PIXELS: pixels}))
        # Each tool raises its own, without a common base.
        except Exception as exc:
            lines = str(exc).strip().splitlines() or [type(exc).__name__]
            raise InputError(
                f"{self._opened.network.tool} cannot run it on an image ({lines[0][:240]})",
                where=self._where,
            ) from exc

    def _choose(self, found: Mapping[str, np.ndarray]) -> Chosen:
        fitting = [n for n, a in found.items() if a.ndim == 2 and a.shape[0] == 1]
        named = [n for n in fitting if onnx_outputs.NAMES.get(plain(n)) == "logits"]
        if len(named or fitting) != 1:
            shown = ", ".join(f"{n} {a.shape}" for n, a in found.items())
            raise InputError(
                f"outputs are {shown or 'none'}; {IMAGE_CLASSIFICATION} has logits, "
                "(batch, labels)",
                where=self._where,
                hint="Save the classifier with this output.",
            )
        (name,) = named or fitting
        return Chosen(
            task=IMAGE_CLASSIFICATION,
            given=(name,),
            ours=IMAGE_CLASSIFICATION.outputs,
            width=int(found[name].shape[1]),
        )

    def _takes_two(
        self,
        feeds: tuple[Feed, ...],
        dims: Sequence[int],
        one: Mapping[str, np.ndarray],
        chosen: Chosen,
    ) -> bool:
        try:
            two = self._run(feeds, 2, dims)
        except InputError:
            return False
        name = chosen.given[0]
        return two[name].shape[:1] == (2,) and _near(two[name][:1], one[name])
