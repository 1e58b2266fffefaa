"""MasKD and the tokens it learns first."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from harness.conformance.terms import compute_terms
from methods.maskd import MasKD, ReceptiveTokens, mask_overlap, masked_distance, receptive_masks
from tests.methods import formulae
from tests.methods.golden import FILES
from tests.methods.pairs import CLASSES, array, build, networks, values


def tokens(scale: float = 0.5) -> ReceptiveTokens:
    torch.manual_seed(0)
    learned = ReceptiveTokens(CLASSES, 3).double().eval().requires_grad_(False)
    learned.tokens.data = torch.randn(3, CLASSES, dtype=torch.float64) * scale
    return learned


def test_golden_values() -> None:
    """Eight tokens sin(0.3 k + 0.1) on 19 classes."""
    terms = compute_terms("maskd", {}, FILES["tokens"])
    assert terms["mask"] == pytest.approx(1.028389688, rel=1e-6)
    assert terms["translator.dice"] == pytest.approx(0.971632294, rel=1e-6)


def test_agrees_with_the_formula() -> None:
    given = networks(1, same=True)
    learned = tokens()
    student, teacher = array(given.step.student.logits), array(given.step.teacher_maps.logits)
    found = values(build(MasKD, given, translator=learned), given)["mask"]
    assert float(found) == pytest.approx(formulae.maskd(student, teacher, array(learned.tokens)), rel=1e-10)


@pytest.mark.parametrize("tau", [1.0, 2.0])
def test_token_terms_agree_with_the_formula(tau: float) -> None:
    given = networks(2)
    learned = tokens()
    learned.task_tau = tau
    terms = learned(given.step.teacher_maps)
    teacher, values_ = array(given.step.teacher_maps.logits), array(learned.tokens)
    assert set(terms) == set(ReceptiveTokens.terms)
    assert float(terms["dice"]) == pytest.approx(formulae.dice(values_, teacher), rel=1e-10)
    assert float(terms["task"]) == pytest.approx(formulae.token_task(values_, teacher, tau), rel=1e-9)


def test_masks_that_add_up_to_one_lose_nothing() -> None:
    """σ(x) + σ(−x) = 1: opposite tokens make a partition, and the task term is zero; equal ones overlap fully."""
    given = networks(3)
    learned = tokens()
    row = learned.tokens[:1]
    learned.tokens.data = torch.cat((row, -row))
    assert float(learned(given.step.teacher_maps)["task"]) == pytest.approx(0, abs=1e-12)
    learned.tokens.data = torch.cat((row, row))
    assert float(learned(given.step.teacher_maps)["dice"]) == pytest.approx(1, rel=1e-9)
    assert float(mask_overlap(torch.rand(2, 1, 9))) == 0


def test_tokens_can_be_learned() -> None:
    """By the prescribed optimiser: what the masks let through comes to say what the teacher says, overlap falls."""
    given = networks(4, batch=4)
    torch.manual_seed(0)
    learned = ReceptiveTokens(CLASSES, 4).double()
    recipe = dict(ReceptiveTokens.recipe["optimizer"])
    assert recipe.pop("name") == "sgd"
    optimizer = torch.optim.SGD(learned.parameters(), **recipe)
    first = {name: float(value.detach()) for name, value in learned(given.step.teacher_maps).items()}
    for _ in range(200):
        optimizer.zero_grad()
        sum(learned(given.step.teacher_maps).values()).backward()  # type: ignore[union-attr]
        optimizer.step()
    last = {name: float(value.detach()) for name, value in learned(given.step.teacher_maps).items()}
    assert last["task"] < 0.8 * first["task"]
    assert last["dice"] < 0.9 * first["dice"]
    health = learned.health(given.step.teacher_maps)
    assert health["dead_masks"] == 0 and health["mask_overlap"] == pytest.approx(last["dice"])
    assert 0 < health["mask_variation"] < 0.5 and 0 <= health["agreement"] <= 1


def test_dead_and_diverged_tokens_are_refused() -> None:
    given = networks(5)
    teacher = replace(given.step.teacher_maps, logits=given.step.teacher_maps.logits.abs() + 1)  # type: ignore[type-var]
    learned = tokens()
    learned.tokens.data.fill_(-50.0)
    with pytest.raises(ValueError, match="dead"):
        learned.health(teacher)
    learned.tokens.data.zero_()
    with pytest.raises(ValueError, match="collapsed"):
        learned.health(teacher)
    learned.tokens.data.fill_(float("nan"))
    with pytest.raises(ValueError, match="not finite"):
        learned.health(teacher)


def test_a_mask_weighs_what_it_covers() -> None:
    """A mask of ones on half the positions gives half the mean squared difference there."""
    student, teacher = (torch.randn(1, 2, 1, 8, dtype=torch.float64) for _ in range(2))
    masks = torch.tensor([[[1.0] * 4 + [0.0] * 4]], dtype=torch.float64)
    expected = 0.5 * (student - teacher)[..., :4].square().mean()
    assert float(masked_distance(student, teacher, masks, eps=0)) == pytest.approx(float(expected), rel=1e-12)


def test_masks_belong_to_the_teacher() -> None:
    """Masks are drawn on the teacher's own grid and follow the comparison to the student's."""
    given = networks()
    finer, coarser = (
        float(values(build(MasKD, given, translator=tokens(), align=g), given)["mask"]) for g in ("teacher", "student")
    )
    assert finer != coarser
    assert receptive_masks(tokens().tokens, given.step.teacher_maps.logits).shape == (2, 3, 24)


def test_translator_key() -> None:
    """What the stage depends on; nothing is learned for a term of weight zero."""
    given = networks()
    params = MasKD.Params(tokens=6)
    key = MasKD.translator_key(params, frozenset({"mask"}), given.student, given.teacher)
    assert key == {"tokens": 6, "task_tau": 1.0}
    assert MasKD.translator_key(params, frozenset(), given.student, given.teacher) is None
    learned = MasKD.build_translator(key, given.teacher)
    assert isinstance(learned, ReceptiveTokens) and learned.tokens.shape == (6, CLASSES)
    with pytest.raises(ValueError, match="receptive tokens"):
        MasKD(params, frozenset({"mask"}), given.student, given.teacher)
