"""Every layout: `harness data init` guesses it, and every pixel of every label comes out right."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from harness.builders.datasets import open_dataset, parse_dataset
from harness.cli.app import app
from tests.harness.data.folder.trees import LAYOUTS


def init(root: Path) -> str:
    result = CliRunner().invoke(app, ["data", "init", str(root)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return (root / "dataset.yaml").read_text(encoding="utf-8")


@pytest.mark.parametrize("layout", LAYOUTS)
def test_what_is_guessed_is_read_rightly(layout: str, tmp_path: Path) -> None:
    root = tmp_path / "my data"
    expected = LAYOUTS[layout](root)
    text = init(root)
    data = open_dataset(str(root / "dataset.yaml"))
    assert data.check() == [], text
    if expected.classes:
        assert data.classes == expected.classes, text
    assert data.splits[0] == "train" and len(data.splits) >= 2
    seen: dict[str, np.ndarray] = {}
    for split in data.splits:
        names = list(data.split(split).names)
        if expected.splits is not None:
            assert names == expected.splits[split], text
        for sample in data.split(split):
            assert sample.image.shape[:2] == sample.label.shape
            seen[sample.name] = sample.label
    assert sorted(seen) == sorted(expected.labels), text
    for name, label in seen.items():
        np.testing.assert_array_equal(label, expected.labels[name], err_msg=f"{name}\n{text}")


@pytest.mark.parametrize(
    "layout", ["split_then_kind", "cvat", "yolo", "coco", "labelme_embedded", "label_studio_coded"]
)
def test_splits_travel_to_loader_processes(layout: str, tmp_path: Path) -> None:
    LAYOUTS[layout](tmp_path)
    init(tmp_path)
    split = open_dataset(str(tmp_path / "dataset.yaml")).split("train")
    again = pickle.loads(pickle.dumps(split))  # noqa: S301
    assert np.array_equal(again[0].label, split[0].label) and len(again) == len(split)


@pytest.mark.parametrize("layout", ["split_then_kind", "yolo", "coco", "label_studio"])
def test_the_key_is_that_of_the_content_wherever_it_lies(layout: str, tmp_path: Path) -> None:
    for place in ("one", "two"):
        root = tmp_path / place / "data"
        LAYOUTS[layout](root)
        text = init(root)
        assert str(tmp_path) not in text
    first, second = (parse_dataset(str(tmp_path / place / "data/dataset.yaml")) for place in ("one", "two"))
    assert first == second and first.label == "folder[name=data]"
    picture = sorted((tmp_path / "two").rglob("*.jpg"))[0]
    picture.write_bytes(picture.read_bytes() + b"\0")
    assert parse_dataset(str(tmp_path / "two/data/dataset.yaml")).manifest != first.manifest
