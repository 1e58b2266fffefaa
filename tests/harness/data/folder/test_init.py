"""`harness data init`, and naming data by the path of its description."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat
from typer.testing import CliRunner

from harness.builders.datasets import located, open_dataset, parse_dataset
from harness.builders.recognised import recognised
from harness.cli.app import app, run
from harness.data.folder.guess import guess_group, split_of, yaml_text
from harness.data.folder.guess_layout import guess_layout
from harness.errors import HarnessError
from harness.specs.yaml_files import read_yaml, yaml_word
from tests.harness.data.folder import trees
from tests.harness.data.folder.trees import label, photo, save, write


def test_a_description_is_written_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trees.binary(tmp_path)
    assert run(["data", "init", str(tmp_path), "--dry-run"]) == 0
    shown = capsys.readouterr().out
    assert not (tmp_path / "dataset.yaml").exists() and "layout: masks" in shown
    assert run(["data", "init", str(tmp_path)]) == 0
    assert "train 2, val 2, test 2; 2 classes: background, foreground" in capsys.readouterr().out
    write(tmp_path / "dataset.yaml", "mine: 1\n")
    assert run(["data", "init", str(tmp_path)]) == 2
    assert "--force" in capsys.readouterr().err
    assert (tmp_path / "dataset.yaml").read_text() == "mine: 1\n"
    assert run(["data", "init", str(tmp_path), "--force"]) == 0
    assert (tmp_path / "dataset.yaml").read_text() == shown


@pytest.mark.parametrize(("size", "said"), [(0, "0 pictures"), (3, "3 pictures")])
def test_a_folder_of_something_else_is_told_what_was_looked_for(size: int, said: str, tmp_path: Path) -> None:
    for i in range(size):
        save(tmp_path / f"{i}.png", photo(i))
    with pytest.raises(HarnessError) as error:
        guess_layout(tmp_path)
    assert said in error.value.message and "COCO" in error.value.hint


def test_boxes_and_missing_images_are_told_as_such(tmp_path: Path) -> None:
    trees.yolo(tmp_path / "yolo")
    for file in (tmp_path / "yolo/labels").rglob("*.txt"):
        file.write_text("0 0.5 0.5 0.2 0.2\n")
    with pytest.raises(HarnessError, match="boxes"):
        guess_layout(tmp_path / "yolo")
    trees.cvat(tmp_path / "cvat")
    for file in (tmp_path / "cvat/JPEGImages").iterdir():
        file.unlink()
    with pytest.raises(HarnessError, match="no images of their names"):
        guess_layout(tmp_path / "cvat")


def test_what_is_unsure_stands_in_the_file(tmp_path: Path) -> None:
    for i in range(12):
        save(tmp_path / f"images/drive{i // 4}_{i:03d}.png", photo(i))
        save(tmp_path / f"masks/drive{i // 4}_{i:03d}.png", label(i)[::2, ::2] if i == 7 else label(i))
    save(tmp_path / "images/extra.png", photo(0))
    text = yaml_text(guess_layout(tmp_path))
    assert "UNSURE: no class table" in text and "UNSURE: no splits" in text
    assert "1 of 12 masks have another size than their image" in text and "mask_size: resize" in text
    assert "UNSURE: 1 files have no partner" in text and "unmatched: skip" in text
    assert "frames of 3 videos" in text
    write(tmp_path / "dataset.yaml", text)
    problems = open_dataset("folder", tmp_path).check()
    assert [Path(p.file).name for p in problems] == ["drive1_007.png"]


def test_instances_and_photographs_are_no_classes(tmp_path: Path) -> None:
    for i in range(4):
        save(tmp_path / f"images/{i}.png", photo(i))
        save(
            tmp_path / f"masks/{i}.png",
            (np.arange(photo(i)[..., 0].size) % 400).reshape(photo(i).shape[:2]).astype(np.uint16),
        )
    guess = guess_layout(tmp_path)
    assert guess.fields["classes"] == [] and "At most 255 classes" in yaml_text(guess)


def test_the_masks_of_instances_and_overlays_are_passed_over(tmp_path: Path) -> None:
    for i in range(4):
        for kind, array in (
            ("images", photo(i)),
            ("labels", label(i)),
            ("instances", label(i) * 9),
            ("overlay", photo(i)),
        ):
            save(tmp_path / kind / f"{i}.png", array)
    fields = guess_layout(tmp_path).fields
    assert (fields["images"], fields["masks"]) == ("images/{name}", "labels/{name}")


@pytest.mark.parametrize(
    "value", ["yes", "a b", "{split}/x", "#5", "ü", "1", "null", "a: b", "-", "- a", "it's", 'a"b', "", "Off", "x #y"]
)
def test_what_is_written_is_read_back(value: str, tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text(f"{yaml_word(value)}: [{yaml_word(value)}, 1]\n", encoding="utf-8")
    assert read_yaml(file) == {value: [value, 1]}


def test_words_of_splits() -> None:
    assert [split_of(w) for w in ("train2017", "instances_val2017", "valid", "default", "trainval", "contest")] == [
        "train", "val", "val", None, None, None,
    ]  # fmt: skip


def test_groups_of_names() -> None:
    assert guess_group([f"a{i}" for i in range(20)]) is None
    assert guess_group([f"x/v{i // 5}_{i}" for i in range(20)]) == (r"^(.*\D)\d+$", 4)
    assert guess_group([f"v{i // 5}/{i}" for i in range(20)]) == ("folder", 4)
    assert guess_group([f"{i:06x}" for i in range(20)]) is None


def test_data_is_named_by_the_path_of_its_description(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trees.binary(tmp_path / "my photos")
    assert CliRunner().invoke(app, ["data", "init", str(tmp_path / "my photos")]).exit_code == 0
    monkeypatch.chdir(tmp_path)
    for word in ("my photos/dataset.yaml", "./my photos", "my photos", str(tmp_path / "my photos/dataset.yaml")):
        assert located(word) == ("folder", tmp_path / "my photos")
    assert located("shapes[size=96]", tmp_path) == ("shapes[size=96]", tmp_path)
    (tmp_path / "my photos/dataset.yaml").rename(tmp_path / "my photos/second.yaml")
    data = open_dataset("my photos/second.yaml")
    assert data.params.model_dump() == {"file": "second.yaml", "name": "my photos"}
    with pytest.raises(HarnessError, match="harness data init"):
        located("elsewhere/dataset.yaml")


def test_a_root_without_a_description_is_told_how_to_write_one(tmp_path: Path) -> None:
    with pytest.raises(HarnessError, match="harness data init"):
        open_dataset("folder", tmp_path)


def test_a_sweep_is_planned_from_the_path_alone(tmp_path: Path) -> None:
    import harness

    trees.binary(tmp_path / "x")
    assert CliRunner().invoke(app, ["data", "init", str(tmp_path / "x")]).exit_code == 0
    planned = harness.plan("none", dataset=str(tmp_path / "x/dataset.yaml"), weights="random", workspace=tmp_path / "w")
    (node,) = planned.plan.nodes.values()
    assert node.spec.dataset.label == "folder[name=x]" and node.cell.recipe.startswith("small-")
    assert planned.options.data_root == tmp_path / "x"


def test_jpeg_masks_are_read_by_the_nearest_value_and_said_to_be_unsure(tmp_path: Path) -> None:
    """Kvasir-SEG's layout."""
    for i in range(5):
        save(tmp_path / f"images/cju{i}.jpg", photo(i))
        save(tmp_path / f"masks/cju{i}.jpg", (label(i) == 1).astype(np.uint8) * 255, quality=90)
    text = yaml_text(guess_layout(tmp_path))
    assert "UNSURE: masks are JPEG" in text
    write(tmp_path / "dataset.yaml", text)
    data = open_dataset("folder", tmp_path)
    assert data.check() == [] and data.classes == ("background", "foreground")
    for sample in data.split("train"):
        assert (sample.label == (label(int(sample.name[3:])) == 1)).mean() > 0.98


def test_a_description_may_lie_elsewhere(tmp_path: Path) -> None:
    trees.binary(tmp_path / "data")
    (tmp_path / "home").mkdir()
    file = tmp_path / "home/mine.yaml"
    assert run(["data", "init", str(tmp_path / "data"), "--out", str(file)]) == 0
    assert not (tmp_path / "data/dataset.yaml").exists()
    elsewhere = parse_dataset(str(file))
    assert run(["data", "init", str(tmp_path / "data")]) == 0
    beside = parse_dataset(str(tmp_path / "data/dataset.yaml"))
    assert elsewhere.manifest == beside.manifest and elsewhere.params["name"] == beside.params["name"] == "data"
    assert open_dataset(str(file)).check() == []
    file.write_text(file.read_text().replace("/data", "/gone"))
    with pytest.raises(HarnessError, match="there is no folder"):
        open_dataset(str(file))


def test_equal_names_in_two_splits_of_coco_are_told_apart(tmp_path: Path) -> None:
    trees.coco_roboflow(tmp_path)
    for i in range(2):
        (tmp_path / f"valid/{i + 4:012d}.jpg").rename(tmp_path / f"valid/{i:012d}.jpg")
    file = tmp_path / "valid/_annotations.coco.json"
    data = json.loads(file.read_text())
    for image in data["images"]:
        image["file_name"] = f"{int(image['file_name'][:-4]) - 4:012d}.jpg"
    data["categories"].append({"id": 0, "name": "street-things", "supercategory": "none"})
    file.write_text(json.dumps(data))
    train = tmp_path / "train/_annotations.coco.json"
    more = json.loads(train.read_text())
    more["categories"] = [{**c, "supercategory": "street-things"} for c in more["categories"]]
    more["categories"].append({"id": 0, "name": "street-things", "supercategory": "none"})
    train.write_text(json.dumps(more))
    text = yaml_text(guess_layout(tmp_path))
    assert "skipped 'street-things'" in text
    write(tmp_path / "dataset.yaml", text)
    dataset = open_dataset("folder", tmp_path)
    assert dataset.check() == [] and dataset.classes == trees.NAMES
    assert np.array_equal(dataset.split("val")[0].image.shape, photo(4).shape)
    assert not np.array_equal(dataset.split("train")[0].image, dataset.split("val")[0].image)


def test_a_set_of_the_field_is_recognised(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trees.segnet(tmp_path / "a")
    assert run(["data", "init", str(tmp_path / "a")]) == 0
    said = capsys.readouterr().out
    assert "this may be the data set 'camvid'" in said and "367 train, 101 val" in said
    assert "of its 11 classes occur in them. Another data set may look like that too" in said
    trees.voc(tmp_path / "b")
    assert run(["data", "init", str(tmp_path / "b"), "--out", str(tmp_path / "elsewhere/b.yaml")]) == 0
    assert f"--dataset voc --data-root {tmp_path / 'b'}" in capsys.readouterr().out
    trees.cvat(tmp_path / "c")
    assert run(["data", "init", str(tmp_path / "c")]) == 0
    assert "may be the data set" not in capsys.readouterr().out


@pytest.mark.parametrize(("values", "fits"), [((3, 10), True), ((3, 40), False), ((11, 255), False)])
def test_a_set_of_the_field_is_known_by_its_labels_too(values: tuple[int, int], fits: bool, tmp_path: Path) -> None:
    """40 is no value of CamVid's; 11 and 255 are void."""
    trees.segnet(tmp_path)
    for file in tmp_path.glob("*annot/*"):
        save(file, np.resize(np.array(values, np.uint8), np.array(Image.open(file)).shape))
    found = recognised(tmp_path)
    assert [(known.word, known.classes, known.found) for known in found] == ([("camvid", 11, 2)] if fits else [])


def test_a_folder_with_other_classes_is_no_set_of_the_field(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trees.segnet(tmp_path)
    write(tmp_path / "classes.csv", "name,value\n" + "\n".join(f"organ {i},{i}" for i in range(12)) + "\n")
    assert run(["data", "init", str(tmp_path)]) == 0
    assert "may be the data set" not in capsys.readouterr().out


def test_a_set_of_the_field_that_no_layout_describes_is_named_in_the_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for split in ("train", "test"):
        save(tmp_path / f"images/{split}.jpg", photo(0))
        write(tmp_path / f"imageLists/{split}.txt", f"{split}\n")
        (tmp_path / "annotations").mkdir(exist_ok=True)
        savemat(tmp_path / f"annotations/{split}.mat", {"S": label(0)})
    assert run(["data", "init", str(tmp_path)]) == 2
    assert "--dataset 'coco_stuff[version=10k]'" in capsys.readouterr().err


@pytest.mark.parametrize("mask", ["masks/{name}", "masks/{name}_mask", "masks/{name}_L"])
def test_names_of_frames_and_recordings_are_no_suffixes(mask: str, tmp_path: Path) -> None:
    """`Seq05VD_f00540` and `clip1_frame0002` hold an underscore, letters and a counter of their own."""
    names = [f"Seq0{v}VD_f{i:05d}" for v in range(3) for i in range(3)]
    names += [f"clip{v}_frame{i:04d}" for v in range(3) for i in range(3)]
    for i, name in enumerate(names):
        save(tmp_path / f"images/{name}.jpg", photo(i))
        save(tmp_path / (mask.format(name=name) + ".png"), label(i))
    guess = guess_layout(tmp_path)
    assert guess.fields["images"] == "images/{name}" and guess.fields["masks"] == mask
    assert "unmatched" not in guess.fields and guess.fields["group"] == r"^(.*\D)\d+$"


def test_a_class_called_void_counts_for_nothing(tmp_path: Path) -> None:
    for i in range(4):
        save(tmp_path / f"images/{i}.jpg", photo(i))
        save(tmp_path / f"masks/{i}.png", trees.colours(label(i)))
    lines = [f"{name},{r},{g},{b}" for name, (r, g, b) in zip(("Void", *trees.NAMES[1:]), trees.COLOURS, strict=True)]
    write(tmp_path / "class_dict.csv", "\n".join(["name,r,g,b", *lines]))
    guess = guess_layout(tmp_path)
    assert guess.fields["ignore"] == ["Void"] and "Void" in guess.unsure["ignore"][0]


def test_the_largest_16_bit_value_is_no_class(tmp_path: Path) -> None:
    for i in range(4):
        save(tmp_path / f"images/{i}.jpg", photo(i))
        save(tmp_path / f"masks/{i}.png", np.where(label(i) == 3, 65535, label(i).astype(np.uint16) * 300))
    guess = guess_layout(tmp_path)
    assert guess.fields["ignore"] == [65535] and list(guess.fields["classes"].values()) == [0, 300, 600]


def test_numbered_labels_of_labelme_become_one_class(tmp_path: Path) -> None:
    """As in Labelme's own example of instances, before it had `group_id`."""
    square = [[2, 2], [12, 2], [12, 12], [2, 12]]
    for i in range(3):
        save(tmp_path / f"{i}.jpg", photo(i))
        shapes = [{"label": name, "points": square} for name in ("person-1", "person-2", "sofa", "wing-747")]
        write(tmp_path / f"{i}.json", json.dumps({"shapes": shapes, "imagePath": f"{i}.jpg", "imageData": None}))
    guess = guess_layout(tmp_path)
    write(tmp_path / "dataset.yaml", yaml_text(guess))
    assert guess.fields["merge"] == {"person": ["person-1", "person-2"]}
    assert open_dataset("folder", tmp_path).classes == ("background", "person", "sofa", "wing-747")
