"""Small data sets in the layouts of the formats' own documents: exact names of folders and files, exact encodings."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

IGNORE = 255
NAMES = ("background", "road", "car", "tree")
COLOURS = ((0, 0, 0), (128, 64, 128), (0, 0, 142), (107, 142, 35))


@dataclass
class Expected:
    """What must be read: labels by split and name, and classes; splits are None where they are drawn."""

    labels: dict[str, np.ndarray]
    splits: dict[str, list[str]] | None
    classes: tuple[str, ...] | None = NAMES


def size(i: int) -> tuple[int, int]:
    """(height, width): odd ones, and no two alike."""
    return 31 + 2 * (i % 3), 45 + 2 * (i % 4)


def rectangles(i: int) -> list[tuple[int, tuple[int, int, int, int]]]:
    """Class and (left, top, right, bottom) of the regions of a sample, the larger below the smaller."""
    height, width = size(i)
    return [(1, (0, height // 2, width, height)), (2, (3 + i % 5, 12, 15 + i % 5, 24)), (3, (20, 2, 26, 9))]


def label(i: int) -> np.ndarray:
    """(H, W), uint8, 0 to 3."""
    array = np.zeros(size(i), np.uint8)
    for cls, (left, top, right, bottom) in rectangles(i):
        array[top:bottom, left:right] = cls
    return array


def photo(i: int) -> np.ndarray:
    """(H, W, 3), uint8, of many values."""
    return np.random.default_rng(i).integers(0, 256, (*size(i), 3), np.uint8)


def save(path: Path, array: np.ndarray | Image.Image, **options: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = array if isinstance(array, Image.Image) else Image.fromarray(array)
    picture.save(path, **options)


def colours(array: np.ndarray) -> np.ndarray:
    return np.array(COLOURS, np.uint8)[array]


def paletted(array: np.ndarray, table: list[int] | None = None) -> Image.Image:
    picture = Image.frombytes("P", (array.shape[1], array.shape[0]), array.tobytes())
    picture.putpalette(table or [v for colour in COLOURS for v in colour])
    return picture


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def numbered(count: int = 4, form: str = "img_{:03d}") -> list[str]:
    return [form.format(i) for i in range(count)]


def _pairs(
    root: Path,
    image: str,
    mask: str,
    splits: dict[str, str] | None = None,
    encode: Callable[[np.ndarray], np.ndarray | Image.Image] = lambda array: array,
    form: str = "img_{:03d}",
    per_split: int = 2,
) -> Expected:
    """Pairs at two templates; splits as name -> folder."""
    labels: dict[str, np.ndarray] = {}
    found: dict[str, list[str]] = {}
    i = 0
    for split, folder in (splits or {"": ""}).items():
        for _ in range(per_split if splits else 6):
            name = form.format(i)
            labels[name] = label(i)
            save(root / image.format(split=folder, name=name), photo(i))
            save(root / mask.format(split=folder, name=name), encode(label(i)))
            found.setdefault(split, []).append(name)
            i += 1
    return Expected(labels, found if splits else None, None)


FOLDERS = {"train": "train", "val": "val", "test": "test"}


def split_then_kind(root: Path) -> Expected:
    return _pairs(root, "{split}/images/{name}.jpg", "{split}/masks/{name}.png", FOLDERS)


def kind_then_split(root: Path) -> Expected:
    return _pairs(root, "images/{split}/{name}.jpg", "annotations/{split}/{name}.png",
                  {"train": "training", "val": "validation"})  # fmt: skip


def segnet(root: Path) -> Expected:
    return _pairs(root, "{split}/{name}.png", "{split}annot/{name}.png", FOLDERS)


def suffix_beside(root: Path) -> Expected:
    return _pairs(root, "{name}.jpg", "{name}_mask.png")


def suffix_in_folders(root: Path) -> Expected:
    """CamVid's own: 0001TP_006690.png and 0001TP_006690_L.png."""
    return _pairs(root, "raw/{name}.png", "labels/{name}_P.png", form="0016E5_{:05d}")


def satellite(root: Path) -> Expected:
    """DeepGlobe's: 123_sat.jpg and 123_mask.png in one folder. Classes are in the order of their colours."""
    expected = _pairs(root, "{split}/{name}_sat.jpg", "{split}/{name}_mask.png", {"train": "train", "val": "valid"},
                  colours, form="{:06d}")  # fmt: skip
    expected.labels = {n: np.array([0, 3, 1, 2], np.uint8)[a] for n, a in expected.labels.items()}
    return expected


def same_stem(root: Path) -> Expected:
    """Oxford pets in one folder: a.jpg and a.png."""
    return _pairs(root, "{name}.jpg", "{name}.png")


def upper_case_unicode(root: Path) -> Expected:
    return _pairs(root, "Images/{name}.JPG", "Masks/{name}.PNG", form="Straße im Süden {}")


def split_lists(root: Path) -> Expected:
    expected = _pairs(root, "images/{name}.jpg", "masks/{name}.png")
    names = list(expected.labels)
    write(root / "splits/train.txt", "\n".join(names[:3]) + "\n")
    write(root / "splits/val.txt", "\n".join(f"images/{n}.jpg" for n in names[3:5]) + "\n\n# end\n")
    write(root / "splits/test.txt", f"{names[5]}.jpg\r\n")
    expected.splits = {"train": names[:3], "val": names[3:5], "test": names[5:]}
    return expected


def pair_lists(root: Path) -> Expected:
    """Lines of two paths, as Cityscapes-style training scripts read them; names with spaces, tabs and commas."""
    expected = _pairs(root, "photos of june/{name}.png", "truth/{name} gt.png")
    names = list(expected.labels)
    for split, part, separator in (("train", names[:3], " "), ("val", names[3:], "\t")):
        lines = [f"photos of june/{n}.png{separator}truth/{n} gt.png" for n in part]
        write(root / f"{split}_pairs.txt", "\n".join(lines))
    expected.labels = {f"photos of june/{n}": a for n, a in expected.labels.items()}
    expected.splits = {
        "train": [f"photos of june/{n}" for n in names[:3]],
        "val": [f"photos of june/{n}" for n in names[3:]],
    }
    return expected


def videos(root: Path) -> Expected:
    """Frames of four recordings in folders."""
    labels = {}
    for i in range(16):
        name = f"clip{i // 4}/{i % 4:04d}"
        labels[name] = label(i)
        save(root / f"images/{name}.jpg", photo(i))
        save(root / f"masks/{name}.png", label(i))
    return Expected(labels, None, None)


def wide(root: Path) -> Expected:
    """16-bit masks with gaps: 0, 1000, 2000, 3000."""
    expected = _pairs(root, "image/{name}.png", "label/{name}.png", encode=lambda a: a.astype(np.uint16) * 1000)
    return expected


def binary(root: Path) -> Expected:
    expected = _pairs(root, "{split}/image/{name}.png", "{split}/mask/{name}.png", FOLDERS,
                      lambda a: (a > 0).astype(np.uint8) * 255)  # fmt: skip
    expected.labels = {name: (array > 0).astype(np.uint8) for name, array in expected.labels.items()}
    expected.classes = ("background", "foreground")
    return expected


def transparent_palette(root: Path) -> Expected:
    def encode(array: np.ndarray) -> Image.Image:
        picture = paletted(array)
        picture.info["transparency"] = 0
        return picture

    return _pairs(root, "images/{name}.jpg", "masks/{name}.png", encode=encode)


def colour_csv(root: Path) -> Expected:
    """CamVid's class_dict.csv beside train, train_labels, ..."""
    expected = _pairs(root, "{split}/{name}.png", "{split}_labels/{name}_L.png", FOLDERS, colours, form="0001TP_{:06d}")
    lines = [f"{name},{r},{g},{b}" for name, (r, g, b) in zip(NAMES, COLOURS)]
    write(root / "class_dict.csv", "\n".join(["name,r,g,b", *lines]))
    expected.classes = NAMES
    return expected


def colour_json_rgba(root: Path) -> Expected:
    def encode(array: np.ndarray) -> np.ndarray:
        return np.concatenate([colours(array), np.full((*array.shape, 1), 255, np.uint8)], -1)

    expected = _pairs(root, "images/{name}.png", "masks/{name}.png", encode=encode)
    table = [{"name": name, "color": list(colour)} for name, colour in zip(NAMES, COLOURS)]
    write(root / "classes.json", json.dumps(table))
    expected.classes = NAMES
    return expected


def index_csv(root: Path) -> Expected:
    """Roboflow's semantic masks: a.jpg, a_mask.png and _classes.csv in every split."""
    expected = _pairs(root, "{split}/{name}_jpg.rf.jpg", "{split}/{name}_jpg.rf_mask.png",
                      {"train": "train", "val": "valid", "test": "test"}, form="a{:02d}")  # fmt: skip
    for split in ("train", "valid", "test"):
        write(
            root / split / "_classes.csv", "Pixel Value, Class\n" + "".join(f"{i}, {n}\n" for i, n in enumerate(NAMES))
        )
    expected.classes = NAMES
    return expected


def _binary(expected: Expected) -> Expected:
    expected.labels = {name: (array > 0).astype(np.uint8) for name, array in expected.labels.items()}
    expected.classes = ("background", "foreground")
    return expected


def _black_and_white(array: np.ndarray) -> np.ndarray:
    return (array > 0).astype(np.uint8) * 255


def isic(root: Path) -> Expected:
    """ISIC 2017: words of splits within names of folders that say nothing of images."""
    mask = "ISIC-2017_{split}_Part1_GroundTruth/{name}_segmentation.png"
    splits = {"train": "Training", "val": "Validation"}
    form = "ISIC_{:07d}"
    return _binary(_pairs(root, "ISIC-2017_{split}_Data/{name}.jpg", mask, splits, _black_and_white, form))


def carvana(root: Path) -> Expected:
    """Carvana: masks are GIF, whose palette a writer renumbers; test images have none."""
    expected = _pairs(
        root, "train/{name}.jpg", "train_masks/{name}_mask.gif", encode=_black_and_white, form="00087a6_{:02d}"
    )
    save(root / "test/0a0e3fb8f782_01.jpg", photo(0))
    return _binary(expected)


def drive(root: Path) -> Expected:
    """DRIVE: `mask` is the field of view, and `1st_manual` the label."""
    expected = _pairs(root, "training/images/{name}_training.tif", "training/1st_manual/{name}_manual1.gif",
                      encode=_black_and_white, form="{:02d}")  # fmt: skip
    for i in range(6):
        save(root / f"training/mask/{i:02d}_training_mask.gif", np.full(size(i), 255, np.uint8))
    return _binary(expected)


def bdd(root: Path) -> Expected:
    """BDD100K: numbers and colours of the same labels side by side."""
    two = {"train": "train", "val": "val"}
    _pairs(root, "images/10k/{split}/{name}.jpg", "labels/sem_seg/colormaps/{split}/{name}.png", two, colours)
    return _pairs(root, "images/10k/{split}/{name}.jpg", "labels/sem_seg/masks/{split}/{name}.png", two)


def supervisely(root: Path) -> Expected:
    """Supervisely's export: the mask of a.jpg is a.jpg.png, beside pictures for people."""
    _pairs(root, "ds/img/{name}.jpg", "ds/masks_human/{name}.jpg.png", encode=colours)
    for i in range(6):
        write(root / f"ds/ann/img_{i:03d}.jpg.json", '{"objects": [], "tags": []}')
    return _pairs(root, "ds/img/{name}.jpg", "ds/masks_machine/{name}.jpg.png")


def oxford(root: Path) -> Expected:
    """Oxford-IIIT Pet: lists with further columns, hidden files of another system, numbers that begin at 1."""
    expected = _pairs(
        root, "images/{name}.jpg", "annotations/trimaps/{name}.png", encode=lambda a: a + 1, form="Abyssinian_{}"
    )
    names = list(expected.labels)
    for name in names:
        write(root / f"annotations/trimaps/._{name}.png", "resource fork")
    for split, part in (("train", names[:4]), ("test", names[4:])):
        write(root / f"annotations/{split}.txt", "#Image CLASS-ID SPECIES\n" + "".join(f"{n} 1 1 1\n" for n in part))
    expected.splits = {"train": names[:4], "test": names[4:]}
    return expected


# ------------------------------------------------------------------------------------------------------ VOC, CVAT


def voc(root: Path) -> Expected:
    """VOCdevkit/VOC2012: palette masks with borders of 255, SegmentationObject beside, images without masks."""
    from harness.data.folder.classes import voc_colour

    base = root / "VOCdevkit/VOC2012"
    table = [v for i in range(256) for v in voc_colour(i)]
    labels: dict[str, np.ndarray] = {}
    for i in range(5):
        name = f"2007_{i:06d}"
        array = label(i) * 5
        array[:2] = IGNORE
        labels[name] = array
        save(base / f"JPEGImages/{name}.jpg", photo(i))
        save(base / f"SegmentationClass/{name}.png", paletted(array, table))
        save(base / f"SegmentationObject/{name}.png", paletted(array // 5, table))
    save(base / "JPEGImages/2008_000001.jpg", photo(9))
    names = list(labels)
    for list_, part in (("train", names[:3]), ("val", names[3:]), ("trainval", names), ("test", ["2008_000001"])):
        write(base / f"ImageSets/Segmentation/{list_}.txt", "\n".join(part) + "\n")
    write(base / "ImageSets/Main/train.txt", "2008_000001\n")
    return Expected(labels, {"train": names[:3], "val": names[3:]}, None)


def cvat(root: Path) -> Expected:
    """CVAT's "Segmentation mask 1.1" of a task, with images: colours by labelmap.txt."""
    lines = ["# label:color_rgb:parts:actions"]
    lines += [f"{name}:{r},{g},{b}::" for name, (r, g, b) in zip(NAMES, COLOURS)]
    write(root / "labelmap.txt", "\n".join(lines) + "\n")
    labels = {}
    for i in range(6):
        name = f"frame {i:06d}" if i == 3 else f"frame_{i:06d}"
        labels[name] = label(i)
        save(root / f"JPEGImages/{name}.jpg", photo(i))
        save(root / f"SegmentationClass/{name}.png", colours(label(i)))
        save(root / f"SegmentationObject/{name}.png", colours((label(i) > 0).astype(np.uint8)))
    quoted = [f'"{name}"' if " " in name else name for name in labels]
    write(root / "ImageSets/Segmentation/default.txt", "\n".join(quoted) + "\n")
    return Expected(labels, None)


def cvat_numbers(root: Path) -> Expected:
    """The same with masks of one channel, which CVAT takes too: places in labelmap.txt; 255 is not declared."""
    expected = cvat(root)
    for i, name in enumerate(expected.labels):
        expected.labels[name] = label(i)
        expected.labels[name][:2] = IGNORE
        save(root / f"SegmentationClass/{name}.png", expected.labels[name])
    return expected


# ----------------------------------------------------------------------------------------------------- annotations


def _polygon(box: tuple[int, int, int, int]) -> list[int]:
    left, top, right, bottom = box
    return [left, top, right, top, right, bottom, left, bottom]


def _yolo_text(i: int) -> str:
    height, width = size(i)
    lines = []
    for cls, box in reversed(rectangles(i)):  # the small ones first: the order must not matter
        values = np.array(_polygon(box)).reshape(-1, 2) / (width, height)
        lines.append(" ".join([str(cls - 1), *(f"{v:.9f}" for v in values.ravel())]))
    return "\n".join(lines) + "\n"


def yolo(root: Path) -> Expected:
    """Ultralytics' layout: images/train, labels/train, a data file; an image without objects has no text file."""
    labels: dict[str, np.ndarray] = {}
    splits: dict[str, list[str]] = {"train": [], "val": []}
    for i in range(6):
        split, name = ("train" if i < 4 else "val"), f"{i:012d}"
        save(root / f"images/{split}/{name}.jpg", photo(i))
        labels[name] = label(i) if i != 2 else np.zeros(size(i), np.uint8)
        if i != 2:
            write(root / f"labels/{split}/{name}.txt", _yolo_text(i))
        splits[split].append(name)
    names = "".join(f"  {i}: {name}\n" for i, name in enumerate(NAMES[1:]))
    write(root / "data.yaml", f"path: {root}\ntrain: images/train\nval: images/val\ntest:\n\nnames:\n{names}")
    return Expected(labels, splits)


def yolo_roboflow(root: Path) -> Expected:
    """Roboflow's export: train/images, train/labels, valid/...; paths of the data file begin with ../"""
    labels: dict[str, np.ndarray] = {}
    splits: dict[str, list[str]] = {"train": [], "val": []}
    for i in range(5):
        split, folder, name = ("train", "train", f"a{i}") if i < 3 else ("val", "valid", f"b{i}")
        save(root / folder / f"images/{name}.jpg", photo(i))
        write(root / folder / f"labels/{name}.txt", _yolo_text(i))
        labels[name] = label(i)
        splits[split].append(name)
    names = ", ".join(f"'{name}'" for name in NAMES[1:])
    write(root / "data.yaml", f"train: ../train/images\nval: ../valid/images\n\nnc: 3\nnames: [{names}]\n")
    return Expected(labels, splits)


IDS = {1: 3, 2: 7, 3: 90}
"""Category ids with gaps."""


def _coco(indices: range, first: int) -> dict[str, Any]:
    """Polygons in two parts, a compressed and an uncompressed run-length code, and a crowd."""
    from pycocotools import mask as masks

    images, annotations = [], []
    for i in indices:
        height, width = size(i)
        images.append({"id": first + i, "file_name": f"{i:012d}.jpg", "height": height, "width": width})
        for cls, (left, top, right, bottom) in rectangles(i):
            middle = (left + right) // 2
            parts = [_polygon((left, top, middle, bottom)), _polygon((middle, top, right, bottom))]
            binary = np.zeros((height, width), np.uint8, order="F")
            binary[top:bottom, left:right] = 1
            code = masks.encode(binary)
            segmentation: Any = parts
            if cls == 2:
                segmentation = {"size": [height, width], "counts": code["counts"].decode()}
            if cls == 3:
                runs = np.diff(np.flatnonzero(np.diff(binary.ravel(order="F"), prepend=2, append=2)))
                first_run = [] if binary[0, 0] == 0 else [0]
                segmentation = {"size": [height, width], "counts": [*first_run, *map(int, runs)]}
            annotations.append({
                "id": len(annotations) + 1, "image_id": first + i, "category_id": IDS[cls], "iscrowd": 0,
                "segmentation": segmentation, "area": float(binary.sum()),
                "bbox": [left, top, right - left, bottom - top],
            })  # fmt: skip
        crowd = np.zeros((height, width), np.uint8)
        crowd[2:6, 30:40] = 1
        runs = np.diff(np.flatnonzero(np.diff(crowd.ravel(order="F"), prepend=2, append=2)))
        annotations.append({
            "id": len(annotations) + 1, "image_id": first + i, "category_id": 7, "iscrowd": 1, "area": 40,
            "segmentation": {"size": [height, width], "counts": list(map(int, runs))}, "bbox": [30, 2, 10, 4],
        })  # fmt: skip
    categories = [{"id": IDS[c], "name": NAMES[c], "supercategory": "thing"} for c in (3, 1, 2)]
    return {"info": {}, "licenses": [], "images": images, "annotations": annotations, "categories": categories}


def coco_label(i: int) -> np.ndarray:
    array = label(i)
    part = array[2:6, 30:40]
    part[part == 0] = IGNORE
    return array


def coco(root: Path) -> Expected:
    """COCO 2017: train2017/, val2017/, annotations/instances_*.json, and the captions and keypoints beside them."""
    for split, indices in (("train", range(4)), ("val", range(4, 6))):
        write(root / f"annotations/instances_{split}2017.json", json.dumps(_coco(indices, 500)))
        captions = {"images": [], "annotations": [{"image_id": 500, "id": 1, "caption": "a street"}]}
        write(root / f"annotations/captions_{split}2017.json", json.dumps(captions))
        for i in indices:
            save(root / f"{split}2017/{i:012d}.jpg", photo(i))
    labels = {f"{i:012d}": coco_label(i) for i in range(6)}
    return Expected(labels, {"train": list(labels)[:4], "val": list(labels)[4:]})


def coco_roboflow(root: Path) -> Expected:
    """Roboflow's: images and _annotations.coco.json together in train/ and valid/."""
    for folder, indices in (("train", range(4)), ("valid", range(4, 6))):
        write(root / folder / "_annotations.coco.json", json.dumps(_coco(indices, 0)))
        for i in indices:
            save(root / folder / f"{i:012d}.jpg", photo(i))
    labels = {f"{i:012d}": coco_label(i) for i in range(6)}
    return Expected(labels, {"train": list(labels)[:4], "val": list(labels)[4:]})


def coco_single(root: Path) -> Expected:
    """CVAT's COCO export: images/default? no: images/ and annotations/instances_default.json."""
    write(root / "annotations/instances_default.json", json.dumps(_coco(range(6), 1)))
    for i in range(6):
        save(root / f"images/default/{i:012d}.jpg", photo(i))
    return Expected({f"{i:012d}": coco_label(i) for i in range(6)}, None)


def labelme(root: Path) -> Expected:
    """Labelme's: a JSON beside each image; rectangle, polygon, mask, and shapes without area."""
    import base64
    import io

    labels = {}
    for i in range(6):
        height, width = size(i)
        shapes: list[dict[str, Any]] = []
        for cls, (left, top, right, bottom) in rectangles(i):
            shape: dict[str, Any] = {
                "label": NAMES[cls], "points": [[left, top], [right, top], [right, bottom], [left, bottom]],
                "group_id": None, "description": "", "shape_type": "polygon", "flags": {}, "mask": None,
            }  # fmt: skip
            if cls == 2:
                shape |= {"points": [[right, bottom], [left, top]], "shape_type": "rectangle"}
            if cls == 3:
                buffer = io.BytesIO()
                Image.fromarray(np.full((bottom - top, right - left), 255, np.uint8)).save(buffer, "PNG")
                shape |= {"points": [[left, top], [right - 1, bottom - 1]], "shape_type": "mask"}
                shape["mask"] = base64.b64encode(buffer.getvalue()).decode()
            shapes.append(shape)
        shapes.append({"label": "__ignore__", "points": [[30, 2], [40, 2], [40, 6], [30, 6]], "shape_type": "polygon"})
        shapes.append({"label": "tip", "points": [[5, 5]], "shape_type": "point"})
        data = {
            "version": "5.5.0", "flags": {}, "shapes": shapes, "imagePath": f"img {i}.jpg", "imageData": None,
            "imageHeight": height, "imageWidth": width,
        }  # fmt: skip
        write(root / f"img {i}.json", json.dumps(data))
        save(root / f"img {i}.jpg", photo(i))
        array = np.array([0, 2, 1, 3], np.uint8)[label(i)]
        array[2:6, 30:40] = IGNORE
        labels[f"img {i}"] = array
    return Expected(labels, None, ("background", "car", "road", "tree"))


def label_studio(root: Path) -> Expected:
    """Brush labels exported as PNG and as JSON; a label with a hyphen; an older annotation that counts no more."""
    names = {1: "road", 2: "street-car", 3: "tree"}
    tasks, labels = [], {}
    for i in range(6):
        height, width = size(i)
        results = []
        for cls, (left, top, right, bottom) in rectangles(i):
            binary = np.zeros((height, width), np.uint8)
            binary[top:bottom, left:right] = 255
            save(root / f"brush/task-{i + 11}-annotation-{i + 40}-by-1-tag-{names[cls]}-0.png", binary)
            results.append({
                "original_width": width, "original_height": height, "image_rotation": 0, "id": f"r{cls}",
                "value": {"format": "rle", "rle": [0, 1, 1, 2, 3], "brushlabels": [names[cls]]},
                "from_name": "tag", "to_name": "image", "type": "brushlabels", "origin": "manual",
            })  # fmt: skip
        save(
            root / f"brush/task-{i + 11}-annotation-{i + 30}-by-1-tag-tree-0.png",
            np.full((height, width), 255, np.uint8),
        )
        tasks.append({
            "id": i + 11, "data": {"image": f"/data/upload/3/{i:08x}-photo_{i}.jpg"}, "project": 3,
            "annotations": [{"id": i + 40, "was_cancelled": False, "result": results, "task": i + 11}],
        })  # fmt: skip
        save(root / f"images/photo_{i}.jpg", photo(i))
        labels[f"photo_{i}"] = np.array([0, 1, 2, 3], np.uint8)[label(i)]
    write(root / "project-3-at-2024-01-01.json", json.dumps(tasks))
    return Expected(labels, None, ("background", "road", "street-car", "tree"))


def labelme_embedded(root: Path) -> Expected:
    """Labelme's with images in the JSON files: one of them lies beside its JSON all the same."""
    import base64

    expected = labelme(root)
    for i in range(6):
        file, picture = root / f"img {i}.json", root / f"img {i}.jpg"
        data = json.loads(file.read_text())
        data["imageData"] = base64.b64encode(picture.read_bytes()).decode()
        file.write_text(json.dumps(data))
        if i != 2:
            picture.unlink()
    return expected


def packed(mask: np.ndarray) -> list[int]:
    """A mask (H, W) as Label Studio's brush writes it into JSON: RGBA pixels, packed as thi.ng's rle-pack does; runs of
    alike values of up to 16, and runs of others of up to 8."""
    values = np.zeros((*mask.shape, 4), np.uint8)
    values[mask] = (255, 10, 20, 255)
    flat, bits, at = values.ravel().tolist(), "", 0
    bits += f"{len(flat):032b}{7:05b}" + "".join(f"{size - 1:04b}" for size in (3, 4, 8, 16))
    while at < len(flat):
        alike = next((i for i in range(at, len(flat)) if flat[i] != flat[at]), len(flat)) - at
        if alike > 2:
            choice, size = next((c, s) for c, s in enumerate((3, 4, 8, 16)) if alike <= 1 << s or s == 16)
            count = min(alike, 1 << size)
            bits += f"1{choice:02b}{count - 1:0{size}b}{flat[at]:08b}"
        else:
            count = min(8, len(flat) - at)
            bits += f"0{0:02b}{count - 1:03b}" + "".join(f"{value:08b}" for value in flat[at : at + count])
        at += count
    bits += "0" * (-len(bits) % 8)
    return [int(bits[i : i + 8], 2) for i in range(0, len(bits), 8)]


def label_studio_coded(root: Path) -> Expected:
    """Brush labels in the JSON alone; an older and a cancelled annotation that count for nothing."""
    names = {1: "road", 2: "street-car", 3: "tree"}
    tasks, labels = [], {}
    for i in range(6):
        height, width = size(i)

        def result(mask: np.ndarray, name: str) -> dict[str, object]:
            return {
                "original_width": mask.shape[1], "original_height": mask.shape[0], "image_rotation": 0,
                "value": {"format": "rle", "rle": packed(mask), "brushlabels": [name]},
                "from_name": "tag", "to_name": "image", "type": "brushlabels", "origin": "manual",
            }  # fmt: skip

        results = []
        for cls, (left, top, right, bottom) in rectangles(i):
            mask = np.zeros((height, width), bool)
            mask[top:bottom, left:right] = True
            results.append(result(mask, names[cls]))
        everything = [result(np.ones((height, width), bool), "tree")]
        tasks.append({
            "id": i + 11, "data": {"image": f"/data/upload/3/{i:08x}-photo_{i}.jpg"}, "project": 3,
            "annotations": [
                {"id": i + 30, "was_cancelled": False, "result": everything},
                {"id": i + 40, "was_cancelled": False, "result": results},
                {"id": i + 50, "was_cancelled": True, "result": everything},
            ],
        })  # fmt: skip
        save(root / f"images/photo_{i}.jpg", photo(i))
        labels[f"photo_{i}"] = np.array([0, 1, 2, 3], np.uint8)[label(i)]
    write(root / "project-3-at-2024-01-01.json", json.dumps(tasks))
    return Expected(labels, None, ("background", "road", "street-car", "tree"))


LAYOUTS: dict[str, Callable[[Path], Expected]] = {
    builder.__name__: builder
    for builder in (
        split_then_kind, kind_then_split, segnet, suffix_beside, suffix_in_folders, satellite, same_stem,
        upper_case_unicode, split_lists, pair_lists, videos, wide, binary, transparent_palette, colour_csv,
        colour_json_rgba, index_csv, isic, carvana, drive, bdd, supervisely, oxford, voc, cvat, cvat_numbers, yolo,
        yolo_roboflow, coco, coco_roboflow, coco_single, labelme,
        labelme_embedded, label_studio, label_studio_coded,
    )
}  # fmt: skip
