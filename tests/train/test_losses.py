# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0

import math

import pytest

torch = pytest.importorskip("torch", reason="needs edgeopt[torch]")
losses = pytest.importorskip("edgeopt.train.losses")
pytestmark = pytest.mark.heavy

MASK = torch.tensor([[1, 1, 1], [1, 1, 0]])


def values(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_the_response_is_the_kl_distance(temperature: float) -> None:
    student, teacher = torch.tensor([[0.0, 0.0]]), torch.tensor([[math.log(3), 0.0]])
    p = 3 ** (1 / temperature) / (1 + 3 ** (1 / temperature))
    expected = temperature**2 * (p * math.log(2 * p) + (1 - p) * math.log(2 * (1 - p)))
    assert float(losses.response(student, teacher, temperature)) == pytest.approx(expected)
    assert float(losses.response(teacher, teacher, temperature)) == 0


def test_texts_without_a_label_do_not_count() -> None:
    logits, expected = torch.tensor([[0.0, math.log(3)], [5.0, -5.0]]), torch.tensor([1, -100])
    assert float(losses.labels(logits, expected)) == pytest.approx(math.log(4 / 3))
    assert float(losses.labels(logits, torch.tensor([-100, -100]))) == 0


def test_padding_does_not_count() -> None:
    student, teacher = values(2, 3, 8), values(2, 3, 8, seed=1)
    other = teacher.clone()
    other[1, 2] = 9.0
    for loss in (losses.hidden, losses.cosine, lambda *a: losses.relations(*a, heads=2)):
        assert float(loss(student, teacher, MASK)) == float(loss(student, other, MASK)) > 0.01
    scores = [losses.attention_scores(v, v, 2) for v in (student, teacher, other)]
    found = [losses.attention(scores[0], goal, MASK) for goal in scores[1:]]
    assert float(found[0]) == pytest.approx(float(found[1]))
    assert float(losses.hidden(student + 1, student, MASK)) == pytest.approx(1.0)


def test_identical_networks_are_at_no_distance() -> None:
    tokens, texts = values(2, 3, 8), values(5, 8)
    assert float(losses.hidden(tokens, tokens, MASK)) == 0
    assert float(losses.cosine(tokens, tokens, MASK)) == pytest.approx(0, abs=1e-6)
    assert float(losses.relations(tokens, tokens, MASK, 4)) == 0
    scores = losses.attention_scores(tokens, tokens, 2)
    assert float(losses.attention(scores, scores, MASK)) == 0
    for loss in (losses.distances, losses.angles, losses.embedding):
        assert float(loss(texts, texts)) == 0
    assert float(losses.embedding_cosine(3 * texts, texts)) == pytest.approx(0, abs=1e-6)


def test_attention_scores_are_those_of_each_head() -> None:
    q, k = torch.tensor([[[1.0, 2.0, 3.0, 4.0]]]), torch.tensor([[[5.0, 6.0, 7.0, 8.0]]])
    found = losses.attention_scores(q, k, 2).flatten()
    assert found.tolist() == pytest.approx([17 / math.sqrt(2), 53 / math.sqrt(2)])


def test_relations_of_two_tokens() -> None:
    student, teacher = torch.tensor([[[1.0], [0.0]]]), torch.zeros(1, 2, 1)
    high = math.e / (1 + math.e)  # softmax of the scores (1, 0); the teacher's are even
    first = 0.5 * (math.log(0.5 / high) + math.log(0.5 / (1 - high)))
    mask = torch.ones(1, 2)
    assert float(losses.relations(student, teacher, mask, 1)) == pytest.approx(first / 2)
    # Widths may differ: two heads of 1 and of 2, whose scores 1 and 2 / sqrt(2) are made equal.
    narrow, wide = 2**0.25 * student.repeat(1, 1, 2), student.repeat(1, 1, 4)
    assert float(losses.relations(narrow, wide, mask, 2)) == pytest.approx(0, abs=1e-6)


def test_distances_and_angles_between_texts() -> None:
    student, teacher = torch.tensor([[0.0], [1.0], [2.0]]), torch.tensor([[0.0], [1.0], [3.0]])
    # By their means .75, 1.5, .75 and .5, 1.5, 1: half the squares of .25, 0, .25, in the mean.
    assert float(losses.distances(student, teacher)) == pytest.approx(0.0625 / 3)
    corner = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    sharp = torch.tensor([[0.0, 0.0], [1.0, 0.0], [2.0, 0.0]])
    # Cosines at the three: 0, r, r with r = sqrt(1/2), and 1, -1, 1; both directions of each.
    r = math.sqrt(0.5)
    huber = [0.5, 1 + r - 0.5, 0.5 * (1 - r) ** 2]
    assert float(losses.angles(corner, sharp)) == pytest.approx(sum(huber) / 3)
    turned = 3 * values(6, 4) @ torch.linalg.qr(values(4, 4, seed=2))[0]
    for loss in (losses.distances, losses.angles):
        assert float(loss(turned, values(6, 4))) == pytest.approx(0, abs=1e-9)
        assert float(loss(turned[:1], turned[:1])) == 0


def test_losses_are_exact_in_mixed_precision() -> None:
    student, teacher = values(2, 3, 8), values(2, 3, 8, seed=1)
    texts = student[:, :, 0].T, teacher[:, :, 0].T
    plain = [losses.relations(student, teacher, MASK, 2), losses.angles(*texts)]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = [losses.relations(student, teacher, MASK, 2), losses.angles(*texts)]
    assert [float(loss) for loss in mixed] == [float(loss) for loss in plain]
