"""What is recorded of where a stage runs."""

from __future__ import annotations

import platform
import shutil
import socket
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
import torch

from harness.errors import HarnessError
from harness.system import code as environment
from harness.system.code import revision, tree_digest, versions
from harness.system.devices import device_name, devices, environment_record, pick_device
from results.record import Environment


def _git(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), "-c", "user.name=a", "-c", "user.email=a@b", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    """Packages of the house, with a file each."""
    for package in ("harness", "methods", "backbones", "results"):
        (tmp_path / package).mkdir()
        (tmp_path / package / "one.py").write_text("A = 1\n")
    return tmp_path


@pytest.fixture
def checkout(sources: Path) -> Path:
    """The same, as a git checkout."""
    if shutil.which("git") is None:
        pytest.skip("git is not installed")
    _git(sources, "init", "--quiet")
    _git(sources, "add", ".")
    _git(sources, "commit", "--quiet", "--message", "first")
    return sources


def test_versions_are_those_of_the_installed_packages() -> None:
    found = versions()
    assert found["python"] == platform.python_version()
    assert found["torch"] == version("torch")
    assert found["numpy"] == version("numpy")
    assert all(found.values())


def test_versions_import_nothing_heavy() -> None:
    code = (
        "import sys; from harness.system.code import versions, revision, tree_digest; versions(); revision(); "
        "tree_digest(); print(sorted({'torch', 'timm', 'pandas', 'streamlit'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.strip() == "[]"


def test_revision_is_the_commit_and_says_when_the_sources_differ(checkout: Path) -> None:
    commit = _git(checkout, "rev-parse", "HEAD")
    assert (revision(checkout).name, revision(checkout).dirty) == (commit, False)
    (checkout / "notes.txt").write_text("outside the packages")
    assert not revision(checkout).dirty
    (checkout / "methods" / "new.py").write_text("B = 2\n")
    assert revision(checkout).dirty
    assert str(revision(checkout)) == f"{commit} with changes"


def test_revision_of_an_installation_inside_somebody_elses_repository_is_the_packages(checkout: Path) -> None:
    inside = checkout / "venv" / "site-packages"
    inside.mkdir(parents=True)
    assert revision(inside).name.startswith("package ")


def test_revision_needs_neither_git_nor_a_repository(sources: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert revision(sources).name.startswith("package ")
    monkeypatch.setenv("PATH", "")
    assert revision(sources).name == f"package {version(environment.DISTRIBUTION)}"
    assert not revision(sources).dirty


def test_tree_digest_changes_with_every_source_file_and_with_nothing_else(sources: Path) -> None:
    first = tree_digest(sources)
    assert tree_digest(sources) == first
    (sources / "results" / "one.py").write_text("A = 2\n")  # decides nothing that a stage computes
    (sources / "harness" / "__pycache__").mkdir()
    (sources / "harness" / "__pycache__" / "one.cpython-311.pyc").write_bytes(b"compiled")
    (sources / "harness" / "notes.md").write_text("text")
    assert tree_digest(sources) == first
    seen = {first}
    for package in environment.SOURCES:
        (sources / package / "one.py").write_text("A = 3\n")
        seen.add(tree_digest(sources))
    (sources / "methods" / "one.py").rename(sources / "methods" / "two.py")
    seen.add(tree_digest(sources))
    (sources / "harness" / "recipes").mkdir()
    (sources / "harness" / "recipes" / "quick.yaml").write_text("a: 1\n")
    seen.add(tree_digest(sources))
    assert len(seen) == 6


def test_tree_digest_does_not_depend_on_where_the_sources_are(
    sources: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    copy = tmp_path_factory.mktemp("copy") / "tree"
    shutil.copytree(sources, copy)
    assert tree_digest(copy) == tree_digest(sources)


def test_the_cpu_is_always_there() -> None:
    assert pick_device("cpu") == torch.device("cpu")
    assert devices()[0].word == "cpu" and devices()[0].memory_bytes > 2**28
    assert "core" in device_name(torch.device("cpu"))


def test_auto_is_the_best_device_there_is() -> None:
    best = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    assert pick_device("auto").type == best


def test_devices_by_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert pick_device("auto") == pick_device("cuda") == torch.device("cuda:0")
    assert pick_device("cuda:1") == torch.device("cuda:1")
    with pytest.raises(HarnessError, match="there are 2 GPUs"):
        pick_device("cuda:2")


@pytest.mark.parametrize(
    ("word", "sentence"),
    [("gpu", "'gpu' is not a device"), ("cuda:x", "'cuda:x' is not a device"), ("meta", "'meta' are not supported")],
)
def test_what_is_no_device_is_refused_with_a_hint(word: str, sentence: str) -> None:
    with pytest.raises(HarnessError, match=sentence) as caught:
        pick_device(word)
    assert "cuda:1" in caught.value.hint


def test_a_gpu_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(HarnessError, match="device 'cuda' is not available:") as caught:
        pick_device("cuda")
    assert "--device cpu" in caught.value.hint


def test_the_record_is_whole_and_survives_json() -> None:
    record = environment_record(torch.device("cpu"), launcher="slurm", job="17_3")
    assert Environment.model_validate_json(record.model_dump_json()) == record
    assert record.host == socket.gethostname()
    assert record.threads == torch.get_num_threads()
    assert (record.launcher, record.job) == ("slurm", "17_3")
    assert record.device.startswith("cpu: ")
