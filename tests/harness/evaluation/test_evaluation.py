"""Confusion matrices against brute force, at the labels' own resolution, and what is written of them."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from harness.data.base import IGNORE, Sample, Split
from harness.data.sets.shapes import Shapes, ShapesParams
from harness.errors import HarnessError
from harness.evaluation.confusion import confusion, predict
from harness.evaluation.evaluate import Evaluation, evaluate, save_confusion
from harness.evaluation.fitting import UNIT, spans
from harness.evaluation.samples import LONGEST, choose_samples, save_samples
from results.pictures import INDEX
from results.statistics import miou

MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)
CLASSES = 4


class Drawn(Split):
    """Samples of given sizes, labels at random with a fifth of void, images of any size of their own."""

    def __init__(self, sizes: Sequence[tuple[int, int]]) -> None:
        self.sizes = sizes

    @property
    def names(self) -> Sequence[str]:
        return [f"s{i}" for i in range(len(self.sizes))]

    def __getitem__(self, index: int) -> Sample:  # type: ignore[override]
        rng = np.random.default_rng(index)
        label = rng.integers(0, CLASSES, self.sizes[index], np.uint8)
        label[rng.random(label.shape) < 0.2] = IGNORE
        return Sample(self.names[index], rng.integers(0, 256, (*label.shape, 3), np.uint8), label)


class Coarse(nn.Module):
    """A small network at output stride 4 with the parts of it that evaluation must leave as they were."""

    def __init__(self, classes: int = CLASSES) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(3, classes, 3, stride=4, padding=1)
        self.norm = nn.BatchNorm2d(classes)
        self.frozen = nn.BatchNorm2d(classes).eval()
        self.drop = nn.Dropout(0.9)
        self.backbone = SimpleNamespace(mean=MEAN, std=STD)

    def forward(self, images: Tensor) -> SimpleNamespace:
        return SimpleNamespace(logits=self.drop(self.frozen(self.norm(self.conv(images)))))


def brute_force(prediction: np.ndarray, label: np.ndarray, classes: int) -> np.ndarray:
    matrix = np.zeros((classes, classes), np.int64)
    for p, t in zip(prediction.ravel().tolist(), label.ravel().tolist()):
        if t != IGNORE:
            matrix[t, p] += 1
    return matrix


def up(logits: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """(K, h, w) to (K, H, W): bilinear, half-pixel centres, borders repeated; written out."""
    for axis, target in ((1, size[0]), (2, size[1])):
        n = logits.shape[axis]
        at = np.clip((np.arange(target) + 0.5) * n / target - 0.5, 0, n - 1)
        low = np.floor(at).astype(int)
        high = np.minimum(low + 1, n - 1)
        t = (at - low).reshape((-1, 1) if axis == 1 else (1, -1))
        logits = np.take(logits, low, axis) * (1 - t) + np.take(logits, high, axis) * t
    return logits


@given(
    batch=st.integers(1, 4),
    classes=st.integers(2, 7),
    size=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    seed=st.integers(0, 10_000),
    void=st.sampled_from([0.0, 0.3, 1.0]),
)
@settings(deadline=None, max_examples=30)
def test_confusion_is_what_counting_gives(
    batch: int, classes: int, size: tuple[int, int], seed: int, void: float
) -> None:
    rng = np.random.default_rng(seed)
    label = rng.integers(0, classes, (batch, *size))
    label[rng.random(label.shape) < void] = IGNORE
    prediction = rng.integers(0, classes, label.shape)
    found = confusion(torch.from_numpy(prediction), torch.from_numpy(label), classes)
    assert found.dtype == torch.int64 and found.shape == (batch, classes, classes)
    for i in range(batch):
        assert np.array_equal(found[i].numpy(), brute_force(prediction[i], label[i], classes))
    assert int(found.sum()) == int((label != IGNORE).sum())


def test_rows_are_labels_and_columns_predictions() -> None:
    found = confusion(torch.tensor([[[1, 1, 2]]]), torch.tensor([[[0, 0, IGNORE]]]), 3)
    assert found[0].tolist() == [[0, 2, 0], [0, 0, 0], [0, 0, 0]]


def test_void_counts_nowhere_whatever_is_predicted_there() -> None:
    label = torch.randint(0, 3, (2, 8, 8))
    label[:, :4] = IGNORE
    a, b = torch.randint(0, 3, (2, 8, 8)), torch.randint(0, 3, (2, 8, 8))
    b[:, 4:] = a[:, 4:]
    assert torch.equal(confusion(a, label, 3), confusion(b, label, 3))


@pytest.mark.parametrize("value", [3, 254, -1])
def test_labels_out_of_range_are_refused(value: int) -> None:
    label = torch.zeros(1, 4, 4, dtype=torch.int64)
    label[0, 2, 1] = value
    with pytest.raises(HarnessError, match=rf"out of range: \[{value}\]"):
        confusion(torch.zeros(1, 4, 4, dtype=torch.int64), label, 3)


@pytest.mark.parametrize("size", [(5, 7), (16, 20), (23, 9), (4, 5)])
def test_logits_are_upsampled_before_the_argmax(size: tuple[int, int]) -> None:
    logits = torch.randn(2, 5, 4, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    found = predict(logits, size).numpy()
    for image in range(2):
        assert (found[image] == up(logits[image].numpy(), size).argmax(0)).mean() > 0.995
    assert found.shape == (2, *size)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_of_equal_logits_the_first_class_is_predicted(layout: torch.memory_format) -> None:
    """What argmax gives, bit for bit: `predict` does not call it, because it is slow."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randint(0, 3, (2, 19, 41, 37), generator=generator).float()  # nearly every pixel has equal maxima
    logits[0, 3, 5, 5] = logits[0, 9, 5, 5] = torch.nan
    logits[1, :, 7, 7] = torch.inf
    predicted = predict(logits.contiguous(memory_format=layout), (41, 37))
    assert torch.equal(predicted, logits.argmax(1))
    assert np.array_equal(predicted.numpy(), logits.numpy().argmax(1))  # NumPy documents the first


def test_half_precision_logits_are_compared_in_full() -> None:
    logits = torch.randn(1, 5, 6, 6, generator=torch.Generator().manual_seed(2)).bfloat16()
    assert torch.equal(predict(logits, (24, 24)), predict(logits.float(), (24, 24)))


def expected(network: Coarse, split: Split, eval_size: tuple[int, int] | None) -> np.ndarray:
    """Image by image, from the definition."""
    from torchvision.transforms.v2 import functional as transform

    matrices = []
    for sample in split:
        image = torch.from_numpy(sample.image.copy()).permute(2, 0, 1)
        if eval_size:
            image = transform.resize(image, list(eval_size), antialias=True)
        image = (image.float() / 255 - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)
        with torch.no_grad():
            logits = network.eval()(image[None]).logits
        prediction = nn.functional.interpolate(logits, sample.label.shape, mode="bilinear").argmax(1)[0]
        matrices.append(brute_force(prediction.numpy(), sample.label, CLASSES))
    return np.stack(matrices)


@pytest.mark.parametrize("batch_size", [1, 3, 8])
@pytest.mark.parametrize("eval_size", [None, (20, 28)])
def test_evaluation_is_the_same_however_images_are_batched(batch_size: int, eval_size: tuple[int, int] | None) -> None:
    split = Drawn([(16, 24)] * 4 + [(33, 17)] * 2 + [(16, 24)])
    network = Coarse()
    found = evaluate(network, split, CLASSES, MEAN, STD, eval_size, batch_size=batch_size)
    assert found.confusion.dtype == np.uint32 and found.names == tuple(split.names)
    reference = expected(network, split, eval_size)
    assert np.array_equal(found.confusion.sum((1, 2)), reference.sum((1, 2)))
    # A batched convolution may differ from a single one in the last bit, and an argmax turn on it.
    assert np.abs(found.confusion.astype(int) - reference).sum() <= 4


def test_loader_processes_change_nothing() -> None:
    split, network = Drawn([(16, 24)] * 5), Coarse()
    here = evaluate(network, split, CLASSES, MEAN, STD, batch_size=2)
    there = evaluate(network, split, CLASSES, MEAN, STD, batch_size=2, workers=2)
    assert np.array_equal(here.confusion, there.confusion) and here.names == there.names


def test_layout_and_precision_change_next_to_nothing() -> None:
    split, network = Drawn([(32, 32)] * 3), Coarse()
    plain = evaluate(network, split, CLASSES, MEAN, STD)
    last = evaluate(network, split, CLASSES, MEAN, STD, channels_last=True)
    half = evaluate(network, split, CLASSES, MEAN, STD, precision="bf16")
    total = int(plain.confusion.sum())
    assert np.abs(plain.confusion.astype(int) - last.confusion).sum() < 0.01 * total
    changed = np.abs(plain.confusion.astype(int) - half.confusion).sum()
    assert 0 < changed < 0.1 * total


def test_the_network_comes_back_as_it_was() -> None:
    network = Coarse()
    state = {name: value.clone() for name, value in network.state_dict().items()}
    network.train()
    network.frozen.eval()
    evaluate(network, Drawn([(16, 16)]), CLASSES, MEAN, STD)
    assert network.training and network.norm.training and network.drop.training and not network.frozen.training
    assert all(torch.equal(value, state[name]) for name, value in network.state_dict().items())
    assert network(torch.zeros(2, 3, 16, 16)).logits.requires_grad


def test_progress_is_told() -> None:
    seen: list[tuple[int, int]] = []
    evaluate(Coarse(), Drawn([(8, 8)] * 5), CLASSES, MEAN, STD, batch_size=2, progress=lambda *at: seen.append(at))
    assert seen == [(2, 5), (4, 5), (5, 5)]


def test_what_cannot_be_evaluated_is_said() -> None:
    with pytest.raises(HarnessError, match="empty"):
        evaluate(Coarse(), Drawn([]), CLASSES, MEAN, STD)
    with pytest.raises(HarnessError, match=r"s0, s1: label values out of range: \[2, 3\]"):
        evaluate(Coarse(2), Drawn([(8, 8)] * 2), 2, MEAN, STD)


def test_a_network_that_knows_the_label_scores_one() -> None:
    """The image's red channel is the label: mIoU is 1 at full resolution, less when the logits are coarse."""

    class Told(Drawn):
        def __getitem__(self, index: int) -> Sample:  # type: ignore[override]
            sample = super().__getitem__(index)
            image = np.where(sample.label == IGNORE, 0, sample.label)[..., None].repeat(3, 2).astype(np.uint8)
            return Sample(sample.name, image, sample.label)

    class Reader(nn.Module):
        def __init__(self, stride: int) -> None:
            super().__init__()
            self.stride = stride

        def forward(self, images: Tensor) -> SimpleNamespace:
            grey = (images[:, :1] * 255)[..., :: self.stride, :: self.stride]
            return SimpleNamespace(logits=-((grey - torch.arange(CLASSES).view(1, -1, 1, 1)) ** 2))

    split = Told([(24, 32)] * 3)
    scores = [
        miou(evaluate(Reader(stride), split, CLASSES, (0.0,) * 3, (1.0,) * 3).confusion.sum(0)) for stride in (1, 4)
    ]
    assert scores[0] == 1.0 and scores[1] < 0.5


def test_full_size_scores_are_of_one_image_at_a_time() -> None:
    class Largest(TorchDispatchMode):
        most = 0

        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            out = func(*args, **(kwargs or {}))
            found = [out] if isinstance(out, Tensor) else out if isinstance(out, (tuple, list)) else []
            self.most = max([self.most, *(x.numel() for x in found if isinstance(x, Tensor) and x.is_floating_point())])
            return out

    logits = torch.randn(6, CLASSES, 5, 7, generator=torch.Generator().manual_seed(0))
    with Largest() as largest:
        found = predict(logits, (40, 56))
    assert largest.most == CLASSES * 40 * 56
    whole = nn.functional.interpolate(logits, size=(40, 56), mode="bilinear", align_corners=False)
    assert torch.equal(found, whole.argmax(1))


def test_matrices_are_read_back(tmp_path: Path) -> None:
    matrices = np.random.default_rng(0).integers(0, 2**32, (5, 3, 3), np.uint32)
    evaluation = Evaluation(matrices, ("a", "b", "ç", "d", "e"))
    path = tmp_path / "folder" / "confusion.npz"
    save_confusion(path, evaluation)
    with np.load(path, allow_pickle=False) as found:
        assert np.array_equal(found["confusion"], matrices) and found["confusion"].dtype == np.uint32
        assert found["names"].tolist() == list(evaluation.names)
    assert [p.name for p in path.parent.iterdir()] == ["confusion.npz"]


def _evaluated(network: nn.Module, dataset: Shapes) -> Evaluation:
    split = dataset.split("test")
    return evaluate(network, split, len(dataset.classes), network.backbone.mean, network.backbone.std)  # type: ignore[union-attr,arg-type]


def test_samples_are_image_labels_and_prediction_with_the_palette(tmp_path: Path) -> None:
    dataset = Shapes(ShapesParams(size=40, test=5))
    network = Coarse(len(dataset.classes)).train()
    chosen = {1: "fixed", 3: "worst"}
    written = save_samples(tmp_path / "x", network, dataset, "test", _evaluated(network, dataset), chosen)  # type: ignore[arg-type]
    assert network.training
    assert [(one.name, one.file, one.why) for one in written] == [
        ("test-00001", "000001", "fixed"),
        ("test-00003", "000003", "worst"),
    ]
    assert INDEX in {file.name for file in (tmp_path / "x").iterdir()} and len(list((tmp_path / "x").iterdir())) == 7
    sample = dataset.split("test")[1]
    label, prediction = (Image.open(tmp_path / "x" / name) for name in (written[0].label, written[0].prediction))
    assert np.array_equal(np.array(label), sample.label) and label.mode == "P"
    shown = np.array(label.convert("RGB"))
    assert (shown[sample.label == IGNORE] == 0).all() and tuple(shown[0, 0]) in {*dataset.palette, (0, 0, 0)}
    classes = np.array(prediction)
    assert classes.max() < len(dataset.classes)
    counted = sample.label != IGNORE
    matrix = np.zeros((len(dataset.classes),) * 2, np.int64)
    np.add.at(matrix, (sample.label[counted], classes[counted]), 1)
    assert written[0].miou == pytest.approx(miou(matrix), abs=1e-6)
    with Image.open(tmp_path / "x" / written[0].image) as picture:
        assert np.abs(np.array(picture).astype(int) - sample.image).mean() < 25


def test_large_pictures_are_kept_small(tmp_path: Path) -> None:
    dataset = Shapes(ShapesParams(size=2 * LONGEST, test=1))
    network = Coarse(len(dataset.classes))
    (one,) = save_samples(tmp_path, network, dataset, "test", _evaluated(network, dataset), {0: "fixed"})  # type: ignore[arg-type]
    for name in (one.image, one.label, one.prediction):
        with Image.open(tmp_path / name) as picture:
            assert picture.size == (LONGEST, LONGEST)


def _evaluation(scores: list[float]) -> Evaluation:
    """Of two classes, each image right about such a share of the pixels."""
    right = (np.array(scores) * 1000).astype(np.uint32)
    matrices = np.stack([np.stack([right, 1000 - right], 1), np.stack([1000 - right, right], 1)], 1)
    return Evaluation(matrices, tuple(f"image{n}" for n in range(len(scores))))


def test_every_run_keeps_the_same_images_and_its_own_worst() -> None:
    scores = np.linspace(0.4, 0.99, 40)
    one, other = _evaluation(list(scores)), _evaluation(list(scores[::-1]))
    a, b = choose_samples(one, 6), choose_samples(other, 6)
    fixed = [place for place, why in a.items() if why == "fixed"]
    assert len(fixed) == 6 and fixed == [place for place, why in b.items() if why == "fixed"]
    worst = [place for place, why in a.items() if why == "worst"]
    assert worst == [place for place in range(40) if place not in fixed][:3]
    fewer = {place for place, why in choose_samples(one, 3).items() if why == "fixed"}
    assert len(fewer) == 3 and fewer < set(fixed)
    assert choose_samples(one, 0) == {}
    assert len(choose_samples(_evaluation([0.5, 0.6]), 6)) == 2


class Cramped(Coarse):
    """A network for whose batches memory does not always suffice: at most `most` images at once."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self.most = most
        self.seen: list[int] = []

    def forward(self, images: Tensor) -> SimpleNamespace:
        self.seen.append(len(images))
        if len(images) > self.most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")
        return super().forward(images)


@pytest.mark.parametrize("most", [1, 2, 3, 5])
def test_a_batch_that_does_not_fit_goes_through_in_halves(most: int) -> None:
    torch.manual_seed(0)
    roomy, cramped = Coarse(), Cramped(most)
    cramped.load_state_dict(roomy.state_dict())
    split = Drawn([(12, 16)] * 14)
    wanted = evaluate(roomy, split, CLASSES, MEAN, STD, batch_size=7)
    found = evaluate(cramped, split, CLASSES, MEAN, STD, batch_size=7)
    assert np.array_equal(found.confusion, wanted.confusion) and found.names == wanted.names
    assert cramped.seen[0] == 7 and cramped.seen.count(7) == 1, "what did not fit once is not tried again"
    assert (wanted.batch, found.batch) == (7, max(size for size in cramped.seen if size <= most))


def test_images_of_one_size_come_by_eights_and_others_one_by_one() -> None:
    alike, varying, chosen = Cramped(99), Cramped(99), Cramped(99)
    evaluate(alike, Drawn([(8, 8)] * 10), CLASSES, MEAN, STD)
    found = evaluate(varying, Drawn([(8, 8)] * 3 + [(8, 12)] * 3), CLASSES, MEAN, STD)
    evaluate(chosen, Drawn([(8, 8)] * 3 + [(8, 12)] * 3), CLASSES, MEAN, STD, batch_size=2)
    assert alike.seen == [8, 2] and varying.seen == [3, 1, 1, 1] and chosen.seen == [2, 1, 2, 1]
    assert found.batch == 3


class Short(Coarse):
    """A network for whose images memory suffices up to so many pixels; it reads 19 pixels around each."""

    def __init__(self, most_pixels: int) -> None:
        super().__init__()
        self.deeper = nn.Conv2d(CLASSES, CLASSES, 3, padding=4, dilation=4)
        self.most_pixels, self.tried = most_pixels, 0

    def forward(self, images: Tensor) -> SimpleNamespace:
        if len(images) * images.shape[-1] * images.shape[-2] > self.most_pixels:
            self.tried += 1
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9000000000 bytes.")
        return SimpleNamespace(logits=self.deeper(super().forward(images).logits))


@pytest.mark.parametrize("most_pixels", [560_000, 450_000])
def test_an_image_that_does_not_fit_goes_through_in_tiles_with_the_same_result(most_pixels: int) -> None:
    split, roomy, short = Drawn([(641, 903)] * 2 + [(64, 64)]), Short(10**9), Short(most_pixels)
    short.load_state_dict(roomy.state_dict())
    wanted = evaluate(roomy, split, CLASSES, MEAN, STD)
    found = evaluate(short, split, CLASSES, MEAN, STD)
    assert np.array_equal(found.confusion, wanted.confusion)
    assert (wanted.tiled, found.tiled, found.batch) == (0, 2, 1)
    tried = short.tried
    evaluate(short, Drawn([(641, 903)]), CLASSES, MEAN, STD)
    assert short.tried - tried < tried, "the second image of a size goes through in tiles at once"


@pytest.mark.parametrize("length", [1, 223, 224, 225, 1000, 2048])
@pytest.mark.parametrize("parts", [1, 2, 3, 8])
def test_tiles_cover_an_image_once(length: int, parts: int) -> None:
    found = spans(length, parts)
    assert found[0].first == 0 and found[-1].last == length and len(found) <= parts
    assert all(a.last == b.first for a, b in itertools.pairwise(found))
    assert all(s.sees_first % UNIT == 0 and s.first % UNIT == 0 and s.sees_first <= s.first for s in found)
    assert all(s.sees_last == length or s.sees_last >= s.last + 200 for s in found)


def test_pictures_of_an_image_that_does_not_fit_are_made_in_tiles(tmp_path: Path) -> None:
    dataset = Shapes(ShapesParams(size=700, test=1))
    network = Short(490_000)
    found = _evaluated(network, dataset)
    for name, most in (("whole", 490_000), ("tiles", 460_000)):
        network.most_pixels = most
        assert len(save_samples(tmp_path / name, network, dataset, "test", found, {0: "fixed"})) == 1  # type: ignore[arg-type]
    whole, tiles = (next((tmp_path / name).glob("*.prediction.png")) for name in ("whole", "tiles"))
    assert np.array_equal(np.array(Image.open(whole)), np.array(Image.open(tiles)))


def test_a_tile_that_does_not_fit_ends_in_a_sentence() -> None:
    with pytest.raises(HarnessError, match=r"one image of 12x16 does not fit.*eval_size"):
        evaluate(Cramped(0), Drawn([(12, 16)] * 3), CLASSES, MEAN, STD, batch_size=3)
