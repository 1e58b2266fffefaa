"""The database kept up to date while a sweep runs, beside the launcher's own work."""

from __future__ import annotations

import threading
from types import TracebackType

from harness.launch.base import Options


class Collector:
    """Brings the database up to date whenever a stage has finished, in a thread of its own.

    Nothing depends on it: the sweep collects once more at its end, and says then what cannot be collected. Stages that
    finish while it is at work are collected together afterwards.
    """

    def __init__(self, options: Options) -> None:
        self._options = options
        self._asked, self._ended = threading.Event(), False
        self._thread = threading.Thread(target=self._work, name="collector", daemon=True)

    def finished(self) -> None:
        """A stage has."""
        self._asked.set()

    def __enter__(self) -> Collector:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._ended = True
        self._asked.set()
        self._thread.join()

    def _work(self) -> None:
        from sqlalchemy.exc import SQLAlchemyError

        from results.rebuild import collect_into

        while True:
            self._asked.wait()
            if self._ended:
                return
            self._asked.clear()
            try:
                collect_into(self._options.workspace.root, self._options.database)
            except (OSError, ValueError, SQLAlchemyError):
                return  # what stands in the way now stands there at the end too, and is said then
