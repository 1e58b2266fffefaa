"""What is no regular file in a folder of data: never opened, and named."""

from __future__ import annotations

import os
import re
import socket
from pathlib import Path

import pytest

import harness.data
from harness.builders.datasets import open_dataset, parse_dataset
from harness.data.folder.config import load_config
from harness.data.folder.guess import yaml_text
from harness.data.folder.guess_layout import guess_layout
from harness.errors import HarnessError
from harness.specs.yaml_files import InvalidYaml, read_yaml
from tests.harness.data.folder import trees
from tests.harness.data.folder.trees import label, photo, save, write

KINDS = {"pipe": "is a named pipe", "socket": "is a socket", "device": "is a device", "link to nothing": "is a link to"}


def place(kind: str, at: Path) -> None:
    """A pipe without a writer, a socket, a device that never ends, or a link to nothing."""
    at.unlink(missing_ok=True)
    if kind == "pipe":
        os.mkfifo(at)
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as bound:
            descriptor = os.open(at.parent, os.O_RDONLY)
            bound.bind(f"/proc/self/fd/{descriptor}/{at.name}")  # the path of a socket must be short
            os.close(descriptor)
    else:
        at.symlink_to("/dev/zero" if kind == "device" else "/nowhere/at/all")


def masks(root: Path) -> None:
    for i in range(6):
        save(root / f"images/{i}.png", photo(i))
        save(root / f"masks/{i}.png", label(i))


@pytest.mark.parametrize("file", ["images/3.png", "masks/3.png"])
@pytest.mark.parametrize("kind", KINDS)
def test_pictures_that_are_no_files_are_named(kind: str, file: str, tmp_path: Path) -> None:
    masks(tmp_path)
    place(kind, tmp_path / file)
    write(tmp_path / "dataset.yaml", yaml_text(guess_layout(tmp_path)))
    (problem,) = open_dataset("folder", tmp_path).check()
    assert problem.file == str(tmp_path / file) and KINDS[kind] in problem.what
    with pytest.raises(HarnessError, match=KINDS[kind]):
        parse_dataset("folder", tmp_path)


@pytest.mark.parametrize("kind", KINDS)
def test_other_files_that_are_none_stop_no_guess(kind: str, tmp_path: Path) -> None:
    masks(tmp_path)
    for name in ("data.yaml", "extra.json", "classes.csv", "train.txt", "val.txt", "labelmap.txt"):
        place(kind, tmp_path / name)
    assert guess_layout(tmp_path).fields["images"] == "images/{name}"


@pytest.mark.parametrize("layout", ["coco", "yolo", "labelme", "label_studio"])
def test_annotations_that_are_no_files_are_named(layout: str, tmp_path: Path) -> None:
    getattr(trees, layout)(tmp_path)
    write(tmp_path / "dataset.yaml", yaml_text(guess_layout(tmp_path)))
    named = load_config(tmp_path / "dataset.yaml").annotations
    pattern = named["train"] if isinstance(named, dict) else re.sub(r"\{\w+\}", "*", named)
    file = sorted(tmp_path.glob(pattern))[0]
    place("pipe", file)
    with pytest.raises(HarnessError, match=f"^{re.escape(str(file))}: is a named pipe"):
        parse_dataset("folder", tmp_path)


def test_a_folder_named_like_a_picture_is_named(tmp_path: Path) -> None:
    for split in ("train", "val", "test"):
        save(tmp_path / f"{split}/a.png", photo(0))
        (tmp_path / f"{split}annot/a.png").mkdir(parents=True)
    assert all("is a folder, not a file" in problem.what for problem in open_dataset("camvid", tmp_path).check())


def test_a_description_that_never_ends_is_refused() -> None:
    with pytest.raises(InvalidYaml, match="larger than 16 MiB"):
        read_yaml(Path("/dev/zero"))


def test_data_is_read_by_one_module() -> None:
    """All others would have to refuse pipes and devices on their own."""
    opens = re.compile(r"\.read_(?:text|bytes)\(|(?<!regular_file\(tree\.path\(file\)\))\.open\(\"r")
    own = {"files.py", "digests.py", "report.py"}  # the last two read what the harness wrote, or what files.py let pass
    files = [file for file in Path(harness.data.__path__[0]).rglob("*.py") if file.name not in own]
    assert len(files) > 30
    assert [file.name for file in files if opens.search(file.read_text())] == []
