"""Batches are a function of (seed, iteration, position) alone, and labels stay on their pixels."""

from __future__ import annotations

import random
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.data.augment import apply_augmentation, draw_augmentation
from harness.data.base import IGNORE, Sample, Split
from harness.data.loading import Batch, _normalise, evaluation_loader, sample_index, training_loader
from harness.data.sets.shapes import Shapes, ShapesParams
from harness.errors import HarnessError
from harness.specs.spec import Augment, Recipe

MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)
RECIPE = Recipe(crop=(40, 56), batch_size=6, augment=Augment(scale=(0.5, 2.0), flip=0.5, jitter=0.5))


class Coded(Split):
    """Images that say what their label is: each class has a grey of its own, 20 levels apart."""

    def __init__(self, sizes: Sequence[tuple[int, int]]) -> None:
        self.sizes = sizes

    @property
    def names(self) -> Sequence[str]:
        return [f"s{i}" for i in range(len(self.sizes))]

    def __getitem__(self, index: int) -> Sample:  # type: ignore[override]
        rng = np.random.default_rng(index)
        height, width = self.sizes[index]
        cells = rng.integers(0, 10, (height // 8 + 1, width // 8 + 1), np.uint8)
        label = np.kron(cells, np.ones((8, 8), np.uint8))[:height, :width]
        image = np.repeat((label * 20 + 20)[..., None], 3, axis=2).astype(np.uint8)
        return Sample(self.names[index], image, label)


class Unreadable(Coded):
    """Its third sample cannot be read."""

    def __getitem__(self, index: int) -> Sample:  # type: ignore[override]
        if index == 2:
            raise HarnessError("folder/third.png: is not a picture", "fix it")
        return super().__getitem__(index)


def shapes(train: int = 10) -> Split:
    return Shapes(ShapesParams(size=48, train=train)).split("train")


def equal(a: Batch, b: Batch) -> bool:
    same = torch.equal(a.images, b.images) and torch.equal(a.labels, b.labels) and torch.equal(a.indices, b.indices)
    return same and a.names == b.names


def load(split: Split, recipe: Recipe = RECIPE, **options: object) -> list[Batch]:
    return list(training_loader(split, recipe, MEAN, STD, **{"seed": 3, "iterations": 7, **options}))  # type: ignore[arg-type]


def test_shapes_and_types_of_a_batch() -> None:
    batch = load(shapes(), iterations=1)[0]
    assert batch.images.shape == (6, 3, 40, 56) and batch.images.dtype == torch.float32
    assert batch.labels.shape == (6, 40, 56) and batch.labels.dtype == torch.int64
    assert set(batch.labels.unique().tolist()) <= {*range(8), IGNORE}
    assert [f"train-{i:05d}" for i in batch.indices.tolist()] == list(batch.names)


@pytest.mark.parametrize("start", [0, 1, 4, 6, 7])
def test_a_resumed_run_sees_what_the_whole_run_sees(start: int) -> None:
    whole, resumed = load(shapes()), load(shapes(), start_iteration=start)
    assert len(resumed) == 7 - start
    assert all(equal(a, b) for a, b in zip(whole[start:], resumed))


def test_loader_processes_change_nothing() -> None:
    here, there = load(shapes(), workers=0), load(shapes(), workers=2)
    assert len(here) == len(there) == 7
    assert all(equal(a, b) for a, b in zip(here, there))


@pytest.mark.parametrize("world", [2, 4, 6])
def test_slices_of_the_ranks_make_the_global_batch(world: int) -> None:
    whole = load(shapes(), iterations=3)
    slices = [load(shapes(), iterations=3, rank=rank, world_size=world) for rank in range(world)]
    for i, batch in enumerate(whole):
        parts = [part[i] for part in slices]
        assert torch.equal(batch.images, torch.cat([p.images for p in parts]))
        assert torch.equal(batch.labels, torch.cat([p.labels for p in parts]))
        assert batch.names == tuple(name for p in parts for name in p.names)


def test_more_ranks_than_samples_are_refused() -> None:
    with pytest.raises(HarnessError, match="batch of 6 cannot be shared by 7"):
        load(shapes(), world_size=7, rank=0)


def test_other_seeds_other_batches() -> None:
    assert not torch.equal(load(shapes(), iterations=1)[0].images, load(shapes(), iterations=1, seed=4)[0].images)


def test_the_same_sample_is_changed_differently_each_time() -> None:
    batches = load(shapes(train=1), iterations=2)
    images = torch.cat([b.images for b in batches])
    assert len({image.numpy().tobytes() for image in images}) == len(images)


@given(count=st.integers(1, 40), batch=st.integers(1, 12), seed=st.integers(0, 2**31), epoch=st.integers(0, 5))
@settings(deadline=None, max_examples=30)
def test_every_sample_once_an_epoch(count: int, batch: int, seed: int, epoch: int) -> None:
    places = range(epoch * count, (epoch + 1) * count)
    seen = [sample_index(seed, p // batch, p % batch, batch, count) for p in places]
    assert sorted(seen) == list(range(count))


def test_an_epoch_shorter_than_a_batch_wraps_around() -> None:
    batch = load(shapes(train=4), iterations=1)[0]
    assert sorted(batch.indices[:4].tolist()) == [0, 1, 2, 3]
    assert len(batch.names) == 6


def test_order_changes_between_epochs() -> None:
    orders = {tuple(sample_index(0, e, i, 12, 12) for i in range(12)) for e in range(4)}
    assert len(orders) == 4


@pytest.mark.parametrize("workers", [0, 1])
def test_global_random_states_are_left_alone(workers: int) -> None:
    torch.manual_seed(5), np.random.seed(5), random.seed(5)
    expected = torch.rand(3), np.random.rand(3), random.random()
    torch.manual_seed(5), np.random.seed(5), random.seed(5)
    load(shapes(), iterations=2, workers=workers)
    list(evaluation_loader(shapes(), None, MEAN, STD))
    assert torch.equal(expected[0], torch.rand(3))
    assert np.array_equal(expected[1], np.random.rand(3)) and expected[2] == random.random()


@given(
    height=st.integers(8, 90),
    width=st.integers(8, 90),
    crop=st.tuples(st.integers(8, 80), st.integers(8, 80)),
    low=st.floats(0.3, 1.0),
    high=st.floats(1.0, 3.0),
    flip=st.sampled_from([0.0, 0.5, 1.0]),
    seed=st.integers(0, 10_000),
)
@settings(deadline=None, max_examples=40)
def test_labels_stay_on_their_pixels(
    height: int, width: int, crop: tuple[int, int], low: float, high: float, flip: float, seed: int
) -> None:
    sample = Coded([(height, width)])[0]
    rng = np.random.default_rng(seed)
    change = draw_augmentation((height, width), crop, Augment(scale=(low, high), flip=flip), rng)
    image, label = apply_augmentation(change, sample)
    top, left, region_height, region_width = change.region
    assert top >= 0 and top + region_height <= height and left >= 0 and left + region_width <= width
    assert tuple(label.shape) == change.size and image.shape[-2:] == label.shape
    assert all(p >= 0 and p + s <= c for p, s, c in zip(change.place, change.size, crop))
    # Away from the borders between classes the grey says the label exactly.
    grey = image[0].float()
    read = ((grey - 20) / 20).round()
    inside = torch.nn.functional.max_pool2d(label[None, None].float(), 7, 1, 3)[0, 0] == label
    inside &= -torch.nn.functional.max_pool2d(-label[None, None].float(), 7, 1, 3)[0, 0] == label
    if change.size[0] >= 0.9 * region_height and change.size[1] >= 0.9 * region_width:
        assert torch.equal(read[inside], label[inside].float())


@pytest.mark.parametrize("factor", [2, 3, 4])
def test_no_shift_between_image_and_label(factor: int) -> None:
    """A step edge, upsampled: the bilinear image crosses one half exactly where the label changes."""
    label = np.zeros((8, 16), np.uint8)
    label[:, 7:] = 1
    image = np.repeat(label[..., None] * 200, 3, axis=2).astype(np.uint8)
    crop = (8 * factor, 16 * factor)
    change = draw_augmentation((8, 16), crop, Augment(scale=(factor, factor), flip=0), np.random.default_rng(0))
    big, edge = apply_augmentation(change, Sample("s", image, label))
    assert change.region == (0, 0, 8, 16) and big.shape[-2:] == crop
    certain = big[0] != 100
    assert torch.equal((big[0] > 100)[certain], edge.bool()[certain])


def test_scales_reach_the_ends_of_their_range_and_regions_the_corners() -> None:
    augment, rng = Augment(scale=(0.5, 2.0)), np.random.default_rng(0)
    changes = [draw_augmentation((100, 100), (50, 50), augment, rng) for _ in range(400)]
    scales = np.array([c.size[0] / c.region[2] for c in changes])
    assert scales.min() < 0.55 and scales.max() > 1.9
    assert 0.4 < (scales < 1).mean() < 0.6
    ends = {(c.region[0] == 0, c.region[0] + c.region[2] == 100) for c in changes}
    assert {(True, False), (False, True)} <= ends
    assert 0.4 < np.mean([c.flip for c in changes]) < 0.6


def test_padding_is_mean_and_ignored() -> None:
    recipe = Recipe(crop=(64, 64), batch_size=4, augment=Augment(scale=(0.5, 0.5), flip=0))
    batch = load(Coded([(40, 30)]), recipe, iterations=1)[0]
    void = batch.labels == IGNORE
    assert (~void).flatten(1).sum(1).tolist() == [20 * 15] * 4
    padded = batch.images.permute(0, 2, 3, 1)[void]
    assert torch.equal(padded, torch.zeros_like(padded))
    places = {(int((~v).any(1).int().argmax()), int((~v).any(0).int().argmax())) for v in void}
    assert len(places) > 1


def test_images_are_normalised_by_these_operations_bit_for_bit() -> None:
    """In place or not: scaled to [0, 1], the mean taken off, divided by the standard deviation, each in float32."""
    generator = torch.Generator().manual_seed(0)
    image = torch.randint(0, 256, (3, 37, 41), generator=generator, dtype=torch.uint8)
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    row = lambda values: np.array(values, np.float32)[:, None, None]  # noqa: E731
    expected = torch.from_numpy((image.numpy().astype(np.float32) / np.float32(255) - row(mean)) / row(std))
    assert torch.equal(_normalise(image, mean, std), expected)
    room = torch.zeros(3, 50, 60)
    _normalise(image, mean, std, out=room[:, 4:41, 8:49])
    assert torch.equal(room[:, 4:41, 8:49], expected)
    assert int((room != 0).sum()) == int((expected != 0).sum())


def test_nothing_changed_is_the_sample_itself() -> None:
    recipe = Recipe(crop=(48, 48), batch_size=2, augment=Augment(scale=(1.0, 1.0), flip=0))
    split = shapes()
    batch = load(split, recipe, iterations=1)[0]
    for image, label, index in zip(batch.images, batch.labels, batch.indices.tolist()):
        assert np.array_equal(label.numpy(), split[index].label)
        expected = (split[index].image / 255 - np.array(MEAN)) / np.array(STD)
        np.testing.assert_allclose(image.permute(1, 2, 0).numpy(), expected, atol=1e-5)


def test_jitter_changes_colours_and_never_labels() -> None:
    base = Recipe(crop=(48, 48), batch_size=4, augment=Augment(scale=(1.0, 1.0), flip=0))
    strong = base.model_copy(update={"augment": Augment(scale=(1.0, 1.0), flip=0, jitter=1.0)})
    plain, jittered = load(shapes(), base, iterations=1)[0], load(shapes(), strong, iterations=1)[0]
    assert torch.equal(plain.labels, jittered.labels)
    assert all((a - b).abs().mean() > 0.01 for a, b in zip(plain.images, jittered.images))


@pytest.mark.parametrize("workers", [0, 2])
def test_an_unreadable_sample_is_named(workers: int) -> None:
    split = Unreadable([(32, 32)] * 5)
    with pytest.raises(HarnessError, match=r"^folder/third.png: is not a picture \(fix it\)$"):
        load(split, workers=workers)
    with pytest.raises(HarnessError, match=r"folder/third.png"):
        list(evaluation_loader(split, None, MEAN, STD, workers=workers))


IMAGE, LABEL = np.zeros((8, 8, 3), np.uint8), np.zeros((8, 8), np.uint8)


class Given(Coded):
    """One sample, whatever it is."""

    def __init__(self, sample: object) -> None:
        super().__init__([(8, 8)])
        self.sample = sample

    def __getitem__(self, index: int) -> Sample:  # type: ignore[override]
        return self.sample  # type: ignore[return-value]


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize(
    ("sample", "says"),
    [
        ((IMAGE, LABEL), "the split gives tuple at index 0, which is not a sample"),
        (Sample("a", IMAGE[..., 0], LABEL), r"sample 'a': its image is uint8, \(8, 8\) .*\(H, W, 3\)"),
        (Sample("a", IMAGE[..., :1], LABEL), r"sample 'a': its image is uint8, \(8, 8, 1\)"),
        (Sample("a", IMAGE / 255, LABEL), "sample 'a': its image is float64"),
        (Sample("a", IMAGE, LABEL.astype(int)), "sample 'a': its label is int64"),
        (Sample("a", IMAGE, LABEL.tolist()), "sample 'a': its label is list"),
        (Sample("a", IMAGE, LABEL[:4]), r"sample 'a': its image has the size \(8, 8\) and its label \(4, 8\)"),
    ],
)
def test_what_is_no_sample_is_named(sample: object, says: str, workers: int) -> None:
    with pytest.raises(HarnessError, match=says):
        load(Given(sample), workers=workers)
    with pytest.raises(HarnessError, match=says):
        list(evaluation_loader(Given(sample), None, MEAN, STD, workers=workers))


def test_labels_beyond_the_classes_are_named() -> None:
    split = Given(Sample("a", IMAGE, np.where(np.eye(8) > 0, 4, IGNORE).astype(np.uint8)))
    load(split, classes=5)
    with pytest.raises(HarnessError, match="sample 'a': its label contains 4, but there are 4 classes"):
        load(split, classes=4)


def test_an_empty_split_is_refused() -> None:
    with pytest.raises(HarnessError, match="empty"):
        training_loader(Coded([]), RECIPE, MEAN, STD, seed=0)


@pytest.mark.parametrize("workers", [0, 2])
def test_evaluation_batches_have_one_size_and_keep_the_order(workers: int) -> None:
    split = Coded([(16, 16)] * 3 + [(24, 16)] * 2 + [(16, 16)])
    batches = list(evaluation_loader(split, None, MEAN, STD, batch_size=2, workers=workers))
    assert [len(b.names) for b in batches] == [2, 1, 2, 1]
    assert [name for b in batches for name in b.names] == list(split.names)
    assert all(b.images.shape[-2:] == label.shape for b in batches for label in b.labels)


def test_evaluation_resizes_images_and_never_labels() -> None:
    split = Coded([(16, 16), (24, 16), (40, 40)])
    (batch,) = evaluation_loader(split, (20, 28), MEAN, STD, batch_size=8)
    assert batch.images.shape == (3, 3, 20, 28)
    assert [tuple(label.shape) for label in batch.labels] == [(16, 16), (24, 16), (40, 40)]
    assert all(np.array_equal(label.numpy(), split[i].label) for i, label in enumerate(batch.labels))
