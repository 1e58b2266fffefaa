"""Update the database during a sweep, in a background thread."""

from __future__ import annotations

import threading
from types import TracebackType

from harness.launch.base import Options


class Collector:
    """Updates the database in a background thread whenever a stage finishes.

    It is optional: the sweep collects again at its end and then reports what cannot be collected. Stages that finish
    during an update are collected together in the next one.
    """

    def __init__(self, options: Options) -> None:
        self._options = options
        self._asked, self._ended = threading.Event(), False
        self._thread = threading.Thread(target=self._work, name="collector", daemon=True)

    def finished(self) -> None:
        """Notify that a stage has finished."""
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
                return  # the final collection reports the problem
