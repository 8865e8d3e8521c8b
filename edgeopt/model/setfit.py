# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""The classifier of a SetFit folder: scikit-learn's, out of ``model_head.pkl``.

That file is a pickle as joblib writes it, and a pickle can run any code. This reader builds numbers
and arrays, and for scikit-learn's classes only holds what they stored; every other name is refused.
It needs neither joblib nor scikit-learn.
"""

from __future__ import annotations

import io
import math
import pickle
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from edgeopt.errors import InputError

HEAD = "model_head.pkl"


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Head:
    """A linear classifier: ``weight`` (labels, size) and ``bias`` (labels,), float64.

    ``activation`` makes of the logits what the head's ``predict_proba`` gives.
    """

    weight: np.ndarray
    bias: np.ndarray
    labels: tuple[str, ...]
    activation: str

    def probabilities(self, embedding: np.ndarray) -> np.ndarray:
        """Return float64 (labels,) of one embedding (size,)."""
        logits = self.weight @ embedding.astype(np.float64) + self.bias
        if self.activation == "sigmoid":
            return np.asarray(1 / (1 + np.exp(-logits)))
        powers = np.exp(logits - logits.max())
        return np.asarray(powers / powers.sum())


class _Stored:
    """An object of another library: what it stored, and none of its code."""

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any: ...

    def __init__(self, *args: Any) -> None:
        self.args = args

    def __setstate__(self, state: Any) -> None:
        self.__dict__.update(state)


class _Logistic(_Stored):
    pass


class _OneVsRest(_Stored):
    pass


class _MultiOutput(_Stored):
    pass


class _Binarizer(_Stored):
    pass


class _Array(_Stored):
    """joblib's stand-in for an array, whose bytes follow in the file."""


_SCIKIT = {
    ("sklearn.linear_model._logistic", "LogisticRegression"): _Logistic,
    ("sklearn.linear_model.logistic", "LogisticRegression"): _Logistic,
    ("sklearn.multiclass", "OneVsRestClassifier"): _OneVsRest,
    ("sklearn.multioutput", "MultiOutputClassifier"): _MultiOutput,
    ("sklearn.preprocessing._label", "LabelBinarizer"): _Binarizer,
    ("sklearn.preprocessing.label", "LabelBinarizer"): _Binarizer,
    ("joblib.numpy_pickle", "NumpyArrayWrapper"): _Array,
}
_NUMPY = {
    "ndarray": np.ndarray,
    "dtype": np.dtype,
    "_reconstruct": np.empty(0).__reduce__()[0],
    "scalar": np.float64(0).__reduce__()[0],
}


# In Python, not C: joblib writes an array's bytes into the middle of the pickle.
_Unpickler: Any = pickle._Unpickler


class _Reader(_Unpickler):
    dispatch: ClassVar[Any] = dict(_Unpickler.dispatch)

    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file)
        self.file = file

    def find_class(self, module: str, name: str) -> Any:
        if module.split(".")[0] == "numpy" and name in _NUMPY:
            return _NUMPY[name]
        if (module, name) in _SCIKIT:
            return _SCIKIT[module, name]
        raise _RefusedError(f"{module}.{name}")

    def load_build(self) -> None:
        super().load_build()
        if isinstance(self.stack[-1], _Array):
            self.stack[-1] = self._array(self.stack[-1])

    dispatch[pickle.BUILD[0]] = load_build

    def _array(self, stored: Any) -> np.ndarray:
        if stored.dtype.hasobject:
            found: np.ndarray = _Reader(self.file).load()
            return found
        if getattr(stored, "numpy_array_alignment_bytes", None) is not None:
            self.file.read(self.file.read(1)[0])
        count = math.prod(int(n) for n in stored.shape)
        data = self.file.read(count * stored.dtype.itemsize)
        return np.frombuffer(data, stored.dtype, count).reshape(stored.shape, order=stored.order)


class _RefusedError(Exception):
    """The pickle names something that is not read."""


def read_head(path: Path, labels: Sequence[Any] | None) -> Head:
    """Return the classifier in ``path``; ``labels`` are those of config_setfit.json, or None.

    Raises InputError for a file that is damaged, and by its name for any classifier but
    LogisticRegression: alone, or one for each of several labels.
    """
    where = str(path)
    try:
        found = _Reader(io.BytesIO(path.read_bytes())).load()
    except _RefusedError as exc:
        raise InputError(
            f"holds {exc}, and only scikit-learn's LogisticRegression is carried",
            where=where,
            hint="A head of torch (SetFitHead) is not: train it with use_differentiable_head=False."
            if "setfit" in str(exc)
            else None,
        ) from exc
    # A pickle may have any fault that its author liked.
    except Exception as exc:
        raise InputError(f"is damaged, or not what SetFit writes ({exc})", where=where) from exc
    try:
        return _head(found, labels, where)
    except (AttributeError, KeyError, TypeError, ValueError, IndexError) as exc:
        raise InputError(f"is not a classifier that was trained ({exc})", where=where) from exc


def _head(found: Any, labels: Sequence[Any] | None, where: str) -> Head:
    if isinstance(found, _Logistic):
        classes = found.classes_.tolist()
        weight, bias = _linear(found, where)
        if len(classes) == 2:  # of the two logits only the difference counts
            weight, bias = np.vstack([-weight, weight]) / 2, np.concatenate([-bias, bias]) / 2
        named = [_label(value, labels) for value in classes]
        return _checked(weight, bias, named, "softmax", where)
    if isinstance(found, _OneVsRest) and found.label_binarizer_.y_type_.startswith("multilabel"):
        classes = found.label_binarizer_.classes_.tolist()
    elif isinstance(found, _MultiOutput):
        classes = list(range(len(found.estimators_)))
    else:
        raise InputError(
            f"holds a {type(found).__name__.strip('_')} that is not for several labels a text, "
            "which is not carried",
            where=where,
        )
    for one in found.estimators_:
        if not isinstance(one, _Logistic) or one.classes_.tolist() != [0, 1]:
            raise InputError("holds a label that was always or never given", where=where)
    parts = [_linear(one, where) for one in found.estimators_]
    weight, bias = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    return _checked(weight, bias, [_label(v, labels) for v in classes], "sigmoid", where)


def _linear(one: Any, where: str) -> tuple[np.ndarray, np.ndarray]:
    """Return weight and bias. Raises InputError if versions of scikit-learn read it unlike."""
    many = len(one.classes_) > 2
    way = getattr(one, "multi_class", "auto")
    other = way in ("ovr", "warn") or one.solver == "liblinear" if many else way == "multinomial"
    if other:
        raise InputError(
            f"its LogisticRegression (multi_class={way!r}, solver={one.solver!r}) gives other "
            "probabilities by the version of scikit-learn",
            where=where,
            hint="Train it again with scikit-learn's own defaults.",
        )
    bias = np.broadcast_to(np.asarray(one.intercept_, np.float64), (len(one.coef_),))
    return np.asarray(one.coef_, np.float64), bias


def _label(value: Any, labels: Sequence[Any] | None) -> str:
    """Return a class's name, as SetFit finds it: numbers are places among the labels."""
    return str(value if not labels or isinstance(value, str) else labels[int(value)])


def _checked(
    weight: np.ndarray, bias: np.ndarray, labels: list[str], activation: str, where: str
) -> Head:
    if weight.shape != (len(labels), weight.shape[1]) or bias.shape != (len(labels),):
        raise InputError(f"{len(labels)} classes, but weights {weight.shape}", where=where)
    if not (np.isfinite(weight).all() and np.isfinite(bias).all()):
        raise InputError("has weights that are not finite", where=where)
    return Head(weight=weight, bias=bias, labels=tuple(labels), activation=activation)
