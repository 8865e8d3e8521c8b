"""What each task's outputs are called and shaped like."""

from __future__ import annotations

from edgeopt.model.signature import Signature, TensorSpec

INPUTS = ("input_ids", "attention_mask", "token_type_ids")
"""Every input that a model may have, in the order of the call."""

OUTPUTS = {
    "feature-extraction": ("last_hidden_state",),
    "sequence-classification": ("logits",),
    "token-classification": ("logits",),
    "question-answering": ("start_logits", "end_logits"),
}
"""Output names by task, in the order of the call."""


def signature(inputs: tuple[str, ...], task: str, *, hidden: int, labels: int) -> Signature:
    """Return the signature of a task; ``hidden`` and ``labels`` are the last dimension's sizes."""
    dims: dict[str, tuple[int | str, ...]] = {
        "feature-extraction": ("batch", "seq", hidden),
        "sequence-classification": ("batch", labels),
        "token-classification": ("batch", "seq", labels),
        "question-answering": ("batch", "seq"),
    }
    return Signature(
        inputs=tuple(TensorSpec(name=n, dtype="int64", dims=("batch", "seq")) for n in inputs),
        outputs=tuple(TensorSpec(name=n, dtype="float32", dims=dims[task]) for n in OUTPUTS[task]),
    )
