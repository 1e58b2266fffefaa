"""Decoded samples out of one file: the same bits, found by content, and left alone when something is amiss."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from harness.builders.datasets import open_dataset, parse_dataset
from harness.cli.app import run
from harness.data.decoded import DecodedSplit, bytes_of, decoded, keep, place_of
from harness.data.loading import training_loader
from harness.errors import HarnessError
from harness.specs.spec import Recipe
from harness.training.prefetch import on_device
from tests.harness.data.folder.trees import LAYOUTS

MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)
RECIPE = Recipe(crop=(24, 32), batch_size=3, iterations=4)


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of pictures of several sizes, and a place for what is decoded."""
    monkeypatch.setenv("HARNESS_DECODED", str(tmp_path / "fast"))
    folder = tmp_path / "data"
    LAYOUTS["split_then_kind"](folder)
    assert run(["data", "init", str(folder)]) == 0
    return folder / "dataset.yaml"


def test_batches_of_decoded_samples_are_bit_for_bit_the_same(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["data", "cache", str(root), "--size"]) == 0
    split, spec = open_dataset(str(root)).split("train"), parse_dataset(str(root))
    assert decoded(split, spec, "train") is split
    assert run(["data", "cache", str(root)]) == 0
    place = place_of(spec, "train")
    assert place is not None and place.data.stat().st_size == bytes_of(split)
    assert f"{len(split)} samples decoded take" in capsys.readouterr().out
    kept = pickle.loads(pickle.dumps(decoded(split, spec, "train")))  # noqa: S301
    assert isinstance(kept, DecodedSplit) and list(kept.names) == list(split.names)
    assert len({sample.label.shape for sample in split}) > 1
    loaders = [training_loader(s, RECIPE, MEAN, STD, 7, workers=w) for s, w in ((split, 0), (kept, 0), (kept, 2))]
    for one, *others in zip(*loaders, strict=True):
        for other in others:
            assert one.names == other.names
            assert torch.equal(one.images, other.images) and torch.equal(one.labels, other.labels)
    assert run(["data", "cache", str(root)]) == 0
    assert "they are there already" in capsys.readouterr().out


def test_changed_files_are_decoded_anew_and_what_is_damaged_is_left_alone(root: Path) -> None:
    assert run(["data", "cache", str(root)]) == 0
    split, spec = open_dataset(str(root)).split("train"), parse_dataset(str(root))
    place = place_of(spec, "train")
    assert place is not None and decoded(split, spec, "train") is not split
    assert decoded(split, spec, "val") is split
    place.data.write_bytes(place.data.read_bytes()[:-1])
    assert decoded(split, spec, "train") is split
    assert run(["data", "cache", str(root)]) == 0
    content = bytearray(place.data.read_bytes())
    content[5] ^= 1
    place.data.write_bytes(content)
    kept = decoded(split, spec, "train")
    assert isinstance(kept, DecodedSplit)
    assert all(np.array_equal(one.image, other.image) for one, other in zip(kept, split, strict=True))
    np.save(place.index, np.load(place.index)[:, :2])
    assert decoded(split, spec, "train") is split
    picture = sorted(root.parent.rglob("*.jpg"))[0]
    picture.write_bytes(picture.read_bytes() + b"\0")
    assert place_of(parse_dataset(str(root)), "train") != place


def test_a_disk_without_room_is_told_before_anything_is_decoded(root: Path) -> None:
    split, place = open_dataset(str(root)).split("train"), place_of(parse_dataset(str(root)), "train")
    assert place is not None
    with pytest.raises(HarnessError, match="GB are needed, and"):
        keep(split, place, 1 << 60)
    assert list(place.data.parent.iterdir()) == []


def test_batches_arrive_on_the_device_in_their_order() -> None:
    """On a CPU nothing is fetched ahead; on a GPU the same batches come."""
    split = open_dataset("shapes[size=32,train=12,val=3,test=4]").split("train")
    wanted = list(training_loader(split, RECIPE, MEAN, STD, 1))
    devices = [torch.device("cpu"), *([torch.device("cuda")] if torch.cuda.is_available() else [])]
    for device in devices:
        found = list(on_device(training_loader(split, RECIPE, MEAN, STD, 1, device=device), device))
        assert [batch.names for batch in found] == [batch.names for batch in wanted]
        for one, other in zip(found, wanted, strict=True):
            assert one.images.device.type == device.type
            assert torch.equal(one.images.cpu(), other.images) and torch.equal(one.labels.cpu(), other.labels)
    assert np.unique([batch.images.sum().item() for batch in wanted]).size == len(wanted)
