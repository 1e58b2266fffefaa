"""Recipes: common fields, changes by kind, and what a wrong one is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.errors import HarnessError
from harness.specs.recipes import KINDS, differences, load_recipe, recipe_names
from harness.specs.spec import Protocol


@pytest.mark.parametrize("name", recipe_names())
def test_every_built_in_recipe_resolves_for_every_kind(name: str) -> None:
    recipe = load_recipe(name)
    assert recipe.summary
    for kind in KINDS:
        assert recipe.for_kind(kind).iterations > 0


def test_a_kind_overrides_the_common_part_in_depth(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("optimizer: {lr: 0.1, momentum: 0.5}\niterations: 10\nteacher: {optimizer: {lr: 0.2}}\n")
    recipe = load_recipe(str(file))
    assert recipe.for_kind("teacher").optimizer.lr == 0.2
    assert recipe.for_kind("teacher").optimizer.momentum == 0.5
    assert recipe.for_kind("student").optimizer.lr == 0.1


def test_what_a_translator_prescribes_stands_between(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("iterations: 10\ntranslator: {iterations: 5}\n")
    found = load_recipe(str(file)).for_kind("translator", {"optimizer": {"lr": 0.3}, "iterations": 99})
    assert (found.optimizer.lr, found.iterations) == (0.3, 5)


def test_changes_by_path_hold_for_one_kind_or_for_all(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("iterations: 10\nteacher: {iterations: 20, optimizer: {lr: 0.5}}\n")
    recipe = load_recipe(str(file))
    everywhere = recipe.changed({"iterations": 3})
    assert [everywhere.for_kind(k).iterations for k in KINDS] == [3, 3, 3]
    assert everywhere.for_kind("teacher").optimizer.lr == 0.5
    one = recipe.changed({"student.optimizer.lr": 0.7})
    assert one.for_kind("student").optimizer.lr == 0.7
    assert one.for_kind("teacher").optimizer.lr == 0.5
    assert recipe.label() != one.label()
    assert recipe.label() != everywhere.label()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("iterations: 0", "greater than 0"),
        ("optimiser: {}", "optimiser"),
        ("optimizer: {name: lion}", "sgd"),
        ("batch_size: 2\naccumulate: 3", "teacher: accumulate: a batch of 2 has no 3 parts"),
        ("evaluation: {overlap: 0.5}", "evaluation: an overlap without a window"),
        ("- 1", "not a recipe"),
        ("a: [", "not YAML"),
    ],
)
def test_a_wrong_recipe_is_told_what_is_wrong(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "bad.yaml"
    file.write_text(text)
    with pytest.raises(HarnessError, match=said):
        load_recipe(str(file))


def test_an_unknown_recipe_gets_a_hint() -> None:
    with pytest.raises(HarnessError) as error:
        load_recipe("quik")
    assert "quick" in error.value.hint


def test_camvid_teaches_teacher_and_student_alike_at_full_scale_and_clips_nothing() -> None:
    recipe = load_recipe("camvid")
    student, teacher = recipe.for_kind("student"), recipe.for_kind("teacher")
    assert student == teacher
    assert (student.crop, student.batch_size, student.augment.scale) == ((288, 288), 8, (0.6, 1.7))
    assert (student.optimizer.name, student.optimizer.lr, student.schedule.name) == ("adamw", 1e-3, "poly")
    assert student.eval_size is None and student.clip_grad is None


def test_camvid_tiny_is_the_recipe_that_the_published_rows_were_trained_with() -> None:
    """Its label is that of the board of results/published/camvid, from when it was named `camvid`."""
    assert load_recipe("camvid-tiny").label() == "camvid-tiny-a9f758"


def test_the_papers_recipes_are_theirs() -> None:
    """He et al. 2019: 30K, 30K and 90K iterations; CIRKD: crops by data set."""
    ka = {name: load_recipe(f"ka-{name}").for_kind("student") for name in ("voc", "context", "cityscapes")}
    assert {name: (r.iterations, r.crop[0]) for name, r in ka.items()} == {
        "voc": (30000, 513), "context": (30000, 513), "cityscapes": (90000, 769),
    }  # fmt: skip
    assert {(r.optimizer.lr, r.optimizer.weight_decay, r.batch_size, r.schedule.power) for r in ka.values()} == {
        (0.007, 4e-5, 16, 0.9)
    }
    crops = {"cityscapes": (512, 1024), "voc": (512, 512), "ade20k": (512, 512), "camvid": (360, 360)}
    for name, crop in crops.items():
        recipe = load_recipe(f"cirkd-{name}").for_kind("student")
        assert (recipe.crop, recipe.iterations, recipe.batch_size, recipe.optimizer.lr) == (crop, 40000, 16, 0.02)
        # The authors' training code: cross-entropy of an auxiliary head, 0.4, for ResNets; whole images at one scale.
        assert recipe.loss.auxiliary == 0.4 and recipe.evaluation == Protocol()


def test_the_difference_of_two_recipes() -> None:
    found = differences(load_recipe("ka-voc"), load_recipe("cirkd-voc"))
    assert ("crop", [513, 513], [512, 512]) in found and ("optimizer.lr", 0.007, 0.02) in found
    assert {path for path, *_ in found} == {
        "crop", "optimizer.lr", "optimizer.weight_decay", "validate_every", "teacher.iterations", "student.iterations",
        "teacher.loss.auxiliary", "student.loss.auxiliary",
    }  # fmt: skip
    assert differences(load_recipe("ka-voc"), load_recipe("ka_paper")) == []
