"""What names a run wrongly is told in a sentence, with the remedy."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.errors import HarnessError
from harness.stage.surroundings import recorded_spec
from harness.workspace.folders import Workspace
from harness.workspace.select import run_folder
from results.rebuild import collect_into
from tests.results.factory import Fake, write_all

KA = [Fake("ka", seed=seed, images=3) for seed in (0, 1)]


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    write_all(tmp_path, KA)
    collect_into(tmp_path, tmp_path / "results.db", patience_s=0)
    return Workspace(tmp_path)


def test_a_run_by_key_and_by_words(workspace: Workspace) -> None:
    database = str(workspace.root / "results.db")
    for words in ([KA[0].key[:8]], ["ka", "seed=0"]):
        assert run_folder(workspace, database, words).key == KA[0].key
    for words, why in (
        (["nobody"], "there is no run 'nobody'.*words of its cell"),
        (["ka"], "'ka' means 2 runs: .*seed=0"),
    ):
        with pytest.raises(HarnessError, match=why):
            run_folder(workspace, database, words)
    with pytest.raises(HarnessError, match=r"no database at .*: run harness collect$"):
        run_folder(workspace, str(workspace.root / "none.db"), ["ka"])


def test_a_specification_that_cannot_be_read(workspace: Workspace) -> None:
    """As of a version that knows other fields."""
    with pytest.raises(HarnessError, match=r"ka .*: the specification in its record: .*take the code of then: 0123456"):
        recorded_spec(KA[0].record())
