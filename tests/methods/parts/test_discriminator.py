"""The discriminator, and the adversarial terms of skd and cwd."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from methods.parts.discriminator import Discriminator
from tests.methods.pairs import build, maps, pair, tracked


def discriminator(loss: str, **changes: object) -> Discriminator:
    torch.manual_seed(0)
    return Discriminator(5, **{"loss": loss, "width": 4, **changes}).double()


def inputs(seed: int = 0, grid: tuple[int, int] = (6, 8)) -> tuple[Tensor, Tensor, Tensor]:
    """Student's logits, teacher's logits, images."""
    student, teacher = maps(seed, grid=grid), maps(seed + 1, grid=grid)
    return student.logits, teacher.logits, pair(student, teacher).step.images


def test_hinge_is_its_formula() -> None:
    student, teacher, images = inputs(grid=(40, 24))
    judge = discriminator("hinge").eval()
    assert judge(teacher, images).shape == (2, 6), "a score for every patch"
    real, fake = judge(teacher, images).flatten().tolist(), judge(student, images).flatten().tolist()
    expected = [max(0.0, 1 - r) + max(0.0, 1 + f) for r, f in zip(real, fake, strict=True)]
    assert judge.discriminator_loss(student, teacher, images).item() == pytest.approx(sum(expected) / len(expected))
    assert judge.student_loss(student, images).item() == pytest.approx(-judge(student, images).mean().item())


def test_gradient_penalty_is_zero_for_slope_one() -> None:
    judge = discriminator("wgan-gp", penalty=10.0)

    def slope(length: float) -> float:
        def score(logits: Tensor) -> Tensor:
            direction = torch.zeros_like(logits)
            direction[:, 0, 0, 0] = length
            return (logits * direction).sum(dim=(1, 2, 3))[:, None]

        judge._scores = lambda given, images: [score(logits) for logits in given]  # type: ignore[method-assign]
        student, teacher, images = inputs()
        gap = (score(student) - score(teacher)).mean()
        return float(judge.discriminator_loss(student, teacher, images) - gap)

    assert slope(1.0) == pytest.approx(0, abs=1e-12)
    assert slope(3.0) == pytest.approx(10 * (3 - 1) ** 2)


@pytest.mark.parametrize("loss", ["hinge", "wgan-gp"])
def test_student_term_teaches_the_student_and_not_the_judge(loss: str) -> None:
    student, _, images = inputs()
    judge = discriminator(loss)
    student.requires_grad_()
    judge.student_loss(student, images).backward()
    assert student.grad is not None and float(student.grad.abs().sum()) > 0
    assert all(p.grad is None and p.requires_grad for p in judge.parameters())


@pytest.mark.parametrize("loss", ["hinge", "wgan-gp"])
def test_own_loss_teaches_the_judge_and_not_the_networks(loss: str) -> None:
    student, teacher, images = inputs()
    judge = discriminator(loss)
    student.requires_grad_()
    teacher.requires_grad_()
    judge.discriminator_loss(student, teacher, images).backward()
    assert student.grad is None and teacher.grad is None
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in judge.parameters())


@pytest.mark.parametrize("loss", ["hinge", "wgan-gp"])
def test_the_judge_learns_to_tell_them_apart(loss: str) -> None:
    judge = discriminator(loss).float()
    optimizer = torch.optim.Adam(judge.parameters(), lr=4e-4, betas=(0.9, 0.99))
    student, teacher, images = (x.float() for x in inputs())
    student, teacher = student - 1, teacher + 1
    before = (judge(teacher, images) - judge(student, images)).mean().item()
    for _ in range(20):
        optimizer.zero_grad()
        judge.discriminator_loss(student, teacher, images).backward()
        optimizer.step()
    after = (judge(teacher, images) - judge(student, images)).mean().item()
    assert after > before + 0.03


@pytest.mark.parametrize("grid", [(1, 1), (3, 2), (70, 90)], ids=str)
def test_any_grid_will_do(grid: tuple[int, int]) -> None:
    judge = discriminator("wgan-gp", width=2, size=16)
    torch.manual_seed(0)
    student, teacher = (torch.randn(2, 5, *grid, dtype=torch.float64) for _ in range(2))
    images = torch.randn(2, 3, 16, 16, dtype=torch.float64)
    assert judge(student, images).shape[0] == 2
    assert torch.isfinite(judge.discriminator_loss(student, teacher, images))


def test_it_may_look_at_scores_alone() -> None:
    student, _, images = inputs()
    blind, seeing = discriminator("hinge", image=False).eval(), discriminator("hinge").eval()
    assert torch.equal(blind(student, images), blind(student, images + 1))
    assert not torch.equal(seeing(student, images), seeing(student, images + 1))


def test_it_works_in_full_precision_under_autocast() -> None:
    student, teacher, images = (x.float() for x in inputs())
    judge = discriminator("hinge").float().eval()
    with torch.autocast("cpu", torch.bfloat16):
        inside = judge.discriminator_loss(student, teacher, images)
    torch.testing.assert_close(inside, judge.discriminator_loss(student, teacher, images), rtol=0, atol=0)


@pytest.mark.parametrize(("name", "term"), [("skd", "holistic"), ("cwd", "adversarial")])
def test_methods_have_a_judge_only_while_its_term_is_active(name: str, term: str) -> None:
    student = tracked(maps(1, grid=(3, 4)))
    given = pair(student, maps(2, channels=7), stride=16)
    method = build(name, given, term)
    judge = method.get_discriminator()
    assert isinstance(judge, nn.Module) and method.discriminator_recipe["name"] == "adam"
    value = method(given.step)[term]
    value.backward()
    assert student.logits.grad is not None and all(p.grad is None for p in judge.parameters())
    loss = method.discriminator_loss(replace(given.step, student=maps(1, grid=(3, 4))))
    loss.backward()
    assert all(p.grad is not None for p in judge.parameters())
    assert build(name, given, "kd").get_discriminator() is None
