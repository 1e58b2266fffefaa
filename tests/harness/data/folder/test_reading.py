"""What a `dataset.yaml` may say, and how each kind of picture and mask is read; wrong ones are named."""

from __future__ import annotations

import builtins
import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from harness.builders.datasets import open_dataset
from harness.data.base import IGNORE, Dataset, Sample
from harness.data.folder.classes import ClassEntry, build_classes, read_class_file, voc_colour
from harness.data.folder.drawing import code_mask
from harness.errors import HarnessError
from tests.harness.data.folder import trees
from tests.harness.data.folder.trees import label, paletted, photo, save, write

HEAD = "images: 'images/{name}'\nmasks: 'masks/{name}'\n"


def dataset(root: Path, text: str) -> Dataset:
    write(root / "dataset.yaml", text)
    return open_dataset("folder", root)


def one(root: Path, image: Any, mask: Any, text: str, suffix: str = "png", **options: Any) -> Sample:
    """The sample of a data set of two, of which this is the first."""
    save(root / f"images/a.{suffix}", image, **options)
    save(root / "images/b.png", photo(0))
    save(root / "masks/b.png", np.zeros(photo(0).shape[:2], np.uint8))
    if mask is not None:
        save(root / "masks/a.png", mask)
    write(root / "a.txt", "a")
    write(root / "b.txt", "b")
    sample: Sample = dataset(root, HEAD + "splits: {train: a.txt, val: b.txt}\n" + text).split("train")[0]
    return sample


# -------------------------------------------------------------------------------------------- classes, after reading


def test_ignore_merge_and_what_is_left(tmp_path: Path) -> None:
    text = "classes: [sky, car, bus, road]\nmerge: {vehicle: [car, bus]}\nignore: [sky, 9]\n"
    mask = label(0).copy()
    mask[:3] = 9
    read = one(tmp_path, photo(0), mask, text).label
    expected = np.full(mask.shape, IGNORE, np.uint8)
    expected[(mask == 1) | (mask == 2)] = 0
    expected[mask == 3] = 1
    assert np.array_equal(read, expected)
    assert open_dataset("folder", tmp_path).classes == ("vehicle", "road")


@pytest.mark.parametrize("classes", ["[background, a, b, c]", "[a, b, c]", "{other: 0, a: 1, b: 2, c: 3}"])
def test_background_that_is_ignored_moves_the_others_down(classes: str, tmp_path: Path) -> None:
    read = one(tmp_path, photo(0), label(0), f"classes: {classes}\nbackground: ignore\n").label
    assert np.array_equal(read, np.array([IGNORE, 0, 1, 2], np.uint8)[label(0)])


def test_255_is_ignored_unless_it_is_a_class(tmp_path: Path) -> None:
    mask = np.where(label(0) > 0, 255, 0).astype(np.uint8)
    read = one(tmp_path / "a", photo(0), mask, "classes: {no: 0, yes: 255}\n").label
    assert np.array_equal(read, mask // 255)
    read = one(tmp_path / "b", photo(0), mask, "classes: [no, yes]\n").label
    assert set(np.unique(read)) == {0, IGNORE}


def test_at_least_two_classes() -> None:
    for ignored, said in [(["b"], r"1 class \(a\)"), (["a", "b"], "no class")]:
        with pytest.raises(HarnessError, match=f"{said}: at least two are needed") as found:
            build_classes([ClassEntry("a", 0), ClassEntry("b", 1)], ignore=ignored)
        assert "classes:" in str(found.value.hint)


def test_at_most_255_classes() -> None:
    assert len(build_classes([ClassEntry(f"c{i}", i) for i in range(255)]).names) == 255
    many = [ClassEntry(f"c{i}", i) for i in range(300)]
    with pytest.raises(HarnessError, match="300 classes: a label is one byte a pixel and 255 means ignored"):
        build_classes(many)
    assert len(build_classes(many, ignore=[f"c{i}" for i in range(100)]).names) == 200


def test_the_255th_class_is_told_from_ignored(tmp_path: Path) -> None:
    mask = np.full(photo(0).shape[:2], 254, np.uint16)
    mask[0] = 300
    names = ", ".join(f"c{i}" for i in range(255))
    read = one(tmp_path, photo(0), mask, f"classes: [{names}]\nignore: [300]\n").label
    assert (read[1:] == 254).all() and (read[0] == IGNORE).all()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("classes: [a, a]", "name a twice"),
        ('classes: [a, ""]', "the class table has the name ''"),
        ('classes: [a, "  "]', "the class table has the name '  '"),
        ('classes: [a, "\\e[2J"]', "the class table has the name"),
        ('classes: [a, "\\uD800"]', "the class table has the name"),
        ("classes: {a: 1, b: 1}", "value 1 twice"),
        ("classes: {a: [1, 2, 3], b: [1, 2, 3]}", "colour"),
        ("classes: [a]", "two are needed"),
        ("classes: [a, b, c, d]\nignore: [sky]", "there is no class 'sky'"),
        ("classes: [a, b, c, d]\nmerge: {x: [e]}", "there is no class 'e'"),
        ("classes: [a, b, c, d]\nmerge: {x: [a], y: [a]}", "'x' and 'y'"),
        ("classes: {a: nothing}", "is not a class"),
        ("classes: nowhere.csv", "no file"),
        ("classes: ../../etc/passwd", "leads out of"),
        ("classes: [a, b, c, d]\nignores: [a]", "no field 'ignores'"),
        ("classes: [a, b, c, d]\nmask_size: shrink", "mask_size"),
        ("classes: [a, b", "is not YAML"),
        ("", "names no classes"),
    ],
)
def test_what_makes_no_sense_is_named(text: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(HarnessError, match=said):
        one(tmp_path, photo(0), label(0), text)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.csv", "name,r,g,b\nroad,1,2,3\ncar,4,5,6\n"),
        ("a.csv", "road,1,2,3\ncar,4,5,6\n"),
        ("a.csv", "\ufefflabel;x\n"),
        ("a.json", '{"road": [1, 2, 3], "car": "#040506"}'),
        ("a.json", '{"classes": [{"title": "road", "color": "#010203"}, {"title": "car", "color": [4, 5, 6, 255]}]}'),
        ("label_colors.txt", "1 2 3\troad\n4 5 6\t\tcar\n"),
        ("a.txt", "road 1 2 3\ncar 4 5 6\n"),
        ("labelmap.txt", "# label:color_rgb:parts:actions\nroad:1,2,3::\ncar:4,5,6:a,b:run\n"),
    ],
)
def test_tables_of_colours(name: str, text: str, tmp_path: Path) -> None:
    write(tmp_path / name, text)
    if ";" in text:
        assert [e.name for e in read_class_file(tmp_path / name)] == ["label;x"]
        return
    assert read_class_file(tmp_path / name) == [
        ClassEntry("road", colour=(1, 2, 3)),
        ClassEntry("car", colour=(4, 5, 6)),
    ]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.csv", "id,name\n3,road\n7,car\n"),
        ("a.csv", "Pixel Value, Class\n3, road\n7, car\n"),
        ("a.csv", "road,3\ncar,7\n"),
        ("a.json", '{"road": 3, "car": 7}'),
        ("a.json", '{"3": "road", "7": "car"}'),
        ("a.txt", "3: road\n7: car\n"),
    ],
)
def test_tables_of_values(name: str, text: str, tmp_path: Path) -> None:
    write(tmp_path / name, text)
    assert read_class_file(tmp_path / name) == [ClassEntry("road", 3), ClassEntry("car", 7)]


def test_black_is_the_colour_of_a_background_alone() -> None:
    entries = [ClassEntry("background", 0), ClassEntry("car", 1), ClassEntry("road", 2)]
    assert build_classes(entries).palette == tuple(voc_colour(i) for i in range(3))
    assert build_classes(entries, background="ignore").palette == (voc_colour(1), voc_colour(2))


def test_colours_of_voc() -> None:
    assert [voc_colour(i) for i in (0, 1, 15, 20, 255)] == [
        (0, 0, 0), (128, 0, 0), (192, 128, 128), (0, 64, 128), (224, 224, 192),
    ]  # fmt: skip


# ---------------------------------------------------------------------------------------------------- kinds of pictures

FOUR = "classes: [a, b, c, d]\n"


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA", "CMYK", "P", "1", "I;16"])
def test_images_of_any_mode_are_three_bytes_a_pixel(mode: str, tmp_path: Path) -> None:
    picture = Image.fromarray(photo(0))
    if mode == "I;16":
        picture = Image.fromarray(photo(0)[..., 0].astype(np.uint16) * 257)
    else:
        picture = picture.convert("RGB" if mode == "LA" else mode).convert(mode)
    suffix = "tif" if mode in ("CMYK", "I;16") else "png"
    sample = one(tmp_path, picture, label(0), FOUR, suffix=suffix)
    assert sample.image.shape == photo(0).shape and sample.image.dtype == np.uint8
    if mode == "I;16":
        assert np.array_equal(sample.image[..., 0], photo(0)[..., 0])


def test_a_turned_photograph_lies_on_its_mask(tmp_path: Path) -> None:
    """EXIF 6: stored lying, shown upright, and labelled as shown."""
    upright = np.zeros((40, 24, 3), np.uint8)
    upright[:20, :12] = 255
    stored = Image.fromarray(upright).transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[274] = 6
    mask = (upright[..., 0] > 0).astype(np.uint8)
    sample = one(tmp_path, stored, mask, FOUR, suffix="jpg", exif=exif, quality=100)
    assert sample.image.shape == (40, 24, 3)
    assert ((sample.image[..., 0] > 128) == (sample.label == 1)).mean() > 0.99


def test_a_mask_of_another_size_is_an_error_unless_it_may_be_resized(tmp_path: Path) -> None:
    half = label(0)[::2, ::2]
    with pytest.raises(HarnessError, match=r"masks/a.png: 23x16 pixels, but a.png has 45x31"):
        one(tmp_path, photo(0), half, FOUR)
    sample = one(tmp_path, photo(0), half, FOUR + "mask_size: resize\n")
    assert sample.label.shape == sample.image.shape[:2]
    assert (sample.label == label(0)).mean() > 0.9


@pytest.mark.parametrize("transparency", [None, 0, b"\x00\x80\xff\xff"])
def test_palettes_are_numbers_where_the_table_has_values_and_colours_where_it_has_those(
    transparency: Any, tmp_path: Path
) -> None:
    options = {} if transparency is None else {"transparency": transparency}
    for place, text in (
        ("a", FOUR),
        ("b", "classes: {a: [0, 0, 0], b: [128, 64, 128], c: [0, 0, 142], d: '#6b8e23'}\n"),
    ):
        save(tmp_path / place / "masks/a.png", paletted(label(0)), **options)
        read = one(tmp_path / place, photo(0), None, text).label
        assert np.array_equal(read, label(0))


def test_colours_that_no_class_has_are_named_with_their_pixels(tmp_path: Path) -> None:
    mask = trees.colours(label(0))
    mask[5, 5:8] = (1, 2, 3)
    text = "classes: {a: [0, 0, 0], b: [128, 64, 128], c: [0, 0, 142], d: [107, 142, 35]}\n"
    with pytest.raises(HarnessError, match=r"masks/a.png: colours of no class: \(1, 2, 3\) \(3 pixels\)"):
        one(tmp_path, photo(0), mask, text)
    read = one(tmp_path, photo(0), mask, text + "ignore: [[1, 2, 3]]\n").label
    assert (read[5, 5:8] == IGNORE).all()


def test_numbers_that_no_class_has_are_named_with_their_pixels(tmp_path: Path) -> None:
    with pytest.raises(HarnessError, match=r"values of no class: 3 \(42 pixels\) \(expected 0 to 2, 255\)"):
        one(tmp_path, photo(0), label(0), "classes: [a, b, c]\n")


@pytest.mark.parametrize("value", [-3, 70000])
def test_numbers_beyond_16_bits_are_named_as_they_are(value: int, tmp_path: Path) -> None:
    mask = label(0).astype(np.int32)
    mask[0, 0] = value
    save(tmp_path / "masks/a.tif", Image.fromarray(mask))
    with pytest.raises(HarnessError, match=rf"no class: {value} \(1 pixels\)"):
        one(tmp_path, photo(0), None, FOUR)


def test_masks_of_jpeg_only_where_that_was_said(tmp_path: Path) -> None:
    mask = np.where(label(0) == 1, 255, 0).astype(np.uint8)
    save(tmp_path / "masks/a.jpg", mask, quality=60)
    text = "classes: {no: 0, yes: 255}\n"
    with pytest.raises(HarnessError, match="JPEG, which changes class numbers"):
        one(tmp_path, photo(0), None, text)
    read = one(tmp_path, photo(0), None, text + "lossy_masks: nearest\n").label
    assert (read == (mask > 0)).mean() > 0.98 and set(np.unique(read)) == {0, 1}


# -------------------------------------------------------------------------------------------------------------- splits


def _pairs(root: Path, names: list[str]) -> None:
    for name in names:
        save(root / f"images/{name}.png", photo(0))
        save(root / f"masks/{name}.png", label(0))


def test_drawn_splits_are_the_same_every_time_and_keep_groups_together(tmp_path: Path) -> None:
    names = [f"v{video}_{frame:02d}" for video in range(10) for frame in range(4)]
    _pairs(tmp_path, names)
    text = HEAD + FOUR + "splits: {train: 0.6, val: 0.2, test: 0.2}\nseed: 3\n"
    drawn = [dataset(tmp_path, text + r"group: '(.+)_\d+'") for _ in range(2)]
    sets = [{split: list(data.split(split).names) for split in data.splits} for data in drawn]
    assert sets[0] == sets[1]
    assert sorted(name for found in sets[0].values() for name in found) == names
    videos = [{name.split("_")[0] for name in found} for found in sets[0].values()]
    assert not videos[0] & videos[1] and not videos[1] & videos[2] and [len(v) for v in videos] == [6, 2, 2]
    other = dataset(tmp_path, text.replace("seed: 3", "seed: 4") + r"group: '(.+)_\d+'")
    assert list(other.split("val").names) != sets[0]["val"]
    by_sample = dataset(tmp_path, text)
    assert len(by_sample.split("train").names) == 24


@pytest.mark.parametrize(
    ("splits", "said"),
    [
        ("splits: {train: 0.9, val: 0.2}", "at most 1"),
        ("splits: {train: 0.8, val: list.txt}", "fractions and names are mixed"),
        ("splits: {train: 0.5, val: 0.5}\ngroup: '(x'", "not a regular expression"),
        ("splits: {train: 0.5, val: 0.5}\ngroup: 'x.+'", "write one"),
        ("splits: {train: 0.5, val: 0.5}\ngroup: '(b)'", "does not match the name 'a0'"),
        ("splits: {train: 0.9999, val: 0.0001}", "split 'val' is empty"),
        ("splits: {train: nowhere.txt, val: nowhere.txt}", "there is no list"),
        ("splits: {train: ../a.txt, val: b.txt}", "leads out of"),
        ("splits: {train: /etc/passwd.txt, val: b.txt}", "leads out of"),
        ("splits: {train: train, val: val}", "no {split}"),
        ("splits: {train: 0.5}", "val or test"),
        ("splits: {training: 0.5, val: 0.5}", "no split 'training'"),
        ("", "names no splits"),
    ],
)
def test_splits_that_make_no_sense_are_named(splits: str, said: str, tmp_path: Path) -> None:
    _pairs(tmp_path, [f"a{i}" for i in range(6)])
    with pytest.raises(HarnessError) as error:
        dataset(tmp_path, HEAD + FOUR + splits).check()
    assert said in str(error.value)


def test_files_without_a_partner_are_named_or_skipped(tmp_path: Path) -> None:
    _pairs(tmp_path, [f"a{i}" for i in range(6)])
    save(tmp_path / "images/lonely.png", photo(0))
    save(tmp_path / "masks/left.png", label(0))
    text = HEAD + FOUR + "splits: {train: 0.5, val: 0.5}\n"
    found = {Path(p.file).name: p.what.partition(";")[0] for p in dataset(tmp_path, text).check()}
    assert found == {"lonely.png": "has no mask", "left.png": "has no image"}
    assert dataset(tmp_path, text + "unmatched: skip\n").check() == []


def test_two_pictures_of_one_name_are_told_until_one_is_meant(tmp_path: Path) -> None:
    one(tmp_path, photo(0), label(0), "classes: [a, b, c, d]\n")
    save(tmp_path / "images/a.jpg", photo(0))
    text = "splits: {train: a.txt, val: b.txt}\nclasses: [a, b, c, d]\n"
    problems = dataset(tmp_path, HEAD + text).check()
    assert [Path(p.file).name for p in problems] == ["a.png"] and "same name as a.jpg" in problems[0].what
    assert dataset(tmp_path, HEAD.replace("images/{name}", "images/{name}.png") + text).check() == []


@pytest.mark.parametrize("name", [b"\xff.png", b"a\nb.png", b"\x1b[2J.png"])
def test_a_file_whose_name_is_no_text_is_refused_and_not_left_out(name: bytes, tmp_path: Path) -> None:
    """No template or list can name it: it was passed over without a word."""
    one(tmp_path, photo(0), label(0), "classes: [a, b, c, d]\n")
    shutil.copy(tmp_path / "images/a.png", os.fsencode(tmp_path / "images") + b"/" + name)
    with pytest.raises(HarnessError, match="is no text"):
        open_dataset("folder", tmp_path).check()


def test_templates_do_not_lead_out_of_the_folder(tmp_path: Path) -> None:
    _pairs(tmp_path, ["a"])
    text = "images: '../{name}'\nmasks: 'masks/{name}'\nsplits: {train: 0.5, val: 0.5}\n" + FOUR
    with pytest.raises(HarnessError, match="leads out of"):
        dataset(tmp_path, text).check()


def test_lists_of_decomposed_names_find_composed_files(tmp_path: Path) -> None:
    import unicodedata

    name = unicodedata.normalize("NFC", "Überflug")
    _pairs(tmp_path, [name, "b"])
    write(tmp_path / "a.txt", unicodedata.normalize("NFD", name))
    write(tmp_path / "b.txt", "b")
    data = dataset(tmp_path, HEAD + FOUR + "splits: {train: a.txt, val: b.txt}")
    assert data.check() == [] and list(data.split("train").names) == [name]


# -------------------------------------------------------------------------------------------------------- annotations


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("0 0.5 0.5 0.2 0.2", "line 1 is a box"),
        ("0 0.5 0.5 0.2", "has 3 numbers"),
        ("0 1 2 3 4 5 6", r"outside \[0, 1\]"),
        ("9 0.1 0.1 0.2 0.1 0.2 0.2", "class 9"),
        ("a b", "is not a label"),
    ],
)
def test_yolo_lines_that_cannot_be(line: str, said: str, tmp_path: Path) -> None:
    trees.yolo(tmp_path)
    write(tmp_path / "labels/train/000000000000.txt", line)
    text = (
        "layout: yolo\nimages: 'images/{split}/{name}'\nannotations: 'labels/{split}/{name}.txt'\n"
        "classes: {0: a, 1: b, 2: c}\nsplits: {train: train, val: val}\n"
    )
    with pytest.raises(HarnessError, match=said):
        dataset(tmp_path, text).split("train")[0]


def test_what_no_polygon_covers_can_be_ignored(tmp_path: Path) -> None:
    trees.yolo(tmp_path)
    text = (
        "layout: yolo\nimages: 'images/{split}/{name}'\nannotations: 'labels/{split}/{name}.txt'\n"
        "classes: {0: a, 1: b, 2: c}\nsplits: {train: train, val: val}\nbackground: ignore\n"
    )
    data = dataset(tmp_path, text)
    assert data.classes == ("a", "b", "c")
    assert np.array_equal(data.split("train")[0].label, np.array([IGNORE, 0, 1, 2], np.uint8)[label(0)])


def test_a_category_that_is_no_class_is_named(tmp_path: Path) -> None:
    trees.coco_single(tmp_path)
    text = "layout: coco\nimages: images/default\nannotations: annotations/instances_default.json\n"
    text += "splits: {train: 0.5, val: 0.5}\nclasses: {road: 3, car: 7}\n"
    with pytest.raises(HarnessError, match="category id 90"):
        dataset(tmp_path, text).split("train")[0]
    data = dataset(tmp_path, text.replace("car: 7}", "car: 7, tree: 90}\nignore: [tree]"))
    assert data.classes == ("background", "road", "car")
    assert (data.split("train")[0].label[3:8, 21:25] == IGNORE).all()


def test_without_pycocotools_the_remedy_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trees.yolo(tmp_path)
    real = builtins.__import__

    def missing(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.startswith("pycocotools"):
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", missing)
    text = (
        "layout: yolo\nimages: 'images/{split}/{name}'\nannotations: 'labels/{split}/{name}.txt'\n"
        "classes: {0: a, 1: b, 2: c}\nsplits: {train: train, val: val}\n"
    )
    with pytest.raises(HarnessError, match=r"pip install"):
        dataset(tmp_path, text).split("train")[0]


def test_json_of_another_kind_is_refused_with_its_name(tmp_path: Path) -> None:
    write(tmp_path / "a.json", json.dumps({"images": [{"name": 1}]}))
    text = "layout: coco\nannotations: a.json\nsplits: {train: 0.5, val: 0.5}\n"
    with pytest.raises(HarnessError, match=r"a\.json: is not COCO's JSON"):
        dataset(tmp_path, text)


@pytest.mark.parametrize(("background", "expected"), [("class", 0), ("ignore", IGNORE)])
def test_a_background_that_annotations_name_is_the_background(background: str, expected: int, tmp_path: Path) -> None:
    """Some exporters of YOLO's labels give it an id of its own."""
    trees.yolo(tmp_path)
    write(tmp_path / "labels/train/000000000000.txt", "0 0 0 1 0 1 1 0 1\n1 0 0 0.5 0 0.5 1 0 1\n")
    text = (
        "layout: yolo\nimages: 'images/{split}/{name}'\nannotations: 'labels/{split}/{name}.txt'\n"
        f"classes: [background, road, car]\nsplits: {{train: train, val: val}}\nbackground: {background}\n"
    )
    data = dataset(tmp_path, text)
    read = data.split("train")[0].label
    assert set(np.unique(read[:, -5:])) == {expected} and set(np.unique(read[:, :5])) == {data.classes.index("road")}


@pytest.mark.parametrize(
    ("segmentation", "said"),
    [
        ([[0, 0, 1e9, 0, 1e9, 1e9]], "far outside its image of 45x31"),
        ([[0, 0, 9, 0, 9, 9, 5]], "not a list of x1, y1"),
        ([[0, 0, "a", 0, 9, 9]], "not a list of x1, y1"),
        ([[0, 0, float("nan"), 0, 9, 9]], "far outside"),
        ({"size": [31, 45], "counts": [1000, 1000]}, "does not cover its image of 45x31 exactly"),
        ({"size": [31, 45], "counts": [1396, -1]}, "does not cover"),
        ({"size": [31, 45], "counts": "PPPPPPPPPPPPoooo0"}, "does not cover"),
        ({"size": [310, 450], "counts": [139500]}, r"has the size \[310, 450\], but its image \[31, 45\]"),
        ({"size": [31, 45]}, "neither polygons nor a run-length code"),
        (7, "neither polygons nor a run-length code"),
    ],
)
def test_segmentations_on_which_a_library_would_crash_are_refused(segmentation: Any, said: str, tmp_path: Path) -> None:
    trees.coco_single(tmp_path)
    file = tmp_path / "annotations/instances_default.json"
    data = json.loads(file.read_text())
    data["annotations"] = [{"id": 1, "image_id": 1, "category_id": 3, "iscrowd": 0, "segmentation": segmentation}]
    file.write_text(json.dumps(data))
    text = "layout: coco\nimages: images/default\nannotations: annotations/instances_default.json\n"
    text += "splits: {train: 0.5, val: 0.5}\nclasses: {road: 3, car: 7}\n"
    problems = dataset(tmp_path, text).check()
    assert len(problems) == 1 and problems[0].file.endswith("instances_default.json")
    assert re.search(said, problems[0].what), problems


def test_codes_are_read_as_pycocotools_wrote_them() -> None:
    from pycocotools import mask

    rng = np.random.default_rng(0)
    for i in range(60):
        drawn = (rng.random(rng.integers(1, 40, 2)) < rng.random()).astype(np.uint8)
        drawn = np.kron(drawn, np.ones((1 + i % 9, 1 + i % 7), np.uint8))
        code = mask.encode(np.asfortranarray(drawn))
        read = code_mask({"size": list(drawn.shape), "counts": code["counts"].decode()}, drawn.shape)
        assert np.array_equal(read, drawn)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"imageHeight": -5}, "is not an image size"),
        ({"shapes": [{"label": "car", "points": [[1, 2, 3]]}]}, "labelme|Labelme|JSON"),
        ({"shapes": [{"label": "car", "points": [[0, 0], [1e9, 0], [5, 5]]}]}, "far outside"),
        ({"shapes": 3}, "is not Labelme's JSON"),
        (
            {"shapes": [{"label": "car", "points": [[0, 0], [5, 5]], "shape_type": "mask", "mask": "?"}]},
            "cannot be read",
        ),
        ({"shapes": [{"label": "car", "points": [[0, 0], [5, 5]], "shape_type": "cube"}]}, "type 'cube'"),
        ({"shapes": [{"label": "bike", "points": [[0, 0], [5, 5], [5, 0]]}]}, "label 'bike'"),
    ],
)
def test_damaged_files_of_labelme_are_named(change: dict[str, Any], said: str, tmp_path: Path) -> None:
    trees.labelme(tmp_path)
    text = "layout: labelme\nimages: '{name}'\nannotations: '{name}.json'\nsplits: {train: 0.5, val: 0.5}\n"
    text += "classes: [car, road, tree]\n"
    file = tmp_path / "img 3.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **change}))
    (problem,) = dataset(tmp_path, text).check()
    assert problem.file.endswith("img 3.json") and re.search(said, problem.what), problem
