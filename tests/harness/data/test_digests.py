"""Digests of files: right whatever is remembered, and remembered only where that is safe."""

from __future__ import annotations

import os
import time
from hashlib import sha256
from pathlib import Path

import pytest

from harness.data import digests
from harness.data.digests import file_digests
from harness.data.folders import content_digest


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache that is used however little there is, and nothing in memory."""
    monkeypatch.setattr(digests, "LARGE", 0)
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache/digests.db"


def make(folder: Path, age: float = 100, **texts: str) -> list[Path]:
    folder.mkdir(exist_ok=True)
    files = []
    for name, text in texts.items():
        files.append(folder / name)
        files[-1].write_text(text)
        os.utime(files[-1], (time.time() - age,) * 2)
    return files


def forget(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in another process."""
    monkeypatch.setattr(digests, "_memory", {})


def right(files: list[Path]) -> dict[Path, str]:
    return {file: sha256(file.read_bytes()).hexdigest() for file in files}


def test_what_is_remembered_is_not_read_again(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = make(tmp_path / "data", a="1", b="2")
    assert file_digests(files) == right(files) and cache.is_file()
    expected = right(files)
    forget(monkeypatch)
    read: list[Path] = []
    monkeypatch.setattr(digests, "_digest", lambda file: read.append(file) or sha256(file.read_bytes()).hexdigest())
    assert file_digests(files) == expected and read == []
    make(tmp_path / "data", age=50, b="3")
    assert file_digests(files) == right(files) and read == [files[1]]


def test_a_file_that_was_written_just_now_is_not_remembered(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = make(tmp_path / "data", age=0, a="1")
    file_digests(files)
    stamp = files[0].stat().st_mtime_ns
    files[0].write_text("2")
    os.utime(files[0], ns=(stamp, stamp))
    forget(monkeypatch)
    assert file_digests(files) == right(files)


@pytest.mark.parametrize("trouble", ["broken", "folder", "unwritable", "off"])
def test_a_cache_that_cannot_be_used_costs_only_time(
    trouble: str, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = make(tmp_path / "data", a="1")
    if trouble == "broken":
        cache.parent.mkdir()
        cache.write_bytes(b"no database, and longer than a header of one would be" * 20)
    elif trouble == "folder":
        cache.mkdir(parents=True)
    elif trouble == "unwritable":
        cache.parent.write_text("a file where a folder should be")
    else:
        monkeypatch.setenv("HARNESS_CACHE", "")
    for _ in range(2):
        forget(monkeypatch)
        assert file_digests(files) == right(files)


def test_small_collections_leave_no_trace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "cache"))
    file_digests(make(tmp_path / "data", a="1"))
    assert not (tmp_path / "cache").exists()


def test_the_digest_of_a_folder_is_what_it_has_always_been(tmp_path: Path) -> None:
    """Of names and contents in the order of names: keys of CamVid depend on it."""
    files = make(tmp_path / "data", b="2", a="1")
    lines = "".join(f"{sha256(text.encode()).hexdigest()}  {name}\n" for name, text in (("a", "1"), ("b", "2")))
    assert content_digest(tmp_path / "data", files) == sha256(lines.encode()).hexdigest()
