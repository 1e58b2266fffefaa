"""The data sets themselves: shapes, camvid, and how they are named, opened and checked."""

from __future__ import annotations

import itertools
import json
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import typer
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from typer.testing import CliRunner

from harness.builders.datasets import open_dataset, parse_dataset, split_word
from harness.cli.data import data_check
from harness.cli.datasets import datasets
from harness.data.base import IGNORE, DataParams, Dataset
from harness.data.sets.camvid import CamVid
from harness.data.sets.shapes import Shapes, ShapesParams, generate
from harness.errors import HarnessError
from harness.plugins.registries import DATASETS
from harness.specs.spec import DatasetSpec

# ---------------------------------------------------------------------------------------------------- shapes


def test_a_sample_depends_on_its_place_alone() -> None:
    forwards, backwards = Shapes(ShapesParams()).split("val"), Shapes(ShapesParams()).split("val")
    for i in reversed(range(8)):
        assert backwards[i].name == f"val-{i:05d}"
    for i in range(8):
        assert np.array_equal(forwards[i].image, backwards[i].image)
        assert np.array_equal(forwards[i].label, backwards[i].label)


def test_more_samples_leave_the_first_ones_as_they_are() -> None:
    few, many = Shapes(ShapesParams(train=4)).split("train"), Shapes(ShapesParams(train=40)).split("train")
    assert all(np.array_equal(few[i].image, many[i].image) for i in range(4))


@pytest.mark.parametrize("other", [{"seed": 1}, {"noise": 0.2}])
def test_other_parameters_other_pictures(other: dict[str, float]) -> None:
    plain, changed = Shapes(ShapesParams()), Shapes(ShapesParams(**other))  # type: ignore[arg-type]
    assert not np.array_equal(plain.split("test")[0].image, changed.split("test")[0].image)
    assert plain.manifest() != changed.manifest()


def test_splits_share_no_picture() -> None:
    data = Shapes(ShapesParams(train=20, val=20, test=20))
    pictures = [sample.image.tobytes() for name in data.splits for sample in data.split(name)]
    assert len(set(pictures)) == 60


def test_all_classes_and_a_little_void_are_there() -> None:
    data = Shapes(ShapesParams(train=60))
    labels = np.concatenate([sample.label.ravel() for sample in data.split("train")])
    share = np.bincount(labels, minlength=256) / labels.size
    assert (share[: len(data.classes)] > 0.01).all(), dict(zip(data.classes, share))
    assert 0.001 < share[IGNORE] < 0.05
    assert share[: len(data.classes)].sum() + share[IGNORE] == pytest.approx(1)


def test_poles_are_thin_and_regions_large() -> None:
    """The median run of a class along a row: what makes a coarse map lose poles and keep the ground."""
    data = Shapes(ShapesParams(train=40))
    runs: dict[int, list[int]] = {data.classes.index("pole"): [], data.classes.index("ground"): []}
    for sample in data.split("train"):
        for row in sample.label[10:]:
            starts = np.flatnonzero(np.diff(row, prepend=300, append=300))
            for begin, end in itertools.pairwise(starts):
                runs.get(int(row[begin]), []).append(end - begin)
    pole, ground = runs.values()
    assert np.median(pole) <= 3 and np.median(ground) >= 8


def test_water_cannot_be_told_from_sky_by_its_colour() -> None:
    data = Shapes(ShapesParams(train=60))
    sky, water = data.classes.index("sky"), data.classes.index("water")
    means: dict[int, list[np.ndarray]] = {sky: [], water: []}
    for sample in data.split("train"):
        for cls, found in means.items():
            if (sample.label == cls).sum() > 50:
                found.append(sample.image[sample.label == cls].mean(0))
    a, b = np.array(means[sky]), np.array(means[water])
    assert (np.abs(a.mean(0) - b.mean(0)) < 0.75 * a.std(0)).all()


@given(height=st.integers(32, 200), width=st.integers(32, 200), seed=st.integers(0, 2**40))
@settings(deadline=None, max_examples=15)
def test_any_size_will_do(height: int, width: int, seed: int) -> None:
    image, label = generate((seed,), height, width, 0.05, 0.25)
    assert image.shape == (height, width, 3) and image.dtype == np.uint8
    assert label.shape == (height, width) and label.dtype == np.uint8
    assert set(np.unique(label)) <= {*range(8), IGNORE}


def test_labels_are_the_ones_that_version_1_has_always_made() -> None:
    """A change of the generator, or of NumPy's streams, must raise VERSION: rows of old pictures are not comparable."""
    from hashlib import sha256

    samples = [generate((1, 0, split, i), 64, 80, 0.04, 0.25) for split in range(3) for i in range(5)]
    assert sha256(b"".join(label.tobytes() for _, label in samples)).hexdigest()[:16] == "a074c277d73eaefb"
    assert sha256(b"".join(image.tobytes() for image, _ in samples)).hexdigest()[:16] == "c753e5c459a2303e"


def test_a_split_travels_without_its_cache() -> None:
    split = Shapes(ShapesParams(train=50)).split("train")
    expected = [sample.image for sample in split]
    packed = pickle.dumps(split)
    assert len(packed) < 5_000
    assert all(np.array_equal(a, b.image) for a, b in zip(expected, pickle.loads(packed)))  # noqa: S301


def test_the_cache_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.data.sets.shapes._CACHE_BYTES", 10 * 64 * 64 * 4)
    split = Shapes(ShapesParams(train=30)).split("train")
    assert len(list(split)) == 30
    assert len(split._cache) == 10
    assert split[29] is split[29] and split[-1] is split[29]


def test_indices_outside_are_errors() -> None:
    split = Shapes(ShapesParams(val=3)).split("val")
    with pytest.raises(IndexError):
        split[3]
    with pytest.raises(HarnessError, match=r"no split 'tset'.*did you mean test"):
        Shapes(ShapesParams()).split("tset")


# ---------------------------------------------------------------------------------------------------- access


def test_parameters_that_are_defaults_are_left_out() -> None:
    assert parse_dataset("shapes[size=64, train=400]") == parse_dataset("shapes")
    spec = parse_dataset("shapes[train=20,size=96]")
    assert spec.params == {"size": 96, "train": 20} and spec.label == "shapes[size=96,train=20]"
    assert parse_dataset(spec.label) == spec
    assert spec.manifest != parse_dataset("shapes").manifest and len(spec.manifest) == 64


def test_a_spec_opens_what_it_was_parsed_from() -> None:
    spec = parse_dataset("shapes[height=48,width=72]")
    dataset = open_dataset(DatasetSpec.model_validate_json(spec.model_dump_json()))
    assert dataset.eval_size == (48, 72) and dataset.split("val")[0].image.shape == (48, 72, 3)


@pytest.mark.parametrize(
    ("word", "sentence"),
    [
        ("shpaes", "there is no data set 'shpaes' .*did you mean shapes"),
        ("shapes[siez=3]", "data set 'shapes' has no parameter 'siez' .*did you mean size"),
        ("shapes[size=3]", "parameter 'size' = '3': input should be greater than or equal to 32"),
        ("shapes[size=big]", "parameter 'size' = 'big': input should be a valid integer"),
        ("shapes[size]", "'size' in 'shapes\\[size\\]' is not parameter=value"),
        ("shapes[size=64,size=96]", "parameter 'size' is given twice"),
        ("shapes[size=64", "'shapes\\[size=64' is not a data set"),
        ("", "'' is not a data set"),
        ("camvid", "data set 'camvid' needs a folder .*--data-root.*HARNESS_DATA"),
    ],
)
def test_wrong_words_get_a_sentence(word: str, sentence: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HARNESS_DATA", raising=False)
    with pytest.raises(HarnessError, match=sentence):
        parse_dataset(word)


@given(st.dictionaries(st.from_regex(r"[a-z]{1,6}", fullmatch=True), st.integers(0, 99).map(str), max_size=4))
@settings(deadline=None, max_examples=25)
def test_words_are_read_back(params: dict[str, str]) -> None:
    word = f"name[{' , '.join(f'{k} = {v}' for k, v in params.items())}]"
    assert split_word(word) == ("name", params)


def test_folders_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(HarnessError, match="is not a folder"):
        open_dataset("camvid", tmp_path / "nowhere")
    with pytest.raises(HarnessError, match="does not contain data set 'camvid'"):
        parse_dataset("camvid", tmp_path)


@pytest.mark.parametrize("entry", list(DATASETS), ids=lambda entry: entry.name)
def test_every_registered_data_set_keeps_the_contract(entry: object) -> None:
    cls: type[Dataset] = entry.cls  # type: ignore[attr-defined]
    dataset = cls(cls.Params())
    assert len(cls.classes) == len(cls.palette) == len(set(cls.classes)) >= 2
    assert len(set(cls.palette)) == len(cls.palette)
    assert {"train", "val"} <= set(dataset.splits) and dataset.splits[-1] != "train"
    assert cls.weights in ("imagenet", "random") and cls.summary
    assert min(dataset.eval_size) >= 32


# ---------------------------------------------------------------------------------------- files and their faults


def make_camvid(root: Path, size: tuple[int, int] = (12, 16)) -> Path:
    """A small data set in CamVid's layout."""
    rng = np.random.default_rng(0)
    for split, count in (("train", 4), ("val", 2), ("test", 3)):
        (root / split).mkdir(parents=True)
        (root / f"{split}annot").mkdir()
        for i in range(count):
            Image.fromarray(rng.integers(0, 256, (*size, 3), np.uint8)).save(root / split / f"{split}{i}.jpg")
            label = rng.integers(0, 12, size, np.uint8)
            Image.fromarray(label).save(root / f"{split}annot" / f"{split}{i}.png")
    return root


def problems(root: Path, full: bool = True) -> list[tuple[str, str]]:
    found = CamVid(DataParams(), root).check(full)
    return [(str(Path(p.file).relative_to(root.resolve())), p.what) for p in found]


def test_a_sound_folder_has_no_problems_whichever_way_it_is_named(tmp_path: Path) -> None:
    root = make_camvid(tmp_path / "camvid")
    assert problems(root) == []
    above, itself = parse_dataset("camvid", tmp_path), parse_dataset("camvid", root)
    assert above == itself
    split = open_dataset(itself, root).split("train")
    assert len(split) == 4 and split.names[0] == "train0"
    stored = np.array(Image.open(root / "trainannot" / "train0.png"))
    assert np.array_equal(split[0].label, np.where(stored == 11, IGNORE, stored))


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def put(file: Path, values: np.ndarray) -> None:
    Image.fromarray(values).save(file)


@pytest.mark.parametrize(
    ("harm", "file", "what", "quick"),
    [
        (lambda r: cut(r / "train/train1.jpg"), "train/train1.jpg", "cannot be decoded", False),
        (lambda r: cut(r / "valannot/val1.png"), "valannot/val1.png", "cannot be decoded", False),
        (lambda r: (r / "test/test2.jpg").write_bytes(b""), "test/test2.jpg", "is an empty file", False),
        (lambda r: (r / "test/test2.jpg").write_text("no"), "test/test2.jpg", "is not a picture", False),
        (lambda r: (r / "trainannot/train0.png").unlink(), "train/train0.jpg", "has no label in trainannot/", True),
        (lambda r: (r / "train/train0.jpg").unlink(), "trainannot/train0.png", "has no image in train/", True),
        (
            lambda r: put(r / "testannot/test0.png", np.full((12, 16), 99, np.uint8)),
            "testannot/test0.png",
            "label values out of range: 99 in 192 pixels (expected 0 to 10, or 11 or 255 for void)",
            False,
        ),
        (
            lambda r: put(r / "testannot/test0.png", np.zeros((12, 16, 3), np.uint8)),
            "testannot/test0.png",
            "mode RGB",
            False,
        ),
        (
            lambda r: put(r / "testannot/test0.png", np.zeros((12, 15), np.uint8)),
            "testannot/test0.png",
            "15x12 pixels, but test0.jpg has 16x12",
            False,
        ),
        (
            lambda r: put(r / "train/train0.png", np.zeros((12, 16, 3), np.uint8)),
            "train/train0.png",
            "another picture has the same name",
            True,
        ),
    ],
)
def test_a_fault_is_named_with_its_file(tmp_path: Path, harm: object, file: str, what: str, quick: bool) -> None:
    root = make_camvid(tmp_path)
    harm(root)  # type: ignore[operator]
    found = problems(root)
    assert len(found) == 1 and found[0][0] == file and what in found[0][1]
    assert bool(problems(root, full=False)) == quick


@pytest.mark.parametrize("folder", ["val", "valannot"])
def test_missing_and_empty_folders_are_named(tmp_path: Path, folder: str) -> None:
    root = make_camvid(tmp_path)
    for file in (root / folder).iterdir():
        file.unlink()
    assert any(file in ("val", "valannot/val0.png", "val/val0.jpg") for file, _ in problems(root, full=False))
    (root / folder).rmdir()
    assert (folder, "folder is missing") in problems(root, full=False)


def test_reading_a_broken_sample_names_it(tmp_path: Path) -> None:
    root = make_camvid(tmp_path)
    put(root / "trainannot/train2.png", np.full((12, 16), 42, np.uint8))
    split = CamVid(DataParams(), root).split("train")
    with pytest.raises(HarnessError, match=r"train2.png: label values out of range: 42"):
        split[2]
    assert split[1].label.shape == (12, 16)


def test_the_manifest_knows_every_byte_and_every_name(tmp_path: Path) -> None:
    root = make_camvid(tmp_path)
    data = CamVid(DataParams(), root)
    first = data.manifest()
    assert first["samples"] == {"train": 4, "val": 2, "test": 3}
    (root / "notes.txt").write_text("not part of it")
    (root / "train" / ".hidden.png").write_text("nor this")
    assert data.manifest() == first
    seen = [first]

    def rename(old: str, new: str) -> None:
        (root / old).rename(root / new)

    for harm in (
        lambda: put(root / "trainannot/train0.png", np.zeros((12, 16), np.uint8)),
        lambda: (
            (root / "val/val0.jpg").rename(root / "val/w.jpg"),
            (root / "valannot/val0.png").rename(root / "valannot/w.png"),
        ),
        lambda: ((root / "test/test2.jpg").unlink(), (root / "testannot/test2.png").unlink()),
    ):
        harm()
        assert data.manifest() not in seen
        seen.append(data.manifest())
    assert CamVid(DataParams(), make_camvid(tmp_path / "again")).manifest() == first


# ------------------------------------------------------------------------------------------------- command line

app = typer.Typer()
app.command("check")(data_check)
app.command("list")(datasets)


def run(*words: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, list(words))
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.output


def test_check_says_what_is_there_and_what_is_wrong(tmp_path: Path) -> None:
    root, workspace = make_camvid(tmp_path), ("--workspace", str(tmp_path / "runs"))
    code, text = run("check", "camvid", "--data-root", str(root), *workspace)
    assert code == 0 and "train 4, val 2, test 3; nothing wrong" in text
    cut(root / "train/train1.jpg")
    code, text = run("check", "camvid", "--data-root", str(root), *workspace)
    assert code == 1 and "train1.jpg: cannot be decoded" in text and "1 problem" in text
    code, text = run("check", "camvid", "--data-root", str(root), "--json", *workspace)
    report = json.loads(text)
    assert code == 1 and report["samples"]["train"] == 4
    assert [Path(p["file"]).name for p in report["problems"]] == ["train1.jpg"]
    assert run("check", "camvid", "--data-root", str(root), "--quick")[0] == 0
    code, text = run("check", "shapes[train=4,val=3]", *workspace)
    assert code == 0 and text.endswith("shapes: train 4, val 3, test 128; nothing wrong\n")


def test_data_sets_are_listed_with_their_parameters() -> None:
    code, text = run("list", "--json")
    found = {data["name"]: data for data in json.loads(text)}
    assert code == 0 and {"shapes", "camvid"} <= set(found)
    assert found["shapes"]["params"]["size"]["default"] == ShapesParams().size
    assert found["camvid"]["splits"] == ["train", "val", "test"] and len(found["camvid"]["classes"]) == 11
    text = run("list")[1]
    assert "camvid" in text and "train = 400" in text


# ------------------------------------------------------------------------------------------------ the real CamVid

CAMVID = Path(os.environ.get("HARNESS_DATA", "")) / "camvid"
real = pytest.mark.skipif(
    not (os.environ.get("HARNESS_DATA") and CAMVID.is_dir()), reason="HARNESS_DATA names no folder with camvid/"
)


@pytest.mark.camvid
@real
def test_camvid_is_the_one_everybody_uses() -> None:
    data = open_dataset("camvid", CAMVID.parent)
    assert data.check(full=False) == []
    assert {name: len(data.split(name)) for name in data.splits} == {"train": 367, "val": 101, "test": 233}
    labels = np.concatenate([s.label.ravel() for s in map(data.split("train").__getitem__, range(0, 367, 3))])
    share = 100 * np.bincount(labels, minlength=256) / labels.size
    expected = [16.9, 23.3, 1.0, 31.7, 4.5, 9.7, 1.2, 1.1, 5.9, 0.6, 0.3]
    np.testing.assert_allclose(share[:11], expected, atol=1.5)
    assert share[IGNORE] == pytest.approx(4.0, abs=1)
    assert data.split("test")[0].image.shape == (*data.eval_size, 3)


def test_the_example_of_the_documentation_works(tmp_path: Path) -> None:
    text = (Path(__file__).parents[3] / "docs" / "data.md").read_text()
    source = text.split("```python\n")[1].split("```")[0]
    scope: dict[str, type[Dataset]] = {}
    exec(compile(source, "docs/data.md", "exec"), scope)
    for split in ("train", "val"):
        for part, shape in (("images", (8, 8, 3)), ("labels", (8, 8))):
            (tmp_path / split / part).mkdir(parents=True)
            put(tmp_path / split / part / "a.png", np.ones(shape, np.uint8))
    dataset = scope["Roads"](DataParams(), tmp_path)
    assert dataset.check() == [] and len(dataset.manifest()["sha256"]) == 64
    assert (dataset.split("val")[0].label == 1).all()
    put(tmp_path / "val" / "labels" / "a.png", np.full((8, 8), 2, np.uint8))
    assert len(dataset.check()) == 1
