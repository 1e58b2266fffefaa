"""The field's data sets, each on a small tree in the layout in which it is handed out."""

from __future__ import annotations

import pickle
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

from harness.builders.datasets import open_dataset, parse_dataset
from harness.data.base import IGNORE
from harness.data.folder.classes import voc_colour
from harness.data.sets.ade20k import Ade20k
from harness.data.sets.camvid import COLOURS, split_of_frame
from harness.data.sets.cityscapes import TRAIN_IDS
from harness.data.sets.coco_stuff import IDS, REMOVED, CocoStuff
from harness.data.sets.context import CLASSES
from harness.errors import HarnessError
from harness.plugins.registries import DATASETS
from harness.specs.recipes import load_recipe
from tests.harness.data.folder.trees import paletted, save, write

SIZE = (20, 30)


def photo(i: int) -> np.ndarray:
    return np.random.default_rng(i).integers(0, 256, (*SIZE, 3), np.uint8)


def raw(values: list[int], dtype: type = np.uint8) -> np.ndarray:
    """(H, W): the values in turn, one a pixel."""
    return np.resize(np.array(values), SIZE).astype(dtype)


def read(name: str, root: Path, split: str) -> list[np.ndarray]:
    data = open_dataset(name, root)
    assert data.check() == []
    assert pickle.loads(pickle.dumps(data.split(split)))[0].name  # noqa: S301
    return [sample.label for sample in data.split(split)]


# ---------------------------------------------------------------------------------------------------------- cityscapes


def cityscapes(root: Path, kinds: tuple[str, ...] = ("labelIds",), flat: bool = False) -> Path:
    ids = list(range(34))
    trained = np.full(256, IGNORE, np.uint8)
    trained[list(TRAIN_IDS)] = list(TRAIN_IDS.values())
    for split, city, count in (("train", "aachen", 2), ("val", "frankfurt", 1), ("test", "berlin", 1)):
        for i in range(count):
            name = f"{city}_{i:06d}_000019"
            place = "" if flat else f"{city}/"
            save(root / f"leftImg8bit/{split}/{place}{name}_leftImg8bit.png", photo(i))
            label = raw(ids)
            for kind in (*kinds, "instanceIds", "color"):
                array = {"labelIds": label, "labelTrainIds": trained[label]}.get(kind, label.astype(np.uint16) * 9)
                save(root / f"gtFine/{split}/{place}{name}_gtFine_{kind}.png", array)
            write(root / f"gtFine/{split}/{place}{name}_gtFine_polygons.json", "{}")
    return root


@pytest.mark.parametrize("flat", [False, True])
@pytest.mark.parametrize("kinds", [("labelIds",), ("labelTrainIds",), ("labelIds", "labelTrainIds")])
def test_cityscapes(kinds: tuple[str, ...], flat: bool, tmp_path: Path) -> None:
    cityscapes(tmp_path / "cityscapes", kinds, flat)
    expected = raw([TRAIN_IDS.get(i, IGNORE) for i in range(34)])
    labels = read("cityscapes", tmp_path, "train")
    assert len(labels) == 2 and all(np.array_equal(label, expected) for label in labels)
    assert len(read("cityscapes", tmp_path / "cityscapes", "val")) == 1


def test_train_ids_of_cityscapes_are_those_of_its_scripts() -> None:
    """road 7, sky 23, person 24, train 31 (29 and 30, caravan and trailer, are left out), bicycle 33."""
    names = open_dataset("cityscapes", Path()).classes
    assert {names[index]: raw_id for raw_id, index in TRAIN_IDS.items()} | {} == {
        "road": 7, "sidewalk": 8, "building": 11, "wall": 12, "fence": 13, "pole": 17, "traffic light": 19,
        "traffic sign": 20, "vegetation": 21, "terrain": 22, "sky": 23, "person": 24, "rider": 25, "car": 26,
        "truck": 27, "bus": 28, "train": 31, "motorcycle": 32, "bicycle": 33,
    }  # fmt: skip


def test_an_image_of_cityscapes_without_its_label_is_named(tmp_path: Path) -> None:
    cityscapes(tmp_path)
    (tmp_path / "gtFine/train/aachen/aachen_000001_000019_gtFine_labelIds.png").unlink()
    (problem,) = open_dataset("cityscapes", tmp_path).check(full=False)
    assert "aachen_000001_000019_leftImg8bit.png" in problem.file and "labelIds" in problem.what
    with pytest.raises(HarnessError, match=r"no \*_gtFine_labelTrainIds.png"):
        open_dataset("cityscapes[labels=labelTrainIds]", tmp_path).check()


# ----------------------------------------------------------------------------------------------------------- voc


def voc(root: Path, year: str = "VOC2012") -> Path:
    base = root / f"VOCdevkit/{year}"
    table = [v for i in range(256) for v in voc_colour(i)]
    for i, name in enumerate(["2007_000001", "2007_000002", "2007_000003"]):
        save(base / f"JPEGImages/{name}.jpg", photo(i))
        save(base / f"SegmentationClass/{name}.png", paletted(raw([*range(21), 255]), table))
        save(base / f"SegmentationObject/{name}.png", paletted(raw([0, 1, 2, 255]), table))
    write(base / "ImageSets/Segmentation/train.txt", "2007_000001\n2007_000002\n")
    write(base / "ImageSets/Segmentation/val.txt", "2007_000003\n")
    return base


def test_voc(tmp_path: Path) -> None:
    base = voc(tmp_path)
    for root in (tmp_path, base):
        labels = read("voc", root, "train")
        assert len(labels) == 2 and np.array_equal(labels[0], raw([*range(21), IGNORE]))
    assert open_dataset("voc", tmp_path).palette[20] == (0, 64, 128)


@pytest.mark.parametrize("kind", ["png", "mat"])
@pytest.mark.parametrize("listed", [False, True])
def test_voc_with_labels_of_sbd(kind: str, listed: bool, tmp_path: Path) -> None:
    base = voc(tmp_path)
    for i, name in enumerate(["2008_000007", "2008_000008"]):
        save(base / f"JPEGImages/{name}.jpg", photo(i))
        label = raw([*range(21)])
        if kind == "png":
            save(base / f"SegmentationClassAug/{name}.png", label)
        else:
            file = tmp_path / f"benchmark_RELEASE/dataset/cls/{name}.mat"
            file.parent.mkdir(parents=True, exist_ok=True)
            savemat(file, {"GTcls": {"Segmentation": label, "Boundaries": 0}})
    if listed:
        write(base / "ImageSets/Segmentation/trainaug.txt",
              "/JPEGImages/2007_000001.jpg /SegmentationClassAug/2007_000001.png\n2008_000008\n")  # fmt: skip
    split = open_dataset("voc[train=trainaug]", tmp_path).split("train")
    expected = (
        ["2007_000001", "2008_000008"] if listed else ["2007_000001", "2007_000002", "2008_000007", "2008_000008"]
    )
    assert list(split.names) == expected
    assert np.array_equal(split[len(split) - 1].label, raw([*range(21)]))
    assert parse_dataset("voc", tmp_path).manifest != parse_dataset("voc[train=trainaug]", tmp_path).manifest


def test_voc_without_labels_of_sbd_says_where_it_looked(tmp_path: Path) -> None:
    base = voc(tmp_path)
    with pytest.raises(HarnessError, match="looked for SegmentationClassAug/ and benchmark_RELEASE"):
        open_dataset("voc[train=trainaug]", tmp_path).check()
    save(base / "SegmentationClassAug/2007_000003.png", raw([0]))
    write(base / "ImageSets/Segmentation/trainaug.txt", "2007_000001\n2007_000003\n")
    with pytest.raises(HarnessError, match="1 of its images are in val: 2007_000003"):
        open_dataset("voc[train=trainaug]", tmp_path).check()


# ------------------------------------------------------------------------------------------------------- context


def context(root: Path, folder: str, lists: str = "SegmentationContext") -> Path:
    base = root / "VOCdevkit/VOC2010"
    for i, name in enumerate(["2008_000002", "2008_000003"]):
        save(base / f"JPEGImages/{name}.jpg", photo(i))
        save(base / f"{folder}/{name}.png", raw(list(range(60))))
    write(base / f"ImageSets/{lists}/train.txt", "2008_000002\n" + "2009_999999\n" * (lists == "Main"))
    write(base / f"ImageSets/{lists}/val.txt", "2008_000003\n")
    return base


def test_context(tmp_path: Path) -> None:
    context(tmp_path, "SegmentationClassContext")
    assert np.array_equal(read("context", tmp_path, "train")[0], raw([IGNORE, *range(59)]))
    assert np.array_equal(read("context[classes=60]", tmp_path, "train")[0], raw(list(range(60))))
    assert len(open_dataset("context", tmp_path).classes) == 59
    assert open_dataset("context[classes=60]", tmp_path).classes[:2] == ("background", "aeroplane")


def test_context_of_its_authors_is_in_the_order_of_their_list(tmp_path: Path) -> None:
    base = context(tmp_path, "59_context_labels", "Main")
    with pytest.raises(HarnessError, match=r"59_labels.txt is missing"):
        open_dataset("context", tmp_path).check()
    order = sorted(CLASSES, reverse=True)
    lines = "".join(f"{i}: {'diningtable' if name == 'table' else name}\n" for i, name in enumerate(order, 1))
    write(base / "59_labels.txt", lines)
    assert np.array_equal(read("context", tmp_path, "train")[0], raw([IGNORE, *range(58, -1, -1)]))
    write(base / "59_labels.txt", lines.replace("wood", "wool"))
    with pytest.raises(HarnessError, match="does not name the 59 classes: wood"):
        open_dataset("context", tmp_path).check()


def test_context_of_its_authors_in_459_labels(tmp_path: Path) -> None:
    """As they are handed out: a matrix `LabelMap` of 16 bits a file, and `labels.txt` with all names."""
    base = tmp_path / "VOC2010"
    others = [f"thing {i}" for i in range(400)]
    names = sorted([*(name for name in CLASSES if name != "table"), "diningtable", *others])
    write(base / "labels.txt", "".join(f"{i}: {name}\n" for i, name in enumerate(names, 1)))
    stored = np.arange(460, dtype=np.uint16).reshape(20, 23)
    for i, name in enumerate(["2008_000002", "2008_000003"]):
        image = np.random.default_rng(i).integers(0, 256, (20, 23, 3), np.uint8)
        save(base / f"JPEGImages/{name}.jpg", image)
        (base / "trainval").mkdir(exist_ok=True)
        savemat(base / f"trainval/{name}.mat", {"LabelMap": stored})
        write(base / f"ImageSets/Main/{('train', 'val')[i]}.txt", f"{name}\n2009_000001\n")
    label = read("context", tmp_path, "val")[0]
    known = {name: i for i, name in enumerate(CLASSES)}
    meant = ["", *("table" if name == "diningtable" else name for name in names)]
    assert label.ravel().tolist() == [known.get(name, IGNORE) for name in meant]
    with_rest = read("context[classes=60]", tmp_path, "val")[0]
    assert with_rest.ravel().tolist() == [known[name] + 1 if name in known else 0 for name in meant]


# ----------------------------------------------------------------------------------------------- ade20k, coco_stuff


def test_ade20k(tmp_path: Path) -> None:
    base = tmp_path / "ADEChallengeData2016"
    for folder, part in (("training", "train"), ("validation", "val")):
        for i in (1, 2):
            save(base / f"images/{folder}/ADE_{part}_{i:08d}.jpg", photo(i))
            save(base / f"annotations/{folder}/ADE_{part}_{i:08d}.png", raw(list(range(151))))
    write(base / "objectInfo150.txt", "Idx\tRatio\n")
    assert np.array_equal(read("ade20k", tmp_path, "val")[0], raw([IGNORE, *range(150)]))
    assert len(set(Ade20k.classes)) == 150
    assert [Ade20k.classes[i] for i in (0, 7, 20, 149)] == ["wall", "bed", "car", "flag"]


@pytest.mark.parametrize(("images", "labels"), [("images/", "annotations/"), ("", "stuffthingmaps/")])
@pytest.mark.parametrize("converted", [False, True])
def test_coco_stuff_of_2017(images: str, labels: str, converted: bool, tmp_path: Path) -> None:
    stored = [*range(171), 255] if converted else [number - 1 for number in (*IDS, *REMOVED)] + [255]
    for split in ("train", "val"):
        save(tmp_path / f"{images}{split}2017/000000000009.jpg", photo(0))
        ending = "_labelTrainIds" if converted else ""
        save(tmp_path / f"{labels}{split}2017/000000000009{ending}.png", raw(stored))
    ignored = [IGNORE] if converted else [IGNORE] * (len(REMOVED) + 1)
    assert np.array_equal(read("coco_stuff", tmp_path, "train")[0], raw([*range(171), *ignored]))


def test_coco_stuff_of_10k(tmp_path: Path) -> None:
    for i, split in enumerate(("train", "test")):
        name = f"COCO_train2014_{i:012d}"
        save(tmp_path / f"images/{name}.jpg", photo(i))
        (tmp_path / "annotations").mkdir(exist_ok=True)
        savemat(tmp_path / f"annotations/{name}.mat", {"S": raw([0, *IDS], np.uint8), "captions": "a"})
        write(tmp_path / f"imageLists/{split}.txt", f"{name}\n")
    data = open_dataset("coco_stuff[version=10k]", tmp_path)
    assert data.splits == ("train", "test")
    assert np.array_equal(read("coco_stuff[version=10k]", tmp_path, "test")[0], raw([IGNORE, *range(171)]))
    with pytest.raises(HarnessError, match="looked for images/train2017 and stuffthingmaps/train2017"):
        open_dataset("coco_stuff", tmp_path).check()


def test_classes_of_coco_stuff() -> None:
    """By the ids of labels.txt of its authors: 1 person, 13 stop sign, 90 toothbrush, 92 banner, 149 road, 182 wood."""
    assert len(set(CocoStuff.classes)) == len(IDS) == 171 and not set(REMOVED) & set(IDS)
    named = {1: "person", 13: "stop sign", 90: "toothbrush", 92: "banner", 149: "road", 157: "sky-other", 182: "wood"}
    assert {number: CocoStuff.classes[IDS[number]] for number in named} == named


# -------------------------------------------------------------------------------------------------------------- camvid


def colour_label() -> tuple[np.ndarray, np.ndarray]:
    """All 32 colours in turn, and what they become."""
    table = [(0, 0, 0), *(colour for parts in COLOURS.values() for colour in parts.values())]
    indices = [IGNORE, *(i for i, parts in enumerate(COLOURS.values()) for _ in parts)]
    return np.array(table, np.uint8)[raw(list(range(32)))], np.array(indices, np.uint8)[raw(list(range(32)))]


FRAMES = {
    "train": ["0001TP_006690", "0006R0_f00930", "0016E5_08190", "0016E5_07980"],
    "val": ["0016E5_07959", "0016E5_08159"],
    "test": ["0001TP_008550", "Seq05VD_f00000"],
}


@pytest.mark.parametrize("layout", ["split folders", "all together", "lists"])
def test_camvid_in_its_32_colours(layout: str, tmp_path: Path) -> None:
    stored, expected = colour_label()
    for split, names in FRAMES.items():
        for i, name in enumerate(names):
            images, labels = "701_StillsRaw_full", "LabeledApproved_full"
            if layout == "split folders":
                images, labels = split, f"{split}_labels"
            save(tmp_path / "CamVid" / images / f"{name}.png", photo(i))
            save(tmp_path / "CamVid" / labels / f"{name}_L.png", stored)
    write(tmp_path / "CamVid/label_colors.txt", "64 128 64\tAnimal\n")
    if layout == "lists":
        write(tmp_path / "CamVid/train.txt", "\n".join(f"{n}.png" for n in FRAMES["val"]))
        write(tmp_path / "CamVid/val.txt", "\n".join(FRAMES["train"]))
        write(tmp_path / "CamVid/test.txt", "Seq05VD_f00000\n")
    data = open_dataset("camvid", tmp_path)
    assert data.check() == [] and data.eval_size == (720, 960)
    found = {split: sorted(data.split(split).names) for split in data.splits}
    if layout == "lists":
        assert found == {"train": FRAMES["val"], "val": sorted(FRAMES["train"]), "test": ["Seq05VD_f00000"]}
    else:
        assert found == {split: sorted(names) for split, names in FRAMES.items()}
    assert np.array_equal(data.split("test")[0].label, expected)
    assert data.classes == tuple(COLOURS) and len({c for parts in COLOURS.values() for c in parts.values()}) == 31


def test_frames_of_camvid_by_split() -> None:
    assert [split_of_frame(f"0016E5_{n:05d}") for n in (390, 7959, 7960, 7961, 8159, 8190)] == [
        "train", "val", "train", "val", "val", "train",
    ]  # fmt: skip


# ------------------------------------------------------------------------------------------------------ wrong layouts

OFFICIAL: dict[str, tuple[str, Callable[[Path], object]]] = {
    "cityscapes": ("leftImg8bit/train", lambda root: save(root / "leftImg8bit/train/a/a_leftImg8bit.png", photo(0))),
    "voc": ("SegmentationClass", lambda root: save(root / "VOC2012/JPEGImages/a.jpg", photo(0))),
    "context": ("ImageSets", lambda root: save(root / "VOC2010/JPEGImages/a.jpg", photo(0))),
    "ade20k": ("annotations/training", lambda root: save(root / "images/training/a.jpg", photo(0))),
    "coco_stuff": ("stuffthingmaps/train2017", lambda root: save(root / "train2017/a.jpg", photo(0))),
    "camvid": ("trainannot", lambda root: save(root / "vol/a.jpg", photo(0))),
}


@pytest.mark.parametrize("name", OFFICIAL)
def test_a_wrong_layout_is_told_what_was_looked_for_and_what_is_there(name: str, tmp_path: Path) -> None:
    wanted, build = OFFICIAL[name]
    build(tmp_path)
    with pytest.raises(HarnessError) as error:
        open_dataset(name, tmp_path).check()
    message = error.value.message
    assert wanted in message and re.search(r"there is (VOC|JPEGImages|leftImg8bit|images|train2017|vol)/?", message)
    assert error.value.hint


def test_a_typing_error_in_the_layout_is_shown_beside_what_is_missing(tmp_path: Path) -> None:
    base = voc(tmp_path / "a")
    (base / "SegmentationClass").rename(base / "SegmentationClas")
    with pytest.raises(HarnessError, match=r"VOC2012 lacks SegmentationClass; there is .*SegmentationClas/"):
        open_dataset("voc", tmp_path / "a").check()
    for split in ("train", "val"):
        save(tmp_path / f"b/{split}/0001TP_006690.png", photo(0))
    save(tmp_path / "b/train_label/0001TP_006690_L.png", colour_label()[0])
    save(tmp_path / "b/val_labels/0001TP_006690_L.png", colour_label()[0])
    said = [str(problem) for problem in open_dataset("camvid", tmp_path / "b").check(full=False)]
    assert any("has no *_L.png in train_labels/" in problem for problem in said), said


def test_the_smaller_version_of_coco_stuff_is_recognised_where_the_larger_was_asked_for(tmp_path: Path) -> None:
    write(tmp_path / "cocostuff-10k-v1.1/imageLists/train.txt", "a\n")
    with pytest.raises(HarnessError) as error:
        open_dataset("coco_stuff", tmp_path).check()
    assert "there is imageLists/" in error.value.message and "coco_stuff[version=10k]" in error.value.hint
    with pytest.raises(HarnessError, match=r"in .*cocostuff-10k-v1.1 there is imageLists/"):
        open_dataset("coco_stuff[version=10k]", tmp_path).check()


@pytest.mark.parametrize("name", OFFICIAL)
def test_every_set_of_the_field_has_a_recipe_and_distinct_names(name: str) -> None:
    cls = DATASETS.get(name)
    assert len(set(cls.classes)) == len(cls.classes) == len(cls.palette)
    assert load_recipe(cls.recipe).for_kind("student").iterations > 300
