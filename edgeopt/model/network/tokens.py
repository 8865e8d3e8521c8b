# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Encoders that let fewer tokens through: some layers hand on only a share of what reached them.

A checkpoint says so in the section of our own (``edgeopt.model.network.shape_config``):
``{"tokens": {"method": "pool", "layers": [1, 3], "keep": [0.5, 0.5]}}``. In each of these layers
tokens go between attention and feed-forward (as in PoWER-BERT), so that the layer's own
feed-forward has fewer already. The first token ([CLS]) always stays.

``pool``: the mean of each group of neighbours, padding left out (Dai et al. 2020,
"Funnel-Transformer"). If a task needs a hidden state for each token, the end of the encoder
gives every token that of its group.

``prune``: those stay that all tokens attend to most (Goyal et al. 2020, "PoWER-BERT", section
3.2: the attention received, summed over heads and queries). Tensors have a size that follows from
the padded length; of the tokens that fit in, those beyond the share of the *real* ones are masked.

So neither result depends on how much padding a text has. Sizes are computed with whole numbers
from the length alone, so that engines of fixed and of free lengths can both run it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from edgeopt.errors import InputError
from edgeopt.fields import Table
from edgeopt.model.network.families import TEXTS
from edgeopt.model.network.widths import Build, blocks, family, supported
from edgeopt.steps.tokens import METHODS, read_keep, share

if TYPE_CHECKING:
    import torch

OF_IMAGES = ("vit", "deit", "vit_msn")
"""Networks of images that classify by the first token; DeiT's with a teacher reads two."""

_MOST = 60_000.0
"""Above any attention received, which is at most heads * tokens; half precision still holds it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Reduction:
    """What one layer does to its tokens; ``keep`` is the share that goes on."""

    method: str
    keep: Fraction

    def length(self, seq: Any) -> Any:
        """Return how many tokens are left of ``seq``; works on numbers and on traced sizes."""
        if self.method == "pool":  # the first alone, the others in groups
            return 1 + (seq + self.keep.denominator - 2) // self.keep.denominator
        return (seq * self.keep.numerator + self.keep.denominator - 1) // self.keep.denominator


def reduce(network: Any, indices: Sequence[int], method: str, keep: Sequence[Fraction]) -> None:
    """Let layers ``indices`` of ``network`` hand on the shares ``keep``, in place."""
    if method == "prune" and per_token(network):
        raise InputError(
            "tokens can be pruned only where the first one alone is read (classifiers of texts)",
            hint='method = "pool" works here.',
        )
    kind = network.config.model_type
    found = blocks(network)
    forward = _vit if kind in OF_IMAGES else _distilbert if kind == "distilbert" else _bert
    for index, value in zip(indices, keep, strict=True):
        layer: Any = found[index]
        layer.reduction = Reduction(method=method, keep=value)
        layer.__class__ = _changed(type(layer), forward)
    if kind in OF_IMAGES:  # which has no mask to hand on, and no output for each token
        return
    stack: Any = network.base_model.get_submodule(family(network).blocks.rpartition(".")[0])
    stack.per_token = per_token(network)
    stack.__class__ = _changed(type(stack), _stack)


def per_token(network: Any) -> bool:
    """Tell whether the outputs of ``network`` depend on more than the first token's state."""
    ends = ("ForSequenceClassification", "ForImageClassification")
    return not type(network).__name__.endswith(ends)


def reads_first(network: Any) -> bool:
    """Tell whether ``network`` is one whose layers can hand on fewer tokens."""
    kind = network.config.model_type
    return kind in TEXTS or (kind in OF_IMAGES and not per_token(network))


def reductions(network: Any) -> dict[int, Reduction]:
    """Return what each layer that hands on fewer tokens does, by its number."""
    found: Any = blocks(network)
    return {i: layer.reduction for i, layer in enumerate(found) if hasattr(layer, "reduction")}


def describe(network: Any) -> dict[str, Any]:
    """Return the keys for the section of our own: none if every layer hands on all tokens."""
    found = reductions(network) if supported(network) else {}
    if not found:
        return {}
    (method,) = {reduction.method for reduction in found.values()}
    keep = [float(reduction.keep) for reduction in found.values()]
    return {"tokens": {"method": method, "layers": list(found), "keep": keep}}


def read(table: Table, config: Any) -> Build | None:
    """Return the function that has layers hand on fewer tokens; None if ``table`` names none.

    Raises InputError if the table is damaged or does not fit the rest of config.json.
    """
    own = table.optional_table("tokens")
    if own is None:
        return None
    method = own.choice("method", METHODS)
    indices = own.ascending("layers", low=0, high=config.num_hidden_layers - 1)
    keep = [share(value) for value in read_keep(own, method, len(indices))]
    own.close()

    def build(network: Any) -> None:
        reduce(network, indices, method, keep)

    return build


def _changed(kind: type, forward: Any) -> type:
    """Return a subclass of a module's class with another ``forward``: weights keep their names."""
    return type(kind.__name__, (kind,), {"forward": forward, "__module__": kind.__module__})


def _stack(self: Any, hidden_states: Any, attention_mask: Any = None, **_: Any) -> Any:
    """Run all layers, the mask changing with the tokens (an encoder's other arguments are None)."""
    import torch
    from transformers.modeling_outputs import BaseModelOutputWithPastAndCrossAttentions

    if attention_mask is None:  # what transformers makes of a mask of ones only
        attention_mask = torch.zeros_like(hidden_states[:, None, None, :, 0])
    mask = attention_mask[:, :, :1]  # (batch, 1, 1, seq): transformers' own has a row a query
    done = []
    for layer in self.layer:
        if hasattr(layer, "reduction"):
            done.append((layer.reduction, hidden_states.shape[1]))
            hidden_states, mask = layer(hidden_states, mask)
        else:
            hidden_states = layer(hidden_states, mask)
    if self.per_token:
        for reduction, before in reversed(done):
            hidden_states = _spread(hidden_states, reduction, before)
    return BaseModelOutputWithPastAndCrossAttentions(last_hidden_state=hidden_states)


def _bert(self: Any, hidden_states: Any, attention_mask: Any = None, **_: Any) -> Any:
    """Return hidden states and mask of the tokens left, of a layer of BERT or RoBERTa."""
    attended, weights = self.attention(hidden_states, attention_mask)
    attended, mask = _fewer(attended, attention_mask, weights, self.reduction)
    return self.feed_forward_chunk(attended), mask


def _distilbert(self: Any, hidden_states: Any, attention_mask: Any = None, **_: Any) -> Any:
    """Return hidden states and mask of the tokens left, of a layer of DistilBERT."""
    attended, weights = self.attention(hidden_states, attention_mask=attention_mask)
    attended = self.sa_layer_norm(attended + hidden_states)
    attended, mask = _fewer(attended, attention_mask, weights, self.reduction)
    return self.output_layer_norm(self.ffn(attended) + attended), mask


def _vit(self: Any, hidden_states: Any, attention_mask: Any = None, **others: Any) -> Any:
    """Return the hidden states of the tokens left, of a layer of a vision transformer."""
    import torch

    del others
    attended, weights = self.attention(self.layernorm_before(hidden_states), attention_mask)
    attended = attended + hidden_states
    mask = torch.zeros_like(hidden_states[:, None, None, :, 0])  # every token of an image counts
    attended, _ = _fewer(attended, mask, weights, self.reduction)
    return self.mlp(self.layernorm_after(attended)) + attended


def _fewer(
    hidden: torch.Tensor, mask: torch.Tensor, weights: torch.Tensor | None, reduction: Reduction
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return hidden states (batch, left, hidden) and additive mask (batch, 1, 1, left).

    ``mask`` is (batch, 1, 1, seq), ``weights`` are the attention's (batch, heads, seq, seq).
    """
    if reduction.method == "pool":
        return _pool(hidden, mask, reduction)
    if weights is None:
        raise InputError("tokens can be pruned only where the attention gives its probabilities")
    return _prune(hidden, mask, weights, reduction)


def _real(mask: torch.Tensor) -> torch.Tensor:
    """Return (batch, seq): 1 if the additive mask (batch, 1, 1, seq) is 0, else 0.

    Not mask + 1, clamped: OpenVINO 2026.4 folds that 1 into the mask's own arithmetic on the lowest
    float, where it is lost, once the graph is quantised.
    """
    return mask[:, 0, 0].exp()


def _pool(
    hidden: torch.Tensor, mask: torch.Tensor, reduction: Reduction
) -> tuple[torch.Tensor, torch.Tensor]:
    import torch

    group = reduction.keep.denominator
    real = _real(mask)
    batch, seq, size = hidden.shape
    left = reduction.length(seq)
    # Zeros before the first token leave it alone in its group; those behind fill up the last.
    ends = (group - 1, group - 1)
    tokens = torch.nn.functional.pad(hidden * real.unsqueeze(2), (0, 0, *ends))
    counts = torch.nn.functional.pad(real, ends)
    masked = torch.nn.functional.pad(mask[:, 0, 0], ends, value=torch.finfo(mask.dtype).min)
    tokens = tokens[:, : left * group].reshape(batch, left, group, size).sum(2)
    counts = counts[:, : left * group].reshape(batch, left, group).sum(2)
    masked = masked[:, : left * group].reshape(batch, left, group).amax(2)[:, None, None]
    counts = counts + 1 - _real(masked)  # a group of padding only is divided by 1
    return tokens / counts.unsqueeze(2), masked


def _prune(
    hidden: torch.Tensor, mask: torch.Tensor, weights: torch.Tensor, reduction: Reduction
) -> tuple[torch.Tensor, torch.Tensor]:
    import torch

    real = _real(mask)
    left = reduction.length(hidden.shape[1])
    # Summed over heads and real queries. Not as a matrix product with the mask: quantisers give
    # its factors 8 bits, and the ranking is by them.
    received = (weights.sum(1) * real.unsqueeze(2)).sum(1)
    importance = received * real + (real - 1)  # padding gets -1, behind every real token
    importance = torch.nn.functional.pad(importance[:, 1:], (1, 0), value=_MOST)
    chosen = torch.topk(importance, left, dim=1).indices
    kept = hidden.gather(1, chosen.unsqueeze(2).expand(-1, -1, hidden.shape[2]))
    # Whole numbers: token r of those that stay is real if r < keep * (number of real tokens).
    keep, ranks = reduction.keep, torch.arange(left, device=hidden.device)
    fits = keep.numerator * real.sum(1, keepdim=True) - keep.denominator * ranks
    masked = torch.where(fits > 0, 0.0, torch.finfo(mask.dtype).min)
    return kept, masked[:, None, None]


def _spread(hidden: torch.Tensor, reduction: Reduction, seq: int) -> torch.Tensor:
    """Return (batch, seq, hidden): to each token what its group has."""
    import torch

    batch, left, size = hidden.shape
    groups, group = hidden[:, 1:].unsqueeze(2), reduction.keep.denominator
    tokens = groups.expand(-1, -1, group, -1).reshape(batch, (left - 1) * group, size)
    return torch.cat([hidden[:, :1], tokens[:, : seq - 1]], dim=1)
