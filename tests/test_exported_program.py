# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""ExportedPrograms of torch.export, held against the program called directly."""

import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeopt.errors import InputError
from edgeopt.model import reference
from edgeopt.model.importer import import_model
from edgeopt.pipeline import compile
from edgeopt.runtime.host import open_session
from tests.test_tflite_bundle import word_pieces

torch: Any = pytest.importorskip("torch", reason="needs edgeopt[torch]")
pytest.importorskip("transformers", reason="needs edgeopt[torch]")

pytestmark = [
    pytest.mark.heavy,
    pytest.mark.filterwarnings("ignore::FutureWarning"),  # of torch's own serialisation
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]

ROWS, MOST = 60, 16
IDS = torch.tensor([[2, 5, 8, 4, 6, 3, 0, 0, 0]])
MASK = torch.tensor([[1, 1, 1, 1, 1, 1, 0, 0, 0]])


class Transformer(torch.nn.Module):  # type: ignore[misc]
    """One layer, with a classifier on the mean of the tokens."""

    def __init__(self, scores: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.table = torch.nn.Embedding(ROWS, 16)
        self.layer = torch.nn.TransformerEncoderLayer(16, 2, 32, dropout=0.0, batch_first=True)
        self.head = torch.nn.Linear(16, 3)
        self.scores = scores

    def forward(self, input_ids: Any, attention_mask: Any) -> Any:
        hidden = self.layer(self.table(input_ids), src_key_padding_mask=attention_mask == 0)
        column = attention_mask[:, :, None].float()
        logits = self.head((hidden * column).sum(1) / column.sum(1))
        return {"logits": logits.softmax(-1) if self.scores else logits}


def program(path: Path, *, free: bool, keywords: bool = False, scores: bool = False) -> Path:
    """Export a transformer with free sizes, up to 16 tokens, or those of the example."""
    example = {"input_ids": IDS, "attention_mask": MASK}
    shapes = None
    if free:
        example = {name: value.repeat(2, 1) for name, value in example.items()}
        batch, seq = torch.export.Dim("batch", max=64), torch.export.Dim("seq", max=MOST)
        shapes = {name: {0: batch, 1: seq} for name in example}
    module = Transformer(scores).eval()
    args = () if keywords else tuple(example.values())
    made = torch.export.export(module, args, example if keywords else None, dynamic_shapes=shapes)
    torch.export.save(made, path)
    return path


@pytest.mark.parametrize("free", [True, False], ids=["free sizes", "fixed sizes"])
def test_a_program_runs_in_every_engine_as_in_torch(tmp_path: Path, free: bool) -> None:
    word_pieces(tmp_path)
    path = program(tmp_path / "own.pt2", free=free)
    engines = () if free else ("onnx", "openvino")
    bundle = compile(path, "host", output=tmp_path / "b", precisions=["fp32"], engines=engines)
    assert bundle.manifest.skipped == ()
    expected = torch.export.load(path).module()(IDS, MASK)["logits"].detach().numpy()
    lengths = {a.engine: a.artifact.main.seq_lens for a in bundle.manifest.artifacts}
    any_length = {"onnx": (), "openvino": (), "tflite": (MOST,), "tvm": (MOST,)}
    assert lengths == (any_length if free else {"onnx": (9,), "openvino": (9,)})
    for engine in lengths:
        with open_session(bundle.path, engine=engine) as session:
            session.select(1, 9)
            given = session.inputs()
            for name, value in (("input_ids", IDS), ("attention_mask", MASK)):
                given[name][...] = 0
                given[name][:, :9] = value.numpy()
            session.execute()
            found = session.outputs()["logits"]
            np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("keywords", [True, False], ids=["keywords", "positions"])
def test_a_program_gives_what_torch_gives(tmp_path: Path, keywords: bool) -> None:
    path = program(tmp_path / "own.pt2", free=True, keywords=keywords)
    model = import_model(path)
    batch = {"input_ids": IDS.numpy(), "attention_mask": MASK.numpy()}
    (found,) = reference.run(model, [batch])
    with torch.no_grad():
        expected = Transformer().eval()(IDS, MASK)["logits"]
    np.testing.assert_allclose(found["logits"], expected, rtol=1e-5, atol=1e-6)
    assert model.main.signature.inputs[0].limit == ROWS
    assert (model.text.max_seq_len, model.text.seq_lens) == (MOST, ())


def test_fixed_sizes_stay_as_they_are(tmp_path: Path) -> None:
    model = import_model(program(tmp_path / "own.pt2", free=False))
    assert model.text.seq_lens == (9,)
    assert model.main.signature.inputs[0].dims == (1, "seq")


def test_scores_of_a_softmax_are_left_alone(tmp_path: Path) -> None:
    assert import_model(program(tmp_path / "own.pt2", free=True, scores=True)).activation == "none"


def refused(path: Path) -> str:
    with pytest.raises(InputError) as caught:
        import_model(path)
    return str(caught.value).removeprefix(f"{path}: ")


def test_a_damaged_program_is_refused(tmp_path: Path) -> None:
    path = program(tmp_path / "own.pt2", free=True)
    path.write_bytes(path.read_bytes()[:20_000])
    assert refused(path).startswith("torch.export cannot load it (")


class Shell:
    """Makes a folder if it is unpickled by one that trusts it."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.mkdir, (self.mark,)


def test_a_program_with_code_in_a_pickle_is_refused(tmp_path: Path) -> None:
    path, mark = program(tmp_path / "own.pt2", free=True), tmp_path / "ran"
    pickled = io.BytesIO()
    torch.save((Shell(mark),), pickled)
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, content in parts.items():
            archive.writestr(name, pickled.getvalue() if name.endswith("model.pt") else content)
    assert refused(path).startswith("holds a pickle that is more than tensors, which could run")
    assert not mark.exists()
