"""CIRKD and its memories."""

from __future__ import annotations

import copy
import io
from pathlib import Path

import pytest
import torch
from torch import Tensor, multiprocessing, nn
from torch import distributed as dist

from harness.builders.expression import resolve
from harness.conformance.terms import compute_terms
from methods.base import IGNORE
from methods.cirkd import CIRKD, Memory, Seeds, class_means, class_pixels, pixel_relations, relation_kl, unit_positions
from methods.parts.adapters import identity_adapters
from methods.parts.grids import regrid
from tests.methods import formulae
from tests.methods.golden import ARRAYS
from tests.methods.pairs import CLASSES, Pair, array, build, networks, values

SMALL = {"pixel_memory": 40, "region_memory": 10, "pixel_keys": 60, "region_keys": 20, "pixels_per_image": 4}


def make(given: Pair) -> CIRKD:
    return build(CIRKD, given, **SMALL)  # type: ignore[return-value]


def make_batch(given: Pair) -> CIRKD:
    return build(CIRKD, given, "batch", "kd")  # type: ignore[return-value]


# --- relations -------------------------------------------------------------------------------------------------------


def test_golden_value() -> None:
    """The mini-batch term compares similarities only: no adapter enters."""
    terms = compute_terms("cirkd", {"pixel_memory": 50, "region_memory": 50}, ARRAYS)
    assert terms["batch"] == pytest.approx(7.291099052, rel=1e-6)
    assert terms["kd"] == pytest.approx(1.386444682, rel=1e-6)


def test_batch_term_agrees_with_the_formula() -> None:
    """With channels that differ."""
    generator = torch.Generator().manual_seed(0)
    student = torch.randn(3, 4, 2, 3, dtype=torch.float64, generator=generator)
    teacher = torch.randn(3, 6, 2, 3, dtype=torch.float64, generator=generator)
    found = pixel_relations(unit_positions(student), unit_positions(teacher), 0.1)
    assert float(found) == pytest.approx(formulae.batch_relations(array(student), array(teacher), 0.1), rel=1e-9)


def test_memory_terms_agree_with_the_formula() -> None:
    """Keys are those that the same seed draws from a memory that is not added to; the ignored pixels do not count."""
    given = networks(1, same=True)
    method = make(given).eval()
    identity_adapters(method)
    torch.manual_seed(1)
    seeds = Seeds.draw()
    keys = {
        "pixel": method.pixels.sample(SMALL["pixel_keys"], seeds.pixel_keys)[0],
        "region": method.regions.sample(SMALL["region_keys"], seeds.region_keys)[0],
    }
    found = values(method, given)
    student, teacher = array(given.step.student.last), array(given.step.teacher_maps.last)
    labelled = formulae.nearest(given.step.labels.numpy(), 4, 6) != IGNORE
    assert 0 < labelled.sum() < labelled.size
    for name in keys:
        expected = formulae.memory_relation(student, teacher, array(keys[name]), labelled, 0.1)
        assert float(found[name]) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("block", [1, 100, 10_000])
def test_blocks_change_neither_value_nor_gradient(block: int) -> None:
    teacher = unit_positions(torch.randn(2, 5, 3, 4, dtype=torch.float64))

    def run(size: int) -> tuple[Tensor, Tensor]:
        torch.manual_seed(0)
        x = torch.randn(2, 5, 3, 4, dtype=torch.float64, requires_grad=True)
        value = pixel_relations(unit_positions(x), teacher, 0.1, block=size)
        value.backward()
        assert x.grad is not None
        return value.detach(), x.grad

    whole, part = run(1 << 22), run(block)
    torch.testing.assert_close(part[0], whole[0], rtol=1e-12, atol=0)
    torch.testing.assert_close(part[1], whole[1], rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("shared", [False, True], ids=["memory", "batch"])
def test_the_gradient_is_the_derivative(shared: bool) -> None:
    """Of rows, and of keys where these are the student's too."""
    generator = torch.Generator().manual_seed(0)
    rows, keys, teacher, theirs = (
        torch.randn(*shape, dtype=torch.float64, generator=generator)
        for shape in ((6, 4), (2, 5, 4), (6, 3), (2, 5, 3))
    )

    def call(s: Tensor, k: Tensor) -> Tensor:
        return relation_kl(s, teacher, k, theirs, 0.5, block=30)

    assert torch.autograd.gradcheck(call, (rows.requires_grad_(), keys.requires_grad_(shared)))


def test_in_float32_large_relations_are_those_of_float64() -> None:
    """Large enough for the products to be convolutions."""
    rows, keys, teacher = torch.randn(400, 64), torch.randn(2, 300, 64), torch.randn(400, 64)

    def run(dtype: torch.dtype) -> tuple[Tensor, ...]:
        s, k = rows.to(dtype).requires_grad_(), keys.to(dtype).requires_grad_()
        value = relation_kl(s, teacher.to(dtype), k, keys.to(dtype), 2.0)
        return value.detach(), *torch.autograd.grad(value, (s, k))

    for found, expected in zip(run(torch.float32), run(torch.float64), strict=True):
        assert float((found.double() - expected).norm() / expected.norm()) < 1e-5


def test_blocks_keep_their_precision_under_autocast() -> None:
    teacher, start = torch.randn(2, 5, 3, 4), torch.randn(2, 5, 3, 4)

    def gradient(autocast: bool) -> Tensor:
        x = start.clone().requires_grad_()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
            loss = pixel_relations(unit_positions(x), unit_positions(teacher), 0.1, block=30)
        loss.backward()
        assert x.grad is not None
        return x.grad

    torch.testing.assert_close(gradient(True), gradient(False), rtol=1e-4, atol=1e-7)


def test_anchors_are_a_sample_of_the_rows() -> None:
    """All anchors give the whole; a part of them the mean over that part."""
    s, t = (unit_positions(torch.randn(2, 4, 3, 4, dtype=torch.float64)) for _ in range(2))
    whole = pixel_relations(s, t)
    halves = [pixel_relations(s, t, anchors=torch.arange(12)[part]) for part in (slice(0, 6), slice(6, 12))]
    assert float(sum(halves) / 2) == pytest.approx(float(whole), rel=1e-12)
    given = networks()
    everything = values(build(CIRKD, given, "batch"), given)["batch"]
    assert torch.equal(everything, values(build(CIRKD, given, "batch", anchors=24), given)["batch"])
    assert not torch.equal(everything, values(build(CIRKD, given, "batch", anchors=5), given)["batch"])
    assert torch.isfinite(values(build(CIRKD, given, anchors=5, **SMALL), given)["pixel"])


def test_pooling_makes_fewer_positions() -> None:
    assert unit_positions(torch.randn(2, 3, 5, 7), 2).shape == (2, 12, 3)
    given = networks()
    assert torch.isfinite(values(build(CIRKD, given, "batch", pool=2), given)["batch"])


def test_no_rows_give_zero() -> None:
    rows = torch.zeros(0, 3, requires_grad=True)
    found = relation_kl(rows, torch.zeros(0, 3), torch.zeros(1, 4, 3), torch.zeros(1, 4, 3), 0.1)
    found.backward()
    assert float(found.detach()) == 0


def test_relations_of_other_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="cannot be compared"):
        pixel_relations(torch.zeros(1, 4, 3), torch.zeros(1, 5, 3))


# --- memories --------------------------------------------------------------------------------------------------------


def test_a_memory_is_a_ring_for_each_class() -> None:
    """The oldest goes first; a class that brings more than fits keeps the last; other classes stay as they are."""
    memory = Memory(3, 4, 1)
    untouched = memory.vectors[2].clone()

    def push(*pairs: tuple[float, int]) -> None:
        memory.push(torch.tensor([[x] for x, _ in pairs]), torch.tensor([k for _, k in pairs]))

    push((10, 0), (20, 1), (11, 0), (12, 0))
    assert memory.vectors[0, :3, 0].tolist() == [10, 11, 12] and memory.next.tolist() == [3, 1, 0]
    push((13, 0), (14, 0))
    assert memory.vectors[0, :, 0].tolist() == [14, 11, 12, 13] and memory.next.tolist() == [1, 1, 0]
    push(*[(float(x), 1) for x in range(30, 37)])
    assert sorted(memory.vectors[1, :, 0].tolist()) == [33, 34, 35, 36] and memory.next.tolist() == [1, 0, 0]
    push(*[(float(x), 0) for x in range(50, 54)])
    assert memory.vectors[0, :, 0].tolist() == [53, 50, 51, 52]
    assert torch.equal(memory.vectors[2], untouched)


def test_pushing_nothing_changes_nothing() -> None:
    memory = Memory(3, 4, 2)
    before = copy.deepcopy(memory.state_dict())
    memory.push(torch.zeros(0, 2), torch.zeros(0, dtype=torch.long))
    assert all(torch.equal(before[name], x) for name, x in memory.state_dict().items())


def test_memory_starts_with_unit_vectors_and_samples_every_class_alike() -> None:
    memory = Memory(3, 50, 4)
    torch.testing.assert_close(memory.vectors.norm(dim=-1), torch.ones(3, 50))
    keys = memory.sample(30, 1)
    assert keys.shape == (1, 33, 4)
    places = [(memory.vectors[k] == keys[0, 11 * k : 11 * k + 11, None]).all(-1).nonzero()[:, 1] for k in range(3)]
    assert torch.equal(places[0], places[1]) and torch.equal(places[0], places[2])
    assert len(set(places[0].tolist())) == 11
    assert memory.sample(10_000, 1).shape == (1, 150, 4)


def test_remembered_pixels_are_of_their_class() -> None:
    """The reference takes them from the first places of the image whatever stands there."""
    labels = torch.randint(-1, 3, (4, 60), generator=torch.Generator().manual_seed(0))
    labels[0] = -1
    member = torch.stack([labels == k for k in range(3)], dim=-1)
    teacher = torch.stack((labels.float(), torch.arange(240.0).reshape(4, 60)), dim=-1)
    vectors, real = class_pixels(teacher, member, 5, 1)
    assert vectors.shape == (4, 3, 5, 2) and not real[0].any() and real[1:].all()
    for k in range(3):
        assert (vectors[1:, k, :, 0] == k).all()
        assert all(len(set(image[:, 1].tolist())) == 5 for image in vectors[1:, k])
    few = member & (torch.arange(60) < 2)[None, :, None]
    _, real = class_pixels(teacher, few, 5, 1)
    assert torch.equal(real.sum(-1), few.sum(1))


def test_class_means() -> None:
    x = unit_positions(torch.randn(2, 3, 4, 5))
    labels = torch.randint(0, 2, (2, 20), generator=torch.Generator().manual_seed(0))
    member = torch.stack([labels == k for k in range(3)], dim=-1)
    means, real = class_means(x, member)
    assert real[..., 0].tolist() == [[True, True, False]] * 2
    for b in range(2):
        for k in range(2):
            mean = x[b, labels[b] == k].mean(dim=0)
            torch.testing.assert_close(means[b, k, 0], mean / mean.norm())


def test_training_remembers_and_evaluation_does_not() -> None:
    """What is new in the memories is the teacher's, of unit length, under its own class; ignored pixels are not in."""
    given = networks(2)
    method = make(given)
    before = method.pixels.vectors.clone()
    values(method.eval(), given)
    assert torch.equal(method.pixels.vectors, before)
    values(method.train(), given)
    label = formulae.nearest(given.step.labels.numpy(), 4, 6)
    positions = unit_positions(given.step.teacher_maps.last)
    for k in range(CLASSES):
        new = (method.pixels.vectors[k] != before[k]).any(-1)
        expected = sum(min(4, int((image == k).sum())) for image in label)
        assert int(new.sum()) == int(method.pixels.next[k]) == expected
        for vector in method.pixels.vectors[k][new]:
            nearest = (positions - vector).abs().sum(-1).flatten().argmin()
            assert label.reshape(-1)[int(nearest)] == k
            assert torch.allclose(positions.flatten(0, 1)[nearest], vector)
    assert method.regions.next.tolist() == [int(sum((image == k).any() for image in label)) for k in range(CLASSES)]


def test_state_survives_save_and_resume_exactly() -> None:
    """Three iterations in a row, and two iterations, a checkpoint, and a third in a fresh method: the same bits."""
    steps = [networks(seed) for seed in (3, 4, 5)]

    def iterate(method: CIRKD, number: int) -> Tensor:
        torch.manual_seed(100 + number)
        return torch.stack(list(method(steps[number].step).values()))

    straight = make(steps[0])
    expected = [iterate(straight, i) for i in range(3)]
    first = make(steps[0])
    for i in range(2):
        iterate(first, i)
    saved = io.BytesIO()
    torch.save(first.state_dict(), saved)
    resumed = build(CIRKD, steps[0], seed=99, **SMALL)
    resumed.load_state_dict(torch.load(io.BytesIO(saved.getvalue()), weights_only=True))
    assert torch.equal(iterate(resumed, 2), expected[2])  # type: ignore[arg-type]
    for name, x in straight.state_dict().items():
        assert torch.equal(x, resumed.state_dict()[name]), name


def _push_in_process(rank: int, folder: str) -> None:
    """One of two processes: each sees one image of the batch."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2)
    method = make(networks(6))
    label = torch.arange(24).reshape(1, 24) % CLASSES
    member = nn.functional.one_hot(label, CLASSES).bool()
    torch.manual_seed(rank)
    method._remember(unit_positions(torch.randn(1, 8, 4, 6, dtype=torch.float64) + rank), member, Seeds.draw())
    torch.save(method.state_dict(), f"{folder}/{rank}.pt")
    dist.destroy_process_group()


def test_memories_of_two_processes_are_the_same(tmp_path: Path) -> None:
    """Each takes in what both have seen."""
    multiprocessing.start_processes(_push_in_process, args=(str(tmp_path),), nprocs=2, start_method="fork")
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert first["pixels.next"].tolist() == [8] * CLASSES
    assert first["regions.next"].tolist() == [2] * CLASSES


# --- the method ------------------------------------------------------------------------------------------------------


def test_variants_and_defaults() -> None:
    cityscapes, voc = resolve("cirkd")[0].parts[0], resolve("cirkd[variant=voc]")[0].parts[0]
    assert cityscapes.weights == {"batch": 1.0, "pixel": 0.1, "region": 0.1, "kd": 1.0}
    assert voc.weights == {"batch": 1.0, "pixel": 0.01, "region": 0.01, "kd": 1.0}
    assert (cityscapes.params["pixel_memory"], cityscapes.params["region_memory"]) == (20000, 2000)


def test_nothing_is_built_for_what_is_off() -> None:
    given = networks()
    assert not make_batch(given).state_dict()
    only_region = build(CIRKD, given, "region", **SMALL)
    assert not [name for name in only_region.state_dict() if name.startswith("pixels")]
    assert set(values(only_region, given)) == {"region"}


def test_terms_do_not_depend_on_each_other() -> None:
    """What a term draws at random is the same whatever other terms are active: an ablation changes nothing else."""
    given = networks(8)
    together = build(CIRKD, given, anchors=9, **SMALL)
    expected = [values(together, given, seed) for seed in (1, 2)]
    for name in ("batch", "pixel", "region"):
        alone = build(CIRKD, given, name, anchors=9, **SMALL)
        found = [values(alone, given, seed)[name] for seed in (1, 2)]
        assert torch.equal(found[0], expected[0][name]) and torch.equal(found[1], expected[1][name]), name


def test_no_label_at_all_gives_zero_and_remembers_nothing() -> None:
    given = networks().with_labels(torch.full((2, 32, 48), IGNORE))
    method = make(given)
    before = copy.deepcopy(method.pixels.state_dict())
    found = values(method, given)
    assert float(found["pixel"].detach()) == float(found["region"].detach()) == 0
    assert all(torch.equal(before[name], x) for name, x in method.pixels.state_dict().items())


def test_student_is_brought_to_the_teachers_grid() -> None:
    given = networks()
    found = values(build(CIRKD, given, "batch"), given)["batch"]
    student = unit_positions(regrid(given.step.student.last, given.step.teacher_maps.last))
    assert torch.equal(found, pixel_relations(student, unit_positions(given.step.teacher_maps.last)))
