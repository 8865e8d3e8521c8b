from pathlib import Path

import numpy as np
import pytest

import edgeopt
from edgeopt.compress import layers
from edgeopt.compress.cascade import Cascade, calibrate, confidence
from edgeopt.compress.checkpoint import save
from edgeopt.compress.data import Data
from edgeopt.compress.score import answers
from edgeopt.errors import InputError
from edgeopt.measure.cascade import read_cascade
from edgeopt.model.importer import import_model
from tests import checkpoints

for name in ("transformers", "onnxruntime", "ziglang"):
    pytest.importorskip(name)
pytestmark = pytest.mark.heavy

TEXTS = ("a library for text", "the tool, of python 3.", "in data and data", "a tool", "python")


def test_texts_that_the_first_bundle_is_not_sure_of_go_to_the_second(tmp_path: Path) -> None:
    large = import_model(checkpoints.write(tmp_path / "large"))
    small = layers.drop(large, [1])
    save(small, tmp_path / "small", tmp_path / "large")
    data = Data(texts=TEXTS)
    options = {"engines": ["onnx"], "precisions": ["fp32"]}
    first, second = (
        edgeopt.compile(tmp_path / n, "host", output=tmp_path / f"{n}.edgeopt", **options)
        for n in ("small", "large")
    )
    sure = confidence(answers(small, data, "small"), 2.0)
    cascade = Cascade(
        temperature=2.0,
        threshold=float(np.sort(sure)[2:4].mean()),  # two of the five are surer
        max_drop=0.01,
        doubt=0.1,
        early=0.4,
        accuracy=1.0,
        accuracy_first=1.0,
        accuracy_second=1.0,
        texts=5,
    )
    found = read_cascade(first, second, cascade, TEXTS)
    assert found.early == tuple(sure > cascade.threshold)
    assert sum(found.early) == 2
    small_results, large_results = (
        edgeopt.read(bundle, TEXTS).results for bundle in (first, second)
    )
    whole = zip(small_results, large_results, found.early, strict=True)
    assert found.results == tuple(one if early else two for one, two, early in whole)
    chosen = calibrate(large, large, data)  # five texts show nothing
    assert (chosen.threshold, chosen.early, chosen.accuracy) == (2.0, 0.0, 1.0)
    other = import_model(checkpoints.write(tmp_path / "other", id2label={0: "x", 1: "y"}))
    with pytest.raises(InputError, match="other: has other labels than the second model"):
        calibrate(other, large, data)
