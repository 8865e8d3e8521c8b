# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""All kinds of faults, by the place where they are planted.

They are those that studies of converters, of deployed models and of mobile inference tell of:
Jajal et al. 2024 ("Interoperability in Deep Learning"), Openja et al. 2022 ("An Empirical Study of
Challenges in Converting Deep Learning Models"), Humbatova et al. 2020 ("Taxonomy of Real Faults in
Deep Learning Systems"), Qiu et al. 2022 ("ML-EXray"); and those that this project met.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from edgeopt.backends import Artifact, Batch
from edgeopt.model import Model
from tools.planted_faults.graph import Graph, swap_bytes
from tools.planted_faults.onnx_faults import GRAPH, QUANTISED


@dataclass(frozen=True, kw_only=True, slots=True)
class Fault:
    """One kind. Exactly one of the four functions plants it.

    ``lowered`` changes an artifact's files behind the backend and returns it, ``calibrated`` the
    calls that the backend calibrates on, ``imported`` the model that the import gave, and
    ``bundled`` the files of a finished bundle. ``network`` is which one it is planted into, and
    ``layer`` the one that is to be named.
    """

    kind: str
    place: str
    network: str = "classifier"
    engine: str = "onnx"
    precision: str = "fp32"
    layer: str = ""
    lowered: Callable[[Model, Artifact, Path], Artifact] | None = None
    calibrated: Callable[[Sequence[Batch]], Sequence[Batch]] | None = None
    imported: Callable[[Model, Path], Model] | None = None
    bundled: Callable[[Path], None] | None = None


def _in_graph(plant: Callable[[Graph], None]) -> Callable[[Model, Artifact, Path], Artifact]:
    def change(_: Model, artifact: Artifact, directory: Path) -> Artifact:
        graph = Graph(directory / artifact.main.files[0])
        plant(graph)
        graph.save()
        return artifact

    return change


def _weight(model: Model, name: str) -> np.ndarray:
    found: np.ndarray = dict(model.module.named_parameters())[f"network.{name}"].detach().numpy()
    return found


def _in_bytes(
    name: str, change: Callable[[np.ndarray], np.ndarray], at: int = 0
) -> Callable[[Model, Artifact, Path], Artifact]:
    def plant(model: Model, artifact: Artifact, directory: Path) -> Artifact:
        old = _weight(model, name)
        swap_bytes(directory / artifact.main.files[at], old, change(old))
        return artifact

    return plant


def _tflite_scales(_: Model, artifact: Artifact, directory: Path) -> Artifact:
    """Make the scales of one weight half as large again."""
    from ai_edge_quantizer.utils import tfl_flatbuffer_utils as flatbuffer

    path = directory / artifact.main.files[0]
    for tensor in flatbuffer.read_model(str(path)).subgraphs[0].tensors:
        scales = getattr(tensor.quantization, "scale", None)
        if scales is not None and len(scales) == 64:  # the first product of layer 0's FFN
            swap_bytes(path, np.asarray(scales, np.float32), np.asarray(scales) * 1.5)
            return artifact
    raise LookupError("no weight of 64 outputs")


def _openvino_ranges(_: Model, artifact: Artifact, directory: Path) -> Artifact:
    """Cut the range of one quantised activation to a fifth."""
    import openvino
    from openvino import opset13

    path = directory / artifact.main.files[0]
    model = openvino.Core().read_model(str(path))
    nodes = [n for n in model.get_ordered_ops() if n.get_type_name() == "FakeQuantize"]
    node = nodes[len(nodes) // 3]
    for at in (1, 2, 3, 4):
        value = node.input_value(at).get_node().get_data() * 0.2
        node.input(at).replace_source_output(opset13.constant(value.astype(np.float32)).output(0))
    made = path.with_name("planted.xml")
    openvino.save_model(model, str(made), compress_to_fp16=False)
    del model
    for suffix in (".xml", ".bin"):
        made.with_suffix(suffix).rename(path.with_suffix(suffix))
    return artifact


def _option(**options: str) -> Callable[[Model, Artifact, Path], Artifact]:
    return lambda _, artifact, __: replace(artifact, options={**artifact.options, **options})


def _module(change: Callable[[Any], None]) -> Callable[[Model, Path], Model]:
    def plant(model: Model, _: Path) -> Model:
        import torch

        with torch.inference_mode():
            change(model.module.network)
        return replace(model, digest=f"{model.digest}-planted")

    return plant


def _value(**values: Any) -> Callable[[Model, Path], Model]:
    return lambda model, _: replace(model, **values)


def _input(change: Callable[[Any], Any]) -> Callable[[Model, Path], Model]:
    return lambda model, _: replace(
        model, input=change(model.input), digest=f"{model.digest}-planted"
    )


def _tokenizer(change: Callable[[dict[str, Any]], None]) -> Callable[[Model, Path], Model]:
    def plant(model: Model, scratch: Path) -> Model:
        place = scratch / "tokenizer"
        place.mkdir()
        assert model.text.tokenizer is not None
        for file in model.text.tokenizer.iterdir():
            if file.is_file() and file.suffix == ".json":
                (place / file.name).write_text(file.read_text())
        settings = json.loads((place / "tokenizer.json").read_text())
        before = json.dumps(settings)
        change(settings)
        if json.dumps(settings) == before:
            raise LookupError("the tokenizer is the same")
        (place / "tokenizer.json").write_text(json.dumps(settings))
        return replace(
            model,
            input=replace(model.text, tokenizer=place),
            digest=f"{model.digest}-planted",
        )

    return plant


def _two_ids(settings: dict[str, Any]) -> None:
    words = settings["model"]["vocab"]
    words["the"], words["a"] = words["a"], words["the"]


def _eps(network: Any) -> None:
    network.bert.embeddings.LayerNorm.eps = 0.1


def _relu(network: Any) -> None:
    import torch

    network.bert.encoder.layer[0].intermediate.intermediate_act_fn = torch.nn.ReLU()


def _turn(network: Any) -> None:
    weight = network.bert.encoder.layer[0].attention.self.query.weight
    weight.copy_(weight.T.clone())


def _drop_layer(network: Any) -> None:
    del network.bert.encoder.layer[1:]


def _roll_positions(network: Any) -> None:
    weight = network.roberta.embeddings.position_embeddings.weight
    weight.copy_(weight.roll(2, 0))


def _bgr(network: Any) -> None:
    weight = network.deit.embeddings.patch_embeddings.projection.weight  # (hidden, 3 * 8 * 8)
    weight.copy_(weight.reshape(len(weight), 3, -1).flip(1).reshape(weight.shape))


def _turned(network: Any) -> None:
    weight = network.deit.embeddings.patch_embeddings.projection.weight
    weight.copy_(weight.reshape(len(weight), 3, 8, 8).transpose(2, 3).reshape(weight.shape))


def _patches(network: Any) -> None:
    weight = network.deit.embeddings.position_embeddings
    weight[:, 2:] = weight[:, 2:].flip(1)


def _manifest(bundle: Path, change: Callable[[dict[str, Any]], None]) -> None:
    path = bundle / "manifest.json"
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))


def _artifact_file(bundle: Path) -> Path:
    return next(bundle.glob("artifacts/*/model.onnx"))


def _listed_again(bundle: Path, file: Path) -> None:
    """Have the manifest list a changed file as if it had always been so."""
    import hashlib

    data = file.read_bytes()
    name = file.relative_to(bundle).as_posix()
    entry = {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
    _manifest(bundle, lambda document: document["files"][name].update(entry))


def _flip(bundle: Path) -> None:
    file = _artifact_file(bundle)
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 0x40
    file.write_bytes(data)


def _cut(bundle: Path) -> None:
    file = _artifact_file(bundle)
    file.write_bytes(file.read_bytes()[:-4096])


def _other_build(bundle: Path) -> None:
    file = _artifact_file(bundle)
    graph = Graph(file)
    graph.table("network.classifier.bias", lambda v: v + 1)
    graph.save()
    _listed_again(bundle, file)


def _other_vocabulary(bundle: Path) -> None:
    file = bundle / "tokenizer/tokenizer.json"
    settings = json.loads(file.read_text())
    words = settings["model"]["vocab"]
    for a, b in zip("aeiou", "bcdfg", strict=True):
        words[a], words[b] = words[b], words[a]
        words[f"##{a}"], words[f"##{b}"] = words[f"##{b}"], words[f"##{a}"]
    file.write_text(json.dumps(settings))
    _listed_again(bundle, file)


def _other_labels(bundle: Path) -> None:
    def change(document: dict[str, Any]) -> None:
        if "labels" not in document:
            raise LookupError(", ".join(document))
        document["labels"].reverse()

    _manifest(bundle, change)


def _missing(bundle: Path) -> None:
    _artifact_file(bundle).unlink()


def _golden_lost(bundle: Path) -> None:
    next(bundle.glob("golden/*/0/out.*.npy")).unlink()


OUTPUT = "bert.encoder.layer.0.attention.output.dense"
TURNED = "bert.encoder.layer.0.attention.self.query"

FAULTS: tuple[Fault, ...] = (
    *(
        Fault(kind=kind, place="converted file", layer=layer, lowered=_in_graph(plant))
        for kind, layer, plant in GRAPH
    ),
    *(
        Fault(
            kind=kind,
            place="quantised file",
            layer=layer,
            precision="int8",
            lowered=_in_graph(plant),
        )
        for kind, layer, plant in QUANTISED
    ),
    Fault(
        kind="INT8: a range cut to a fifth (OpenVINO)",
        place="quantised file",
        network="embedder",
        engine="openvino",
        precision="int8",
        lowered=_openvino_ranges,
    ),
    Fault(
        kind="INT8: calibrated on an empty text alone (OpenVINO)",
        place="calibration",
        network="embedder",
        engine="openvino",
        precision="int8",
        calibrated=lambda calls: [min(calls, key=lambda c: int(c["attention_mask"].sum()))],
    ),
    Fault(
        kind="INT8: a scale too large by a half (TFLite)",
        place="quantised file",
        engine="tflite",
        precision="int8",
        layer="bert.encoder.layer.0.intermediate",
        lowered=_tflite_scales,
    ),
    Fault(
        kind="a weight transposed (TFLite)",
        place="converted file",
        engine="tflite",
        layer=OUTPUT,
        lowered=_in_bytes(f"{OUTPUT}.weight", np.transpose),
    ),
    Fault(
        kind="a bias left out (TFLite)",
        place="converted file",
        engine="tflite",
        layer=OUTPUT,
        lowered=_in_bytes(f"{OUTPUT}.bias", np.zeros_like),
    ),
    Fault(
        kind="a weight transposed (OpenVINO)",
        place="converted file",
        engine="openvino",
        layer=TURNED,
        lowered=_in_bytes(f"{TURNED}.weight", np.transpose, 1),
    ),
    Fault(
        kind="scale and shift of a normalisation alike (TVM)",
        place="converted file",
        engine="tvm",
        lowered=_in_bytes("bert.embeddings.LayerNorm.bias", np.zeros_like),
    ),
    Fault(
        kind="the engine computes in bfloat16",
        place="engine",
        engine="openvino",
        lowered=_option(INFERENCE_PRECISION_HINT="bf16"),
    ),
    Fault(
        kind="the engine has another formula for GELU",
        place="engine",
        lowered=_option(**{"optimization.enable_gelu_approximation": "1"}),
    ),
    Fault(kind="epsilon 0.1 for 1e-12 at import", place="import", imported=_module(_eps)),
    Fault(kind="ReLU for GELU at import", place="import", imported=_module(_relu)),
    Fault(kind="a weight transposed at import", place="import", imported=_module(_turn)),
    Fault(kind="a layer lost at import", place="import", imported=_module(_drop_layer)),
    Fault(
        kind="RoBERTa's positions start at 0, not at 2",
        place="import",
        network="roberta",
        imported=_module(_roll_positions),
    ),
    Fault(
        kind="labels in another order",
        place="answer",
        imported=lambda m, _: replace(m, labels=m.labels[::-1]),
    ),
    Fault(kind="sigmoid for softmax", place="answer", imported=_value(activation="sigmoid")),
    Fault(kind="no softmax", place="answer", imported=_value(activation="none")),
    Fault(
        kind="the first token pooled for the mean",
        place="answer",
        network="embedder",
        imported=lambda m, _: replace(m, pooling=replace(m.pooling, mode="cls")),
    ),
    Fault(
        kind="the maximum pooled for the mean",
        place="answer",
        network="embedder",
        imported=lambda m, _: replace(m, pooling=replace(m.pooling, mode="max")),
    ),
    Fault(
        kind="an embedding brought to length 1 that is not",
        place="answer",
        network="embedder",
        imported=lambda m, _: replace(m, pooling=replace(m.pooling, normalize=True)),
    ),
    Fault(
        kind="a prompt that nobody asked for",
        place="answer",
        network="embedder",
        imported=_input(lambda i: replace(i, prompt="query: ")),
    ),
    Fault(
        kind="texts cut at 16 tokens",
        place="answer",
        imported=_input(lambda i: replace(i, max_seq_len=16)),
    ),
    Fault(
        kind="case kept by a tokenizer that lowers it",
        place="tokenizer",
        imported=_tokenizer(lambda s: s["normalizer"].update(lowercase=False)),
    ),
    Fault(
        kind="accents kept by a tokenizer that strips them",
        place="tokenizer",
        imported=_tokenizer(lambda s: s["normalizer"].update(strip_accents=False)),
    ),
    Fault(
        kind="no special tokens around a text",
        place="tokenizer",
        imported=_tokenizer(lambda s: s.update(post_processor=None)),
    ),
    Fault(kind="two words' ids swapped", place="tokenizer", imported=_tokenizer(_two_ids)),
    Fault(
        kind="mean and deviation of pixels swapped",
        place="image",
        network="images",
        imported=_input(lambda i: replace(i, mean=i.std, std=i.mean)),
    ),
    Fault(
        kind="pixels not scaled to 1",
        place="image",
        network="images",
        imported=_input(lambda i: replace(i, rescale_factor=1.0)),
    ),
    Fault(
        kind="pixels in [0, 1], not normalised",
        place="image",
        network="images",
        imported=_input(lambda i: replace(i, mean=(0.0,) * 3, std=(1.0,) * 3)),
    ),
    Fault(
        kind="another method to resize",
        place="image",
        network="images",
        imported=_input(lambda i: replace(i, resample=2)),
    ),
    Fault(
        kind="resized to the network's size, not more and cut",
        place="image",
        network="images",
        imported=_input(lambda i: replace(i, resize_height=32, resize_width=32)),
    ),
    Fault(kind="BGR for RGB", place="image", network="images", imported=_module(_bgr)),
    Fault(
        kind="height and width swapped", place="image", network="images", imported=_module(_turned)
    ),
    Fault(
        kind="patches in another order", place="image", network="images", imported=_module(_patches)
    ),
    Fault(kind="a bit of the model flipped", place="board", bundled=_flip),
    Fault(kind="a file cut short", place="board", bundled=_cut),
    Fault(kind="a file missing", place="board", bundled=_missing),
    Fault(kind="a golden answer missing", place="board", bundled=_golden_lost),
    Fault(
        kind="the model of another build, listed as this one's", place="board", bundled=_other_build
    ),
    Fault(
        kind="the vocabulary of another model, listed as this one's",
        place="board",
        bundled=_other_vocabulary,
    ),
    Fault(kind="labels of another order in the manifest", place="board", bundled=_other_labels),
)
