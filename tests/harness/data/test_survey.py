"""`harness data check`: what is counted, called wrong or suspicious, drawn on the sheet, and remembered."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from PIL import Image

from harness.builders.datasets import open_dataset, parse_dataset
from harness.cli.app import run as harness
from harness.data.base import IGNORE, DataParams, Dataset, Problem, Sample, Split
from harness.data.folders import FolderSplit, Labelling, check_splits
from harness.data.sets.shapes import Shapes, ShapesParams
from harness.data.survey import Finding, Memory, Report, survey
from harness.data.survey.sheet import LINE, WIDTH, _legend, choose, draw_sheet, overlay
from harness.data.survey.take import look_alike
from harness.errors import HarnessError
from harness.specs.spec import DatasetSpec

SIZE = (24, 32)
CLASSES = ("grass", "road", "tree")
PALETTE = ((0, 200, 0), (120, 120, 120), (0, 80, 20))


class Pairs(Dataset):
    """Folders SPLIT/images and SPLIT/labels; classes are those of the test."""

    name = "pairs"
    summary = "for tests"
    needs_root = True
    classes: Any = CLASSES
    palette: Any = PALETTE
    ignored: ClassVar[frozenset[int]] = frozenset({IGNORE})

    @property
    def splits(self) -> tuple[str, ...]:
        return ("train", "val", "test")

    @property
    def eval_size(self) -> tuple[int, int]:
        return SIZE

    def split(self, name: str) -> FolderSplit:
        assert self.root is not None
        folder = self.root / name
        return FolderSplit(folder / "images", folder / "labels", Labelling(len(self.classes), self.ignored))

    def manifest(self) -> dict[str, Any]:
        return {}

    def check(self, full: bool = True) -> list[Problem]:
        return check_splits({name: self.split(name) for name in self.splits}, full)


def picture(seed: int, size: tuple[int, int] = SIZE) -> np.ndarray:
    """An image with structure, unlike that of any other seed."""
    rough = np.random.default_rng(seed).integers(0, 256, (8, 9, 3), np.uint8)
    return np.asarray(Image.fromarray(rough).resize(size[::-1], Image.Resampling.BICUBIC))


def label(seed: int, values: tuple[int, ...] = (0, 1, 2)) -> np.ndarray:
    rough = np.random.default_rng(seed).permutation(np.resize(values, 16)).reshape(4, 4).astype(np.uint8)
    return np.kron(rough, np.ones((SIZE[0] // 4, SIZE[1] // 4), np.uint8))


def make(root: Path, values: tuple[int, ...] = (0, 1, 2), counts: tuple[int, int, int] = (3, 2, 2)) -> Pairs:
    for place, (name, count) in enumerate(zip(("train", "val", "test"), counts)):
        for part in ("images", "labels"):
            (root / name / part).mkdir(parents=True, exist_ok=True)
        for i in range(count):
            save(root / name / "images" / f"{name}{i}.png", picture(100 * place + i))
            save(root / name / "labels" / f"{name}{i}.png", label(100 * place + i, values))
    return Pairs(DataParams(), root)


def save(path: Path, array: np.ndarray, **options: Any) -> None:
    Image.fromarray(array).save(path, **options)


def kinds(dataset: Dataset, *levels: str) -> list[tuple[str, str, str]]:
    found = survey(dataset).findings
    return [(f.level, f.kind, f.where) for f in found if not levels or f.level in levels]


def the(dataset: Dataset, kind: str) -> Finding:
    found = [finding for finding in survey(dataset).findings if finding.kind == kind]
    assert len(found) == 1, survey(dataset).findings
    return found[0]


# ----------------------------------------------------------------------------------------------------- counting


def test_a_sound_set_is_counted_and_nothing_is_found(tmp_path: Path) -> None:
    dataset = make(tmp_path, (0, 1, 2, 255))
    report = survey(dataset)
    assert report.findings == []
    train = report.splits["train"]
    stored = [np.asarray(Image.open(tmp_path / f"train/labels/train{i}.png")) for i in range(3)]
    for value, name in enumerate(CLASSES):
        assert train.classes[name].pixels == sum(int((s == value).sum()) for s in stored) > 0
        assert train.classes[name].images == sum(bool((s == value).any()) for s in stored)
        assert train.stored[str(value)] == train.classes[name]
    assert train.void.pixels == sum(int((s == 255).sum()) for s in stored) == train.stored["255"].pixels
    assert train.void.images == 0 and train.sizes == {"32x24": 3} and train.samples == train.read == 3
    images = np.stack([np.asarray(Image.open(tmp_path / f"train/images/train{i}.png"))[::4, ::4] for i in range(3)])
    np.testing.assert_allclose(train.mean, images.reshape(-1, 3).mean(0) / 255)
    np.testing.assert_allclose(train.std, images.reshape(-1, 3).std(0) / 255)


def test_a_report_is_read_back() -> None:
    report = survey(Shapes(ShapesParams(train=4, val=2, test=3)))
    assert Report.model_validate_json(report.model_dump_json()) == report
    assert report.of("error") == [] and report.splits["test"].samples == 3 and report.splits["test"].stored == {}


# -------------------------------------------------------------------------------- labels that mean something else


def test_binary_masks_read_as_void_are_an_error(tmp_path: Path) -> None:
    """Was: "nothing wrong", and a board that says 100.0 (100.0 to 100.0)."""

    class Binary(Pairs):
        classes = ("background", "thing")
        palette = PALETTE[:2]

    make(tmp_path, (0, 0, 255))
    found = kinds(Binary(DataParams(), tmp_path), "error")
    assert ("error", "binary-mask", "labels") in found and ("error", "one-class", "train") in found
    assert "a binary mask, in which 255 is read as void" in the(Binary(DataParams(), tmp_path), "binary-mask").what


def test_binary_masks_whose_255_is_a_class_are_sound(tmp_path: Path) -> None:
    class Binary(Pairs):
        classes = tuple(map(str, range(2)))
        palette = PALETTE[:2]

        def split(self, name: str) -> Any:
            return Mapped(super().split(name))

        def check(self, full: bool = True) -> list[Problem]:
            return []

    class Mapped(Split):
        def __init__(self, inner: FolderSplit) -> None:
            self.inner = inner

        @property
        def names(self) -> Any:
            return self.inner.names

        def __getitem__(self, index: int) -> Sample:  # type: ignore[override]
            image, file = self.inner.pairs[index]
            stored = np.asarray(Image.open(file))
            return Sample(image.stem, np.asarray(Image.open(image)), (stored // 255).astype(np.uint8))

    make(tmp_path, (0, 255))
    assert not [f for f in kinds(Binary(DataParams(), tmp_path)) if f[1] in ("binary-mask", "one-class")]


@pytest.mark.parametrize(("split", "level"), [("train", "error"), ("val", "warning"), ("test", "error")])
def test_a_split_of_one_class(tmp_path: Path, split: str, level: str) -> None:
    """As after a reduce-zero: all is foreground."""
    dataset = make(tmp_path)
    for file in (tmp_path / split / "labels").iterdir():
        save(file, np.where(label(0, (1, 255, 1, 1)) == 1, 1, 255).astype(np.uint8))
    found = the(dataset, "one-class")
    assert (found.level, found.where) == (level, split)
    assert "only one class, 'road', and" in found.what and "of the pixels are void" in found.what


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_a_split_of_void_is_an_error(tmp_path: Path, split: str) -> None:
    dataset = make(tmp_path)
    for file in (tmp_path / split / "labels").iterdir():
        save(file, np.full(SIZE, 255, np.uint8))
    assert ("error", "only-void", split) in kinds(dataset, "error")


def test_some_labels_of_void_are_a_warning_that_names_them(tmp_path: Path) -> None:
    dataset = make(tmp_path)
    save(tmp_path / "train/labels/train1.png", np.full(SIZE, 255, np.uint8))
    found = the(dataset, "void-images")
    assert found.level == "warning" and found.what == "1 of 3 labels are entirely void: train1"


def test_much_void_is_a_warning(tmp_path: Path) -> None:
    dataset = make(tmp_path, (0, 1, 2, *[255] * 13))
    assert {f[2] for f in kinds(dataset, "warning") if f[1] == "much-void"} == {"train", "val", "test"}


@pytest.mark.parametrize(
    ("values", "guess"),
    [((0, 1, 2, 3), r"0 to 3, but 3 classes .* 0 for unlabelled"), ((1, 2, 3), r"1 to 3, .* do they begin at 1\?")],
)
def test_one_number_too_many_is_explained(tmp_path: Path, values: tuple[int, ...], guess: str) -> None:
    """Was: label 0 = unlabelled with a wrong class count passes the check and fails in the run."""
    import re

    dataset = make(tmp_path, values)
    found = survey(dataset).of("error")
    files = [f for f in found if f.kind == "file"]
    assert len(files) == 7 and re.search(r"out of range: 3 in \d+ pixels \(expected 0 to 2", files[0].what)
    assert re.search(guess, the(dataset, "shifted").what)


@pytest.mark.parametrize(("values", "explained"), [((0, 1, 2, 3), True), ((1, 2, 3), True), ((1, 2, 4), False)])
def test_one_number_too_many_is_explained_whoever_reads_the_labels(
    values: tuple[int, ...], explained: bool, tmp_path: Path
) -> None:
    """Was: a rule that looked for words of one reader's message, which a dataset.yaml's reader words otherwise."""
    make(tmp_path, values)
    file = tmp_path / "dataset.yaml"
    places = "images: '{split}/images/{name}'\nmasks: '{split}/labels/{name}'\n"
    file.write_text(f"layout: masks\n{places}splits: {{train: train, val: val, test: test}}\nclasses: [a, b, c]\n")
    found = survey(open_dataset(str(file))).of("error")
    assert len([f for f in found if f.kind == "file"]) == 7
    assert (found[0].kind == "shifted") == explained, found
    file.write_text(file.read_text().replace("[a, b, c]", "{a: 1, b: 2, c: 3, d: 0, e: 4}"))
    assert not survey(open_dataset(str(file))).of("error")


def test_a_split_that_is_none_is_the_plugins_fault() -> None:
    class Odd(Made):
        def split(self, name: str) -> Any:
            return [name]

    with pytest.raises(HarnessError, match=r"its split 'train' is a list, not a Split .*inherit"):
        survey(Odd(DataParams()))


class Made(Dataset):
    """Samples that no file holds, as a plugin may make them."""

    name = "made"
    summary = "for tests"
    classes = ("a", "b")
    palette = ((0, 0, 0), (255, 255, 255))
    splits = ("train", "test")  # type: ignore[assignment]
    eval_size = SIZE  # type: ignore[assignment]
    values: ClassVar[tuple[int, ...]] = (0, 1)

    def split(self, name: str) -> Any:
        values, seed = self.values, len(name)

        class Some(Split):
            names = ("x", "y")  # type: ignore[assignment]

            def __getitem__(self, index: int) -> Sample:  # type: ignore[override]
                return Sample(self.names[index], picture(10 * seed + index), label(10 * seed + index, values))

        return Some()

    def manifest(self) -> dict[str, Any]:
        return {}

    def check(self, full: bool = True) -> list[Problem]:
        return [Problem("index.json", "is old")] if full else []


def test_labels_of_a_plugin_are_held_to_its_classes_and_its_own_check_is_heard() -> None:
    class Wrong(Made):
        values = (0, 1, 2)

    found = survey(Wrong(DataParams())).of("error")
    assert ("x", "label values out of range: 2") in [(f.where, f.what[:28]) for f in found]
    assert ("index.json", "is old") in [(f.where, f.what) for f in found]


# ---------------------------------------------------------------------------------------------------- classes


def test_classes_that_never_occur_and_that_a_split_lacks(tmp_path: Path) -> None:
    class Four(Pairs):
        classes = (*CLASSES, "snow")
        palette = (*PALETTE, (255, 255, 255))

    make(tmp_path)
    for file in (tmp_path / "test/labels").iterdir():
        save(file, label(0, (0, 1)))
    dataset = Four(DataParams(), tmp_path)
    assert the(dataset, "class-never").what.startswith("class 'snow' occurs in no label of any split")
    missing = the(dataset, "class-missing")
    assert missing.where == "test" and missing.what == (
        "class 'tree' occurs in none of its labels: the mIoU is over the other 2"
    )
    assert survey(dataset).of("error") == []


def test_a_class_without_examples_to_learn_from(tmp_path: Path) -> None:
    dataset = make(tmp_path)
    for file in (tmp_path / "train/labels").iterdir():
        save(file, label(0, (0, 1)))
    found = the(dataset, "class-missing")
    assert found.where == "train" and "it cannot be learned" in found.what


# --------------------------------------------------------------------------------------------------- label files


def with_palette(path: Path, numbers: np.ndarray, colours: list[tuple[int, int, int]]) -> None:
    stored = Image.frombytes("P", numbers.shape[::-1], numbers.tobytes())
    stored.putpalette([part for colour in colours for part in colour])
    stored.save(path)


def test_palettes_in_which_one_colour_has_several_numbers_are_an_error(tmp_path: Path) -> None:
    """Colours numbered anew in every file: the numbers mean nothing."""
    dataset = make(tmp_path)
    a, b, c = (10, 0, 0), (0, 10, 0), (0, 0, 10)
    for i, file in enumerate(sorted(tmp_path.glob("*/labels/*.png"))):
        with_palette(file, label(i), [a, b, c] if i else [b, a, c])
    found = the(dataset, "palettes")
    assert found.level == "error" and "the colours are the labels, and not the numbers" in found.what


def test_palettes_that_merely_differ_are_a_warning_and_equal_ones_nothing(tmp_path: Path) -> None:
    dataset = make(tmp_path)
    files = sorted(tmp_path.glob("*/labels/*.png"))
    for i, file in enumerate(files):
        with_palette(file, label(i), [(10, 0, 0), (0, 10, 0), (0, 0, 10)])
    assert survey(dataset).findings == []
    with_palette(files[0], label(0), [(10, 0, 0), (0, 99, 0), (0, 0, 10)])
    found = the(dataset, "palettes")
    assert found.level == "warning" and "number 1 is #" in found.what
    assert "#006300 in test0" in found.what and "#000a00 in train0" in found.what


def test_declared_colours_on_other_classes_are_a_warning(tmp_path: Path) -> None:
    dataset = make(tmp_path)
    for i, file in enumerate(sorted(tmp_path.glob("*/labels/*.png"))):
        with_palette(file, label(i), [PALETTE[1], PALETTE[0], PALETTE[2]])
    found = the(dataset, "palette-declared")
    assert found.level == "warning" and "number 0 ('grass') the declared colour of 'road'" in found.what


def test_lossy_labels_are_an_error(tmp_path: Path) -> None:
    dataset = make(tmp_path)
    (tmp_path / "val/labels/val0.png").unlink()
    save(tmp_path / "val/labels/val0.jpg", label(0))
    found = [f for f in survey(dataset).of("error") if f.kind == "file"]
    assert len(found) == 1 and found[0].where.endswith("val0.jpg") and "is a JPEG, which changes" in found[0].what


def described(root: Path, text: str) -> Dataset:
    """The masks of `make` in a `dataset.yaml`."""
    head = "images: '{split}/images/{name}'\nmasks: '{split}/labels/{name}'\nsplits: {train: train, test: test}\n"
    (root / "dataset.yaml").write_text(head + text)
    return open_dataset(str(root / "dataset.yaml"))


def test_masks_told_by_colour_may_be_numbered_anew_in_every_file(tmp_path: Path) -> None:
    """As CVAT writes them."""
    make(tmp_path)
    colours = [(10, 0, 0), (0, 10, 0), (0, 0, 10)]
    for i, file in enumerate(sorted(tmp_path.glob("*/labels/*.png"))):
        with_palette(file, label(i), colours if i else [colours[1], colours[0], colours[2]])
    by_colour = described(tmp_path, "classes: {grass: [10, 0, 0], road: [0, 10, 0], tree: [0, 0, 10]}\n")
    assert survey(by_colour).findings == []
    by_number = described(tmp_path, "classes: [grass, road, tree]\n")
    assert the(by_number, "palettes").level == "error"


def test_colours_in_the_files_are_counted(tmp_path: Path) -> None:
    make(tmp_path)
    table = np.array([(10, 0, 0), (0, 10, 0), (0, 0, 10)], np.uint8)
    for i, file in enumerate(sorted(tmp_path.glob("*/labels/*.png"))):
        save(file, table[label(i)])
    report = survey(described(tmp_path, "classes: {grass: [10, 0, 0], road: [0, 10, 0], tree: [0, 0, 10]}\n"))
    assert set(report.splits["train"].stored) == {"#0a0000", "#000a00", "#00000a"} and report.findings == []
    assert report.splits["test"].stored["#000a00"] == report.splits["test"].classes["road"]


def test_everything_is_foreground_when_the_background_is_ignored(tmp_path: Path) -> None:
    make(tmp_path, (0, 255, 255))
    dataset = described(tmp_path, "classes: {background: 0, thing: 255}\n")
    assert survey(dataset).of("error") == []
    dataset = described(tmp_path, "classes: {background: 0, thing: 255, other: 7}\nbackground: ignore\n")
    found = [finding for finding in survey(dataset).of("error") if finding.kind == "one-class"]
    assert [f.where for f in found] == ["train", "test"] and "only one class, 'thing'" in found[0].what
    assert "a binary mask in which 0 is read as void" in found[0].what


# -------------------------------------------------------------------------------------------------------- images


def exif(orientation: int) -> Image.Exif:
    made = Image.Exif()
    made[274] = orientation
    return made


def test_turned_images_on_labels_that_are_not_are_a_warning(tmp_path: Path) -> None:
    dataset = make(tmp_path)
    save(tmp_path / "val/images/val1.png", picture(7), exif=exif(3))
    found = the(dataset, "turned")
    assert (found.level, found.where) == ("warning", "val") and found.what.startswith("1 image rotated")
    save(tmp_path / "val/labels/val1.png", label(7), exif=exif(3))
    assert not [f for f in survey(dataset).findings if f.kind == "turned"]


def test_transparent_images_and_mixed_sizes_are_noted(tmp_path: Path) -> None:
    dataset = make(tmp_path)
    clear = np.dstack([picture(5, (30, 20)), np.full((30, 20), 128, np.uint8)])
    save(tmp_path / "train/images/train0.png", clear)
    save(tmp_path / "train/labels/train0.png", np.resize(label(5), (30, 20)))
    assert the(dataset, "transparent").level == "note" and "train0" in the(dataset, "transparent").what
    assert the(dataset, "sizes").what == "its images have 2 sizes: 32x24 (2), 20x30 (1)"
    save(tmp_path / "train/images/train0.png", np.dstack([picture(5, (30, 20)), np.full((30, 20), 255, np.uint8)]))
    assert "transparent" not in [f.kind for f in survey(dataset).findings]


@pytest.mark.parametrize(
    ("first", "second", "level"), [("train", "test", "error"), ("train", "val", "error"), ("val", "test", "warning")]
)
def test_an_image_in_two_splits(tmp_path: Path, first: str, second: str, level: str) -> None:
    """Told by its pixels, whatever the format and the name."""
    dataset = make(tmp_path)
    save(tmp_path / second / "images" / f"{second}0.png", picture({"train": 0, "val": 100}[first]), compress_level=0)
    found = the(dataset, "leak")
    assert (found.level, found.where) == (level, second)
    assert f"1 image (50.0%) also in {first}: {first}0 = {second}0" in found.what


def test_few_images_in_two_splits_are_a_warning(tmp_path: Path) -> None:
    dataset = make(tmp_path, counts=(1, 1, 101))
    save(tmp_path / "test/images/test7.png", picture(0))
    assert the(dataset, "leak").level == "warning"


def test_the_same_image_twice_in_a_split_is_a_warning(tmp_path: Path) -> None:
    dataset = make(tmp_path)
    save(tmp_path / "train/images/train2.png", picture(0))
    assert the(dataset, "same-image").what == "1 image stored more than once: train0/train2"


@pytest.mark.parametrize("change", ["jpeg", "brighter", "larger"])
def test_images_that_look_like_one_of_train_are_a_warning(tmp_path: Path, change: str) -> None:
    dataset, image = make(tmp_path), picture(0, (96, 128))
    save(tmp_path / "train/images/train0.png", image)
    save(tmp_path / "train/labels/train0.png", np.kron(label(0), np.ones((4, 4), np.uint8)))
    changed = {
        "jpeg": image,
        "brighter": (image * 0.8 + 40).astype(np.uint8),
        "larger": image.repeat(2, 0).repeat(2, 1),
    }
    (tmp_path / "test/images/test0.png").unlink()
    save(tmp_path / "test/images/test0.jpg", changed[change], quality=80)
    save(tmp_path / "test/labels/test0.png", np.resize(label(0), changed[change].shape[:2]))
    found = the(dataset, "alike")
    assert (found.level, found.where) == ("warning", "test") and "test0 ~ train0" in found.what


def test_images_without_structure_are_not_alike() -> None:
    assert look_alike(np.full((40, 40, 3), 90, np.uint8)) is None
    a, b = look_alike(picture(0)), look_alike(picture(1))
    assert a is not None and b is not None and (a != b).sum() > 40


@pytest.mark.parametrize("change", [lambda a: a // 8, lambda a: 128 + (a.astype(int) - 128) // 8])
def test_images_unlike_those_of_the_weights(tmp_path: Path, change: Callable[[np.ndarray], np.ndarray]) -> None:
    dataset = make(tmp_path)
    for file in (tmp_path / "train/images").iterdir():
        save(file, change(np.asarray(Image.open(file))).astype(np.uint8))
    found = the(dataset, "unlike-weights")
    assert found.level == "warning" and "far from ImageNet's" in found.what

    class Random(Pairs):
        weights = "random"

    assert survey(Random(DataParams(), tmp_path)).findings == []


# ------------------------------------------------------------------------------------------------- what is remembered


def test_what_was_seen_is_remembered_until_the_content_changes(tmp_path: Path) -> None:
    dataset, memory = make(tmp_path / "data"), Memory(tmp_path / "checks")
    spec, calls = DatasetSpec(name="pairs", manifest="1" * 64), []
    report = survey(dataset, spec, memory, lambda *done: calls.append(done))
    assert calls[-1] == (7, 7)
    calls.clear()
    assert survey(dataset, spec, memory, lambda *done: calls.append(done)) == report and not calls
    # Files without a partner are no part of the content: they are looked for every time.
    save(tmp_path / "data/val/images/alone.png", picture(1))
    found = survey(dataset, spec, memory, lambda *done: calls.append(done)).of("error")
    assert [Path(f.where).name for f in found] == ["alone.png"] and not calls
    survey(dataset, DatasetSpec(name="pairs", manifest="2" * 64), memory, lambda *done: calls.append(done))
    assert calls


@pytest.mark.parametrize("content", [b"", b"{", b'{"version": 0}', b"\xff\xfe"])
def test_a_damaged_memory_is_none(tmp_path: Path, content: bytes) -> None:
    memory, spec = Memory(tmp_path), DatasetSpec(name="shapes", manifest="1" * 64)
    report = survey(Shapes(ShapesParams(train=2, val=2, test=2)), spec, memory)
    (file,) = tmp_path.iterdir()
    file.write_bytes(content)
    assert memory.recall(spec) is None
    memory.keep(spec, report)
    assert memory.recall(spec) == report


def test_a_memory_that_cannot_be_written_is_no_fault(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    memory, spec = Memory(tmp_path / "file" / "checks"), DatasetSpec(name="shapes", manifest="1" * 64)
    assert survey(Shapes(ShapesParams(train=2, val=2, test=2)), spec, memory).of("error") == []


# ---------------------------------------------------------------------------------------------------- the sheet


def test_an_overlay_shows_classes_void_and_borders() -> None:
    image, numbers = np.full((20, 20, 3), 100, np.uint8), np.zeros((20, 20), np.uint8)
    numbers[:, 10:], numbers[10:, :] = 1, IGNORE
    drawn = overlay(image, numbers, PALETTE)
    assert drawn[2, 2].tolist() == [40, 160, 40] and drawn[2, 15].tolist() == [112, 112, 112]
    assert {tuple(c) for c in drawn[12:].reshape(-1, 3)} == {(58, 58, 58), (185, 185, 185)}
    assert drawn[2, 10].tolist() == [39, 39, 39]


def test_the_legend_of_many_classes_has_those_that_occur() -> None:
    """Two lines of five entries and a title, not a line for each five of 59 classes."""
    dataset = open_dataset("context", Path())
    label = np.repeat(np.arange(8, dtype=np.uint8), 8).reshape(8, 8)
    legend = _legend(dataset, [Sample("a", np.zeros((8, 8, 3), np.uint8), label)])
    assert legend.height == (2 + 1) * (LINE + 6)


def test_a_sheet_shows_rare_classes_and_a_wrong_order_of_classes_differs(tmp_path: Path) -> None:
    dataset = make(tmp_path, (0, 1), counts=(10, 2, 2))
    save(tmp_path / "train/labels/train9.png", label(0, (0, 2)))
    chosen = choose(dataset)
    assert len(chosen) == 12 and {split for split, _ in chosen} == {"train", "val", "test"}
    assert "train9" in [sample.name for _, sample in chosen]
    draw_sheet(dataset, tmp_path / "right.png")
    sheet = Image.open(tmp_path / "right.png")
    assert sheet.mode == "RGB" and sheet.width > 4 * WIDTH
    right = np.asarray(sheet)

    class Wrong(Pairs):
        classes = ("road", "grass", "tree")

    draw_sheet(Wrong(DataParams(), tmp_path), tmp_path / "wrong.png")
    assert not np.array_equal(right, np.asarray(Image.open(tmp_path / "wrong.png")))


# -------------------------------------------------------------------------------------------------- command line

PLUGIN = """
from harness.data.base import IGNORE, Dataset
from harness.data.folders import FolderSplit, Labelling, check_splits, content_digest

class Mine(Dataset):
    name, summary, needs_root = "mine", "for tests", True
    classes, palette = ("background", "thing"), ((0, 0, 0), (255, 255, 255))
    splits, eval_size, weights = ("train", "val", "test"), (24, 32), "random"
    def split(self, name):
        return FolderSplit(self.root / name / "images", self.root / name / "labels", Labelling(2, frozenset({IGNORE})))
    def manifest(self):
        files = [file for name in self.splits for pair in self.split(name).pairs for file in pair]
        return {"sha256": content_digest(self.root, files)}
    def check(self, full=True):
        return check_splits({name: self.split(name) for name in self.splits}, full)
"""


def command(tmp_path: Path, *words: str) -> list[str]:
    (tmp_path / "mine.py").write_text(PLUGIN)
    return [
        *words,
        "--data-root",
        str(tmp_path / "data"),
        "--plugin",
        str(tmp_path / "mine.py"),
        "-w",
        str(tmp_path / "w"),
    ]


def test_the_page_before_the_first_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make(tmp_path / "data", (0, 1))
    words = command(tmp_path, "data", "check", "mine")
    assert harness([*words, "--sheet", str(tmp_path / "sheet.png")]) == 0
    text = capsys.readouterr().out
    assert "thing" in text and "stored in the label files 0 50.0%, 1 50.0%" in text
    assert "mine: train 3, val 2, test 2; nothing wrong\n" in text
    assert text.rstrip().endswith(f"wrote {tmp_path / 'sheet.png'}: look at it".replace("\n", ""))
    assert Image.open(tmp_path / "sheet.png").width > 1000
    assert harness([*words, "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["problems"] == [] and data["splits"]["train"]["classes"]["thing"]["images"] == 3
    assert data["samples"] == {"train": 3, "val": 2, "test": 2}
    (tmp_path / "data/val/labels/val0.png").unlink()
    assert harness([*words, "--quick"]) == 1
    assert "val0.png: has no label" in capsys.readouterr().out


def test_a_sheet_that_cannot_be_drawn_hides_no_finding(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make(tmp_path / "data", (0, 1))
    for file in (tmp_path / "data").glob("*/labels/*.png"):
        Image.open(file).resize((7, 5)).save(file)
    words = command(tmp_path, "data", "check", "mine")
    assert harness([*words, "--sheet", str(tmp_path / "sheet.png")]) == 1
    text = capsys.readouterr().out
    assert "train0.png" in text and "no sheet" in text and not (tmp_path / "sheet.png").exists()


def test_names_of_files_cannot_steer_the_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make(tmp_path / "data", (0, 1))
    save(tmp_path / "data/val/images" / "\x1b[31mred\x1b]0;title\x07.png", picture(1))
    assert harness(command(tmp_path, "data", "check", "mine")) == 1
    text = capsys.readouterr().out
    assert "\\x1b[31mred" in text and "\x1b" not in text and "\x07" not in text


def test_a_run_refuses_what_the_check_calls_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Binary masks 0/255 of two classes: before, a teacher was trained and the board said 100.0."""
    make(tmp_path / "data", (0, 0, 255))
    assert harness(command(tmp_path, "data", "check", "mine")) == 1
    assert "a binary mask, in which 255 is read as void" in capsys.readouterr().out
    sweep = ["sweep", "--methods", "none", "--strides", "16", "--dataset", "mine", "--seeds", "0"]
    assert harness([*command(tmp_path, *sweep), "--device", "cpu"]) == 2
    assert "255 is read as void" in capsys.readouterr().err
    assert not (tmp_path / "w" / "stages").exists()


def test_a_check_remembers_for_the_sweep(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make(tmp_path / "data", (0, 1))
    words = command(tmp_path, "data", "check", "mine")
    assert harness(words) == 0 and len(list((tmp_path / "w/checks").iterdir())) == 1
    spec = parse_dataset("mine", tmp_path / "data")
    assert Memory(tmp_path / "w/checks").recall(spec) is not None
    assert harness([*words, "--again"]) == 0
    capsys.readouterr()
