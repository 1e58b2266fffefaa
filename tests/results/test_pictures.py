"""Sample predictions: which are found, none from outside the workspace, and where two differ."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from results.pictures import (
    BOTH_RIGHT,
    BOTH_WRONG,
    COLOURS,
    GAINED,
    IGNORE,
    INDEX,
    LOST,
    VOID,
    classes_at,
    coloured,
    difference_map,
    pictures,
    side_by_side,
)
from tests.results.factory import Fake


def test_the_fixed_ones_come_first(tmp_path: Path) -> None:
    key = Fake("ka").write(tmp_path, samples=3).name
    found = pictures(tmp_path, key)
    assert [(name, one.why) for name, (_, one) in found.items()] == [
        ("image000", "fixed"),
        ("image001", "fixed"),
        ("image002", "worst"),
    ]
    folder, first = found["image000"]
    assert classes_at(folder / first.label).shape == (96, 96) and classes_at(folder / first.prediction).max() < 6
    assert side_by_side(tmp_path, key) == []


def test_nothing_is_read_from_outside_the_workspace(tmp_path: Path) -> None:
    home, outside = tmp_path / "home", tmp_path / "outside"
    key = Fake("ka").write(home, samples=2).name
    other = Fake("kd").write(outside, samples=2)
    samples = home / "stages" / key / "samples"
    (samples / "000001.label.png").unlink()
    (samples / "000001.label.png").symlink_to(other / "samples" / "000001.label.png")
    assert list(pictures(home, key)) == ["image000"]
    (home / "stages" / "linked").symlink_to(other)
    for wicked in ("linked", f"../../outside/stages/{other.name}", str(other), "nobody", "..", ""):
        assert pictures(home, wicked) == {} and side_by_side(home, wicked) == []


@pytest.mark.parametrize(
    "index",
    [
        "{",
        "[]",
        '{"classes": [], "pictures": [{"name": "x", "file": "../../../secret", "why": "fixed"}]}',
        '{"classes": [], "pictures": [{"name": "x", "file": "000000", "why": "other"}]}',
    ],
)
def test_an_index_that_is_none_shows_nothing(tmp_path: Path, index: str) -> None:
    folder = Fake("ka").write(tmp_path, samples=1)
    (folder / "samples" / INDEX).write_text(index)
    assert pictures(tmp_path, folder.name) == {}


def test_a_picture_without_its_files_is_left_out(tmp_path: Path) -> None:
    folder = Fake("ka").write(tmp_path, samples=2)
    (folder / "samples" / "000000.prediction.png").unlink()
    assert list(pictures(tmp_path, folder.name)) == ["image001"]
    assert json.loads((folder / "samples" / INDEX).read_text())["classes"]


def test_pictures_of_older_runs_are_side_by_side(tmp_path: Path) -> None:
    folder = Fake("ka").write(tmp_path)
    (folder / "samples").mkdir()
    Image.new("RGB", (9, 3)).save(folder / "samples" / "image000.png")
    assert [path.name for path in side_by_side(tmp_path, folder.name)] == ["image000.png"]
    with pytest.raises(ValueError, match="colours, not classes"):
        classes_at(folder / "samples" / "image000.png")
    (folder / "samples" / "image000.png").write_bytes(b"no picture")
    with pytest.raises(ValueError, match="cannot be read"):
        classes_at(folder / "samples" / "image000.png")


def test_a_difference_map_says_who_is_right() -> None:
    label = np.array([[0, 1, 2, 3, IGNORE]], np.uint8)
    ours = np.array([[0, 1, 0, 0, 0]], np.uint8)
    theirs = np.array([[0, 0, 2, 1, 1]], np.uint8)
    found = difference_map(label, ours, theirs)
    assert found.tolist() == [[BOTH_RIGHT, GAINED, LOST, BOTH_WRONG, VOID]]
    assert coloured(found)[0, 1].tolist() == list(COLOURS[GAINED]) and coloured(found).shape == (1, 5, 3)
    with pytest.raises(ValueError, match="cannot be compared"):
        difference_map(label, ours, theirs[:, :3])
