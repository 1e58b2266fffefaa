"""A workspace opened for reading, with its results as DataFrames."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import HarnessError
from harness.workspace.folders import Workspace

if TYPE_CHECKING:
    import pandas as pd

    from harness.workspace.status import StageStatus
    from results.ingest import Problem

Wanted = str | int | Iterable[str | int]
"""One or several values of a filter."""


class OpenedWorkspace:
    """A workspace and its database.

    Attributes:
        workspace: the folder.
        database: the database of its records, a file or a URL.
        not_collected: files that could not be collected, with the reason.
    """

    def __init__(self, workspace: Workspace, database: str) -> None:
        self.workspace, self.database = workspace, database
        self.not_collected: list[Problem] = []

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self.workspace.root)!r})"

    @property
    def keys(self) -> Sequence[str] | None:
        """Keys of the selected stages; None for all of the database."""
        return None

    def collect(self) -> None:
        """Update the database from the records in the workspace.

        Raises:
            HarnessError: the database cannot be used.
        """
        from results.rebuild import collect_into

        try:
            self.not_collected = collect_into(self.workspace.root, self.database).summary.invalid
        except ValueError as error:
            hint = "finished stages are kept: mend that, or name another database with --db, and run harness collect"
            raise HarnessError(str(error), hint) from error

    def leaderboard(
        self, sort: str | None = None, metric: str = "miou", tag: str | Iterable[str] = (), **filters: Wanted
    ) -> pd.DataFrame:
        """The leaderboard: one row per method, student, stride, data set and recipe, over all seeds.

        Args:
            sort: a column to sort by; the metric by default.
            metric: metric to rank by, with interval and Δ: "miou", "boundary_iou", ...
            tag: only rows with a run of any of these tags (`harness tag`).
            **filters: column = accepted values: method="ka", stride=[8, 16]; or a unique part of a value, as in
                student="mobilenetv2_100".

        Raises:
            HarnessError: unknown column or value.
        """
        from harness.workspace.tags import by_run, read_tags
        from results.leaderboard import leaderboard
        from results.store import open_store
        from results.tags import tagged, with_tags

        try:
            with open_store(self.database, readonly=True) as store:
                board = leaderboard(store, _matched(store, filters), sort, keys=self._wanted(tag), metric=metric)
                return with_tags(board, tagged(store, by_run(read_tags(self.workspace))).rows)
        except ValueError as error:
            raise HarnessError(str(error)) from error

    def runs(self, tag: str | Iterable[str] = (), **filters: Wanted) -> pd.DataFrame:
        """One row per finished run (a stage with one seed), newest first.

        Args:
            tag: only runs of any of these tags.
            **filters: as in `leaderboard`.

        Raises:
            HarnessError: unknown column or value.
        """
        from harness.workspace.tags import by_run, read_tags
        from results.queries import runs
        from results.store import open_store
        from results.tags import with_tags

        try:
            with open_store(self.database, readonly=True) as store:
                found = runs(store, _matched(store, filters), keys=self._wanted(tag))
        except ValueError as error:
            raise HarnessError(str(error)) from error
        return with_tags(found, by_run(read_tags(self.workspace)), by="key")

    def _wanted(self, tag: str | Iterable[str]) -> Collection[str] | None:
        """Keys of the selected stages that have any of some tags; without a tag of all, None if they are not selected.

        Raises:
            HarnessError: no run has one of the tags.
        """
        from harness.workspace.tags import read_tags, runs_tagged

        tags = [tag] if isinstance(tag, str) else list(tag)
        if not tags:
            return self.keys
        tagged = runs_tagged(read_tags(self.workspace), tags)
        return tagged if self.keys is None else tagged & set(self.keys)

    def status(self) -> pd.DataFrame:
        """One row per planned stage: key, name, kind, state, reason, attempts. Queries files and launchers."""
        import dataclasses

        import pandas as pd

        columns = ["key", "name", "kind", "state", "reason", "attempts"]
        rows = [{n: v for n, v in dataclasses.asdict(s).items() if n in columns} for s in self._statuses()]
        return pd.DataFrame(rows, columns=columns)

    @property
    def failed(self) -> dict[str, str]:
        """Name of each failed stage -> reason, from its files or the launcher."""
        return self._in_state("failed")

    @property
    def blocked(self) -> dict[str, str]:
        """Name of each stage that depends on a failed one -> reason."""
        return self._in_state("blocked")

    def _in_state(self, state: str) -> dict[str, str]:
        return {status.name: status.reason for status in self._statuses() if status.state == state}

    def _statuses(self) -> list[StageStatus]:
        from harness.launch.launchers import observer
        from harness.workspace.status import read_sweeps, stage_states

        stages = read_sweeps(self.workspace)
        wanted = None if self.keys is None else set(self.keys)
        chosen = [stage for stage in stages if wanted is None or stage.key in wanted]
        return stage_states(self.workspace, chosen, observer(self.workspace))


def open_workspace(folder: Path, db: str | None = None) -> OpenedWorkspace:
    """Open an existing workspace and collect its records.

    Raises:
        HarnessError: the folder is not a workspace, or the database cannot be used.
    """
    if not (folder / "stages").is_dir():
        raise HarnessError(f"{folder} is not a workspace: it has no stages folder", "run a sweep in it first")
    workspace = Workspace(folder)
    opened = OpenedWorkspace(workspace, db or str(workspace.database))
    opened.collect()
    return opened


def _matched(store: Any, filters: dict[str, Wanted]) -> dict[str, list[Any]]:
    from results.queries import cells, match_filters

    words = {name: [str(word) for word in _several(values)] for name, values in filters.items()}
    return match_filters(cells(store), words)


def _several(values: Wanted) -> Iterable[str | int]:
    return [values] if isinstance(values, (str, int)) else values
