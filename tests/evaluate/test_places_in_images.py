# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Objects and labels of pixels: what data of images becomes, and figures against the libraries."""

import contextlib
import io
import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from edgeopt.errors import InputError, MissingDependencyError
from edgeopt.evaluate import evaluation
from edgeopt.evaluate.measured import Scored
from edgeopt.evaluate.problems import load
from edgeopt.evaluate.problems.asked import Asked
from edgeopt.evaluate.problems.class_maps import ClassMaps
from edgeopt.evaluate.problems.objects import Object, Objects
from edgeopt.evaluate.problems.problem import Problem
from edgeopt.evaluate.rows import read
from edgeopt.model.answer import Answer, Detection
from edgeopt.model.tasks import OBJECT_DETECTION, SEMANTIC_SEGMENTATION, Task
from tests.lazily import lazily

pillow = pytest.importorskip("PIL.Image", reason="needs Pillow")
metrics = lazily("sklearn.metrics", reason="needs edgeopt[evaluate]")

LABELS = ("cat", "dog", "tree")
IMAGES = 12


def subject(task: Task) -> Any:
    activation = "softmax" if task == OBJECT_DETECTION else "none"
    return SimpleNamespace(name="net", task=task, labels=LABELS, activation=activation)


def picture(path: Path, size: tuple[int, int] = (20, 10)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pillow.new("RGB", size).save(path)
    return path


def mask(path: Path, values: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pillow.fromarray(values.astype(np.uint8)).save(path)
    return path


def draws(units: int, count: int = 4) -> list[np.ndarray]:
    """Return all units, and units that are drawn again."""
    draw = np.random.default_rng(3)
    return [np.arange(units), *(draw.integers(0, units, units) for _ in range(count))]


def hold(scored: Scored, of: Callable[[np.ndarray], dict[str, float]], units: int) -> None:
    """Hold figures to those of a library, on all units and on units drawn again."""
    for at, rows in enumerate(draws(units)):
        counts = np.bincount(rows, minlength=units).astype(float)[None]
        wanted = of(rows)
        assert set(wanted) == set(scored.figures)
        for name, value in wanted.items():
            assert scored.figures[name].at(counts)[0] == pytest.approx(
                value, abs=1e-12, nan_ok=True
            ), name
            if at == 0 and not np.isnan(value):
                assert scored.figures[name].value == pytest.approx(value, abs=1e-12)


# ---- objects ----

BOXED = ("ap", "ap_50", "ap_75", "ap_small", "ap_medium", "ap_large")
FOUND = ("ar_1", "ar_10", "ar_100", "ar_small", "ar_medium", "ar_large")


def scene() -> tuple[list[tuple[Object, ...]], list[tuple[Detection, ...]]]:
    """Return objects, and what finds some of them, some twice, and some that are not there."""
    draw = np.random.default_rng(0)
    wanted, found = [], []
    for _ in range(IMAGES):
        objects, seen = [], []
        for _ in range(draw.integers(0, 7)):
            side = draw.choice([12, 60, 130])
            x, y, width, height = (*draw.uniform(0, 300, 2), *draw.uniform(0.6, 1.5, 2) * side)
            label, crowd = str(draw.choice(LABELS[:2])), bool(draw.random() < 0.15)
            box = (float(x), float(y), float(width), float(height))
            objects.append(
                Object(label=label, box=box, area=float(width * height * 0.8), crowd=crowd)
            )
            for _ in range(draw.integers(0, 3)):
                left, top, w, h = np.array(box) + draw.normal(0, 0.08, 4) * side
                seen.append((label, draw.random(), (left, top, left + w, top + h)))
        for _ in range(draw.integers(0, 16)):
            left, top, w, h = draw.uniform(0, 200, 4)
            seen.append(
                (str(draw.choice(LABELS)), draw.random() / 2, (left, top, left + w, top + h))
            )
        wanted.append(tuple(objects))
        found.append(
            tuple(
                Detection(label=label, score=float(score), box=tuple(map(float, box)))
                for label, score, box in sorted(seen, key=lambda one: -one[1])
            )
        )
    return wanted, found


def by_pycocotools(
    wanted: list[tuple[Object, ...]],
    found: list[tuple[Detection, ...]],
    rows: np.ndarray,
    home: Path,
) -> dict[str, float]:
    """Return COCO's figures of files that are laid out as COCO's."""
    coco = pytest.importorskip("pycocotools.coco", reason="needs edgeopt[detection]")
    cocoeval = pytest.importorskip("pycocotools.cocoeval")
    file, results = home / "instances.json", []
    annotations: list[dict[str, Any]] = []
    for number, row in enumerate(rows, 1):
        for one in wanted[row]:
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number,
                    "category_id": LABELS.index(one.label),
                    "bbox": one.box,
                    "area": one.area,
                    "iscrowd": int(one.crowd),
                }
            )
        for other in found[row]:
            x_min, y_min, x_max, y_max = other.box
            results.append(
                {
                    "image_id": number,
                    "category_id": LABELS.index(other.label),
                    "bbox": [x_min, y_min, x_max - x_min, y_max - y_min],
                    "score": other.score,
                }
            )
    images = [{"id": number} for number in range(1, len(rows) + 1)]
    categories = [{"id": i, "name": name} for i, name in enumerate(LABELS)]
    file.write_text(
        json.dumps({"images": images, "annotations": annotations, "categories": categories})
    )
    with contextlib.redirect_stdout(io.StringIO()):
        truth = coco.COCO(str(file))
        judge = cocoeval.COCOeval(truth, truth.loadRes(results), "bbox")
        judge.evaluate()
        judge.accumulate()
        judge.summarize()
    return {
        name: float("nan") if value < 0 else float(value)
        for name, value in zip((*BOXED, *FOUND), judge.stats, strict=True)
    }


def boxed(wanted: list[tuple[Object, ...]]) -> Objects:
    return Objects(
        inputs=tuple(Path(f"{i}.png") for i in range(len(wanted))),
        places=tuple(f"line {i}" for i in range(len(wanted))),
        expected=tuple(wanted),
    )


def test_objects_are_scored_as_by_pycocotools(tmp_path: Path) -> None:
    pytest.importorskip("pycocotools", reason="needs edgeopt[detection]")
    wanted, found = scene()
    problem = boxed(wanted)
    scored = problem.score([Answer(objects=one) for one in found])
    assert tuple(scored.figures) == problem.names == (*BOXED, *FOUND)
    hold(scored, lambda rows: by_pycocotools(wanted, found, rows, tmp_path), IMAGES)
    assert 0.1 < scored.figures["ap"].value < 0.9  # type: ignore[operator]
    for label in LABELS[:2]:  # no image has the third one
        own = [tuple(one for one in side if one.label == label) for side in wanted]
        alone = by_pycocotools(own, found, np.arange(IMAGES), tmp_path)
        count, figures = scored.by_label[label]
        assert count == sum(not one.crowd for side in own for one in side)
        assert figures["ap"].value == pytest.approx(alone["ap"], abs=1e-12)
    assert set(scored.by_label) == set(LABELS[:2])


def test_what_is_missed_and_made_up_is_told() -> None:
    pytest.importorskip("pycocotools", reason="needs edgeopt[detection]")
    box = (10.0, 10.0, 20.0, 20.0)
    one = Object(label="cat", box=box, area=400.0)
    sides = (10.0, 10.0, 30.0, 30.0)
    right = Detection(label="cat", score=0.9, box=sides)
    unsure = Detection(label="cat", score=0.4, box=sides)
    wrong = Detection(label="dog", score=0.8, box=sides)
    problem = boxed([(one,), (one, Object(label="dog", box=box, area=400.0)), ()])
    scored = problem.score(
        [Answer(objects=objects) for objects in ((right,), (wrong, unsure), (wrong,))]
    )
    assert scored.loss.tolist() == [0, 1, 1]
    assert scored.got[0] == "cat 0.900 (0 missed, 0 made up)"
    assert scored.got[1] == "dog 0.800 (1 missed, 0 made up)"
    assert scored.got[2] == "dog 0.800 (0 missed, 1 made up)"
    assert problem.unit(1) == ("line 1", "1.png", "1 cat, 1 dog")
    assert problem.unit(2)[2] == "nothing"
    # Nothing is found of anything: defined, and 0.
    none = problem.score([Answer(objects=())] * 3)
    assert none.figures["ap"].value == none.figures["ar_100"].value == 0
    assert none.figures["ap_large"].value is None


def test_the_interval_of_average_precision_has_its_value_within() -> None:
    pytest.importorskip("pycocotools", reason="needs edgeopt[detection]")
    wanted, found = scene()
    problem = boxed(wanted)
    sides = [problem.score([Answer(objects=one) for one in found])]
    sides.append(problem.score([Answer(objects=one[2:]) for one in found]))  # without the best
    first, second = evaluation.figures(sides, IMAGES, against_first=True)
    for figure in (first["ap"], second["ap"]):
        assert figure.low < figure.value < figure.high  # type: ignore[operator]
    difference = second["ap"].difference
    assert difference is not None
    assert difference.verdict == evaluation.WORSE
    assert difference.low < difference.value < difference.high < 0  # type: ignore[operator]


def coco_of(home: Path) -> tuple[Path, dict[str, Any]]:
    picture(home / "val" / "a.png")
    picture(home / "val" / "b.png")
    found = {
        "images": [{"id": 7, "file_name": "a.png"}, {"id": 3, "file_name": "b.png"}],
        "categories": [{"id": 18, "name": "dog"}, {"id": 90, "name": "zebra"}],
        "annotations": [
            {"id": 0, "image_id": 7, "category_id": 18, "bbox": [1, 2, 3, 4], "area": 9},
            {"id": 1, "image_id": 7, "category_id": 18, "bbox": [5, 5, 5, 5.5], "iscrowd": 1},
        ],
    }
    file = home / "annotations" / "instances_val.json"
    file.parent.mkdir(exist_ok=True)
    return file, found


def test_coco_s_layout_is_read(tmp_path: Path) -> None:
    pytest.importorskip("pycocotools", reason="needs edgeopt[detection]")
    file, found = coco_of(tmp_path)
    file.write_text(json.dumps(found))
    for path in (file, tmp_path):
        problem = load(path, subject(OBJECT_DETECTION), Asked())
        assert isinstance(problem, Objects)
        assert [Path(str(one)).name for one in problem.inputs] == ["a.png", "b.png"]
        assert problem.expected == (
            (
                Object(label="dog", box=(1, 2, 3, 4), area=9),
                Object(label="dog", box=(5, 5, 5, 5.5), area=27.5, crowd=True),
            ),
            (),
        )
    # Beside a second file the folder does not say which.
    (file.parent / "instances_train.json").write_text(file.read_text())
    for name in ("a.png", "b.png"):
        picture(tmp_path / "train" / name)
    assert len(read(tmp_path).rows) == 2
    (file.parent / "instances_val.json").rename(file.parent / "person.json")
    with pytest.raises(InputError, match=r"has 2 files of annotations: .*\nName one of them"):
        read(tmp_path)
    named = load(
        file.parent / "instances_train.json",
        subject(OBJECT_DETECTION),
        Asked(labels=("x", "y", "dog")),
    )
    assert isinstance(named, Objects)
    assert named.expected[0][0].label == "tree"


def _category(found: dict[str, Any]) -> None:
    found["annotations"][0]["category_id"] = 1


def _image(found: dict[str, Any]) -> None:
    found["annotations"][0]["image_id"] = "7"


def _file(found: dict[str, Any]) -> None:
    found["images"][1]["file_name"] = "c.png"


def _box(found: dict[str, Any]) -> None:
    found["annotations"][1]["bbox"] = [1, 2, -3, 4]


def _zebra(found: dict[str, Any]) -> None:
    found["annotations"][0]["category_id"] = 90


def _twice(found: dict[str, Any]) -> None:
    found["images"][1]["id"] = 7


def _none(found: dict[str, Any]) -> None:
    found["annotations"] = []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_category, r"annotations\[0\]: has the category_id 1, and there is no such one"),
        (_image, r"annotations\[0\]: expected \"image_id\" with a whole number, found '7'"),
        (_file, r"images\[1\]: names the image 'c.png', which is in none of "),
        (
            _box,
            r"annotations\[1\]: expected \"bbox\" with x, y, width and height, found \[1, 2, -3",
        ),
        (_zebra, r"annotations\[0\]: has the label 'zebra', which is not one of the model's 3"),
        (_twice, r"images\[1\]: has the id 7 of another image"),
        (_none, r"has no objects in its 2 images"),
    ],
)
def test_what_is_wrong_with_annotations_is_told(
    change: Callable[[dict[str, Any]], None], message: str, tmp_path: Path
) -> None:
    pytest.importorskip("pycocotools", reason="needs edgeopt[detection]")
    file, found = coco_of(tmp_path)
    change(found)
    file.write_text(json.dumps(found))
    with pytest.raises(InputError, match=message):
        load(file, subject(OBJECT_DETECTION), Asked())


@pytest.mark.parametrize(
    "objects",
    [
        {"bbox": [[1, 2, 3, 4], [5, 6, 7, 8]], "categories": [0, 2]},
        {"bbox": [[1, 2, 3, 4], [5, 6, 7, 8]], "category": ["cat", "tree"], "area": [12, 56]},
        [{"bbox": [1, 2, 3, 4], "label": "cat"}, {"bbox": [5, 6, 7, 8], "label": "tree"}],
    ],
)
def test_a_table_of_images_has_objects(objects: Any, tmp_path: Path) -> None:
    pytest.importorskip("pycocotools", reason="needs edgeopt[detection]")
    picture(tmp_path / "a.png")
    row = {"file_name": "a.png", "objects": objects}
    (tmp_path / "metadata.jsonl").write_text(json.dumps(row) + "\n")
    problem = load(tmp_path, subject(OBJECT_DETECTION), Asked())
    assert isinstance(problem, Objects)
    assert problem.expected == (
        (
            Object(label="cat", box=(1, 2, 3, 4), area=12),
            Object(label="tree", box=(5, 6, 7, 8), area=56),
        ),
    )


@pytest.mark.parametrize(
    ("objects", "message"),
    [
        ({"bbox": [[1, 2, 3, 4]], "categories": []}, "line 1: expected lists of one length in"),
        ({"bbox": [[1, 2, 3, 4]]}, r"line 1: object 1: has no label \(looked for category, "),
        ({"bbox": [[1, 2, 3]], "categories": [0]}, 'object 1: expected "bbox" with x, y, width'),
        ({"bbox": [[1, 2, 3, 4]], "categories": [3]}, "object 1: has the label 3, which is not"),
        ([3], "line 1: object 1: expected an object with bbox and category, found 3"),
        ("cat", "line 1: expected a list of objects in 'objects', found 'cat'"),
    ],
)
def test_what_is_wrong_with_objects_is_told(objects: Any, message: str, tmp_path: Path) -> None:
    pytest.importorskip("pycocotools", reason="needs edgeopt[detection]")
    picture(tmp_path / "a.png")
    row = {"file_name": "a.png", "objects": objects}
    (tmp_path / "metadata.jsonl").write_text(json.dumps(row) + "\n")
    with pytest.raises(InputError, match=message):
        load(tmp_path, subject(OBJECT_DETECTION), Asked())


def test_without_pycocotools_it_is_told_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, found = coco_of(tmp_path)
    file.write_text(json.dumps(found))
    monkeypatch.setitem(__import__("sys").modules, "pycocotools.cocoeval", None)
    with pytest.raises(MissingDependencyError) as caught:
        load(file, subject(OBJECT_DETECTION), Asked())
    assert str(caught.value).splitlines()[-1] == "Install it with: pip install 'edgeopt[detection]'"


# ---- labels of pixels ----


def maps_of(home: Path) -> tuple[ClassMaps, list[np.ndarray], list[np.ndarray]]:
    """Return a problem of masks with 255 in them, the masks, and maps that are right in part."""
    draw = np.random.default_rng(1)
    masks, maps, files = [], [], []
    for i in range(IMAGES):
        shape = tuple(draw.integers(4, 12, 2))
        wanted = draw.integers(0, 2, shape) * (i % 3 > 0)  # the third label is nowhere expected
        got = np.where(draw.random(shape) < 0.6, wanted, draw.integers(0, 2 + i % 2, shape))
        masks.append(np.where(draw.random(shape) < 0.1, 255, wanted))
        maps.append(got.astype(np.uint16))
        files.append(mask(home / f"{i}.png", masks[-1]))
    problem = ClassMaps(
        inputs=tuple(home / f"{i}.jpg" for i in range(IMAGES)),
        places=tuple(f"line {i}" for i in range(IMAGES)),
        masks=tuple(files),
        classes=(*LABELS, "sky"),
    )
    return problem, masks, maps


def by_scikit_learn(wanted: np.ndarray, got: np.ndarray) -> dict[str, float]:
    seen = np.union1d(wanted, got)
    return {
        "mean_iou": metrics.jaccard_score(wanted, got, labels=seen, average="macro"),
        "mean_accuracy": metrics.recall_score(
            wanted, got, labels=np.unique(wanted), average="macro"
        ),
        "pixel_accuracy": metrics.accuracy_score(wanted, got),
    }


def test_labels_of_pixels_are_scored_as_by_scikit_learn(tmp_path: Path) -> None:
    problem, masks, maps = maps_of(tmp_path)
    scored = problem.score([problem.tallied(i, one) for i, one in enumerate(maps)])
    wanted = [one[one != 255] for one in masks]
    got = [one[kept != 255] for one, kept in zip(maps, masks, strict=True)]

    def of(rows: np.ndarray) -> dict[str, float]:
        return by_scikit_learn(*(np.concatenate([s[i] for i in rows]) for s in (wanted, got)))

    hold(scored, of, IMAGES)
    all_of = [np.concatenate(side) for side in (wanted, got)]
    for i, label in enumerate(problem.classes[:3]):
        (alone,) = metrics.jaccard_score(*all_of, labels=[i], average=None)
        count, figures = scored.by_label[label]
        assert count == sum(i in one for one in wanted)
        assert figures["mean_iou"].value == pytest.approx(alone)
    assert scored.by_label["sky"][1]["mean_iou"].value is None
    for i in range(IMAGES):
        (worse,) = 1 - np.array([by_scikit_learn(wanted[i], got[i])["mean_iou"]])
        assert scored.loss[i] == pytest.approx(worse)
    assert scored.got[0].startswith("cat ")
    assert problem.unit(0) == ("line 0", "0.jpg", "cat 1.000")


def test_reduced_masks_have_their_first_label_at_1(tmp_path: Path) -> None:
    file = mask(tmp_path / "a.png", np.array([[0, 1, 2, 3, 255]]))
    plain = ClassMaps(
        inputs=(tmp_path / "a.jpg",), places=("a",), masks=(file,), classes=LABELS, reduced=True
    )
    found = plain.tallied(0, np.array([[2, 0, 1, 0, 1]])).tally
    assert found is not None
    assert found.tolist() == [[1, 1, 1], [2, 1, 0], [1, 1, 0]]


def test_folders_of_images_and_masks_are_read(tmp_path: Path) -> None:
    values = np.zeros((10, 20))
    for part in ("training", "validation"):
        picture(tmp_path / "images" / part / f"{part}.png")
        mask(tmp_path / "annotations" / part / f"{part}.png", values)
    problem = load(tmp_path, subject(SEMANTIC_SEGMENTATION), Asked())
    assert isinstance(problem, ClassMaps)
    assert [one.name for one in problem.masks] == ["validation.png"]
    assert problem.masks[0].parent.parent.name == "annotations"
    table = tmp_path / "table.jsonl"
    row = {"image": "images/training/training.png", "mask": "annotations/training/training.png"}
    table.write_text(json.dumps(row))
    assert len(load(table, subject(SEMANTIC_SEGMENTATION), Asked())) == 1
    table.write_text(json.dumps(row) + "\n" + json.dumps(row))
    with pytest.raises(InputError, match=r"training.png: is there twice"):
        load(table, subject(SEMANTIC_SEGMENTATION), Asked())


def test_what_is_wrong_with_masks_is_told(tmp_path: Path) -> None:
    def problem(**asked: Any) -> Problem:
        return load(tmp_path, subject(SEMANTIC_SEGMENTATION), Asked(**asked))

    picture(tmp_path / "images" / "a.png")
    mask(tmp_path / "masks" / "b.png", np.zeros((10, 20)))
    with pytest.raises(InputError, match=r"a.png: has no mask: there is no .*masks/a.png"):
        problem()
    mask(tmp_path / "masks" / "a.png", np.zeros((20, 10)))
    with pytest.raises(
        InputError, match=r"a.png: has a mask of 10 x 20 pixels, and its image has 20 x 10"
    ):
        problem()
    mask(tmp_path / "masks" / "a.png", np.full((10, 20), 3))
    with pytest.raises(InputError) as caught:
        problem()
    assert str(caught.value) == (
        f"{tmp_path}/masks/a.png: has pixels of label 3, and the model has 3 labels, 0 to 2 "
        "(255 is ignored)\nIf 0 is no label and 1 the first one, give --reduce-labels."
    )
    assert len(problem(reduce_labels=True)) == 1
    with pytest.raises(InputError, match="labels: masks hold numbers, not names"):
        problem(labels=LABELS)
    picture(tmp_path / "masks" / "a.png")
    with pytest.raises(
        InputError, match=r"a.png: has pixels of kind RGB, expected one number for each"
    ):
        problem()
    (tmp_path / "masks" / "a.png").write_bytes(b"\x89PNG")
    with pytest.raises(InputError, match=r"a.png: is not an image that Pillow reads"):
        problem()
