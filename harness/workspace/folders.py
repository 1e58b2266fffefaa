"""The workspace on disk: one folder per stage; files are written under a temporary name and then renamed.

    WORKSPACE/stages/<key>/     spec.json  job.json  record.json  weights.safetensors  checkpoint.pt
                                confusion.npz  samples/  attempts/N/{attempt.json, events.jsonl, log, outcome.json}
    WORKSPACE/hidden.json       which runs the board hides, and why
    WORKSPACE/tags.json         tags, and the runs that have them
    WORKSPACE/sweeps/<id>.json  the command of a sweep, and its plan

Stages have no locks: atomic renames alone make shared file systems and two concurrent attempts at one stage safe.
"""

from __future__ import annotations

import json
import os
import re
import socket
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from pydantic import ValidationError
from pydantic_core import PydanticSerializationError

from harness.errors import HarnessError, StageFailed
from harness.workspace.files import now, read_json, write_atomic, write_json
from results.invalid import first_invalid
from results.record import SCHEMA_VERSION, Attempt, Record, schema_version

HEARTBEAT_S = 5.0
"""Seconds between two heartbeats of an attempt."""
STALE_S = 60.0
"""Seconds without a heartbeat after which an attempt counts as dead."""


class NewerRecord(HarnessError):
    """The record was written by a newer version of the harness: it can be neither read nor replaced."""

    def __init__(self, file: Path, version: int) -> None:
        super().__init__(
            f"{file} was written by a newer version of the harness (schema {version}, this one knows {SCHEMA_VERSION})",
            "update the harness, or name another --workspace",
        )


class InvalidRecord(HarnessError):
    """The record file is not a valid record."""

    def __init__(self, file: Path, why: str) -> None:
        super().__init__(f"{file} is not a valid record: {why}", "run the sweep again, which renames the file")
        self.why = why


@dataclass(frozen=True)
class AttemptFolder:
    """One attempt at a stage."""

    path: Path

    @property
    def number(self) -> int:
        """The attempt's number, from 1."""
        return int(self.path.name)

    @property
    def events(self) -> Path:
        """The event file, one JSON object per line."""
        return self.path / "events.jsonl"

    @property
    def log(self) -> Path:
        """The output of the process."""
        return self.path / "log"

    def begin(self, **facts: Any) -> None:
        """Record the start of the attempt: time, host and process."""
        self.beat()
        host, pid = socket.gethostname(), os.getpid()
        write_json(self.path / "attempt.json", {"started": now(), "host": host, "pid": pid, **facts})

    def beat(self, **facts: Any) -> None:
        """Write a heartbeat with progress: `iteration`, and `still_s` (seconds without progress)."""
        file = self.path / "heartbeat"
        try:
            file.write_text(json.dumps(facts))
        except OSError:
            with suppress(OSError):  # the folder may be gone, or the file system read-only
                file.touch()  # works on a full disk, too

    def heartbeat(self) -> dict[str, Any]:
        """The content of the last heartbeat."""
        found = read_json(self.path / "heartbeat")
        return found if isinstance(found, dict) else {}

    def shows_life(self) -> bool:
        """Whether the last heartbeat is recent.

        A heartbeat in the future (from a wrong clock) does not count: on this host the process is looked up, on other
        hosts the attempt counts as dead if the clocks differ too much.
        """
        silence = self.silence_s()
        if 0 <= silence < STALE_S:
            return True
        if silence >= STALE_S:
            return False
        begun = self.started()
        if begun.get("host") == socket.gethostname():
            pid = begun.get("pid")
            return isinstance(pid, int) and 0 < pid < 2**31 and psutil.pid_exists(pid)
        return silence > -STALE_S

    def silence_s(self) -> float:
        """Seconds since the last heartbeat; negative if it is in the future."""
        try:
            return time.time() - (self.path / "heartbeat").stat().st_mtime
        except OSError:
            return float("inf")

    def end(self, outcome: str, reason: str = "") -> None:
        """Record how the attempt ended."""
        write_json(self.path / "outcome.json", {"ended": now(), "outcome": outcome, "reason": _readable(reason)})

    def started(self) -> dict[str, Any]:
        """The content written by `begin`."""
        found = read_json(self.path / "attempt.json")
        return found if isinstance(found, dict) else {}

    def outcome(self) -> dict[str, Any] | None:
        """The content written by `end`, or None."""
        found = read_json(self.path / "outcome.json")
        return found if isinstance(found, dict) else None

    def summary(self) -> Attempt:
        """The attempt as stored in a record."""
        begun, end = self.started(), self.outcome() or {}
        told = {
            "started": begun.get("started", ""),
            "ended": end.get("ended"),
            "outcome": end.get("outcome"),
            "reason": end.get("reason"),
            "resumed_at": begun.get("resumed_at"),
            "code": begun.get("code"),
        }
        try:
            return Attempt.model_validate({"number": self.number, **{k: v for k, v in told.items() if v is not None}})
        except ValidationError:
            # Files of an attempt that somebody damaged must not cost its stage the record.
            return Attempt(number=self.number, started="", reason="its files are damaged")


def _readable(text: str) -> str:
    """Text without halves of surrogate pairs (from a file's name that is not UTF-8), which no record can hold."""
    return text.encode(errors="backslashreplace").decode()


def is_key(text: str) -> bool:
    """Whether a text has the form of a stage's key: letters and digits, so that it is no path."""
    return text.isalnum() and text.isascii()


def close_silent_attempts(folder: StageFolder, before: int) -> None:
    """Close earlier attempts that died without an outcome; those that may be alive are left alone."""
    for attempt in folder.attempts():
        if attempt.number < before and attempt.outcome() is None and not attempt.shows_life():
            begun = attempt.started()
            where = f"process {begun['pid']} on {begun['host']}" if "pid" in begun and "host" in begun else "it"
            attempt.end("interrupted", f"{where} ended without an outcome: it was killed, or the machine went down")


@dataclass(frozen=True)
class StageFolder:
    """The folder of one stage."""

    path: Path

    @property
    def key(self) -> str:
        """The stage's key."""
        return self.path.name

    @property
    def job_file(self) -> Path:
        """The job file, input of a worker."""
        return self.path / "job.json"

    @property
    def record_file(self) -> Path:
        """The record file: valid if and only if the stage is done."""
        return self.path / "record.json"

    @property
    def weights_file(self) -> Path:
        """The trained weights, in safetensors format."""
        return self.path / "weights.safetensors"

    @property
    def checkpoint_file(self) -> Path:
        """The checkpoint from which an interrupted stage resumes."""
        return self.path / "checkpoint.pt"

    def done(self) -> bool:
        """Whether the stage is done: its record is valid, or from a newer version of the harness."""
        try:
            self.record()
        except NewerRecord:
            return True
        except HarnessError:
            return False
        return True

    def missing(self) -> bool:
        """Whether the stage is still to be run.

        Raises:
            NewerRecord: it is done, but its record is from a newer version and cannot be read.
        """
        try:
            self.record()
        except NewerRecord:
            raise
        except HarnessError:
            return True
        return False

    def record(self) -> Record:
        """The record.

        Raises:
            NewerRecord: the record was written by a newer version of the harness.
            InvalidRecord: the file is not a valid record of this stage.
            HarnessError: the record is missing.
        """
        try:
            content = self.record_file.read_bytes()
        except OSError as error:
            raise HarnessError(f"stage {self.key} has no record", "it has not finished: see harness status") from error
        return self._parsed(content)

    def write_record(self, record: Record) -> None:
        """Write the record, which marks the stage as done.

        Raises:
            NewerRecord: a record of a newer version exists, and is kept.
            StageFailed: the record would not be readable; nothing is written.
        """
        try:
            content = record.model_dump_json(indent=1).encode()
            self._parsed(content)
        except PydanticSerializationError as error:
            raise StageFailed(f"the record of stage {self.key} could not be written: {error}") from error
        except InvalidRecord as error:
            raise StageFailed(f"the record of stage {self.key} could not be read back: {error.why}") from error
        self.missing()
        write_atomic(self.record_file, content)

    def set_aside_record(self) -> str:
        """Rename an invalid record, so that the stage can be run again.

        Returns:
            A message that names the file and the error; "" if there is no invalid record.
        """
        try:
            self.record()
        except InvalidRecord as error:
            taken = {path.name for path in self.path.glob("record-invalid-*.json")}
            number = next(n for n in range(1, len(taken) + 2) if f"record-invalid-{n}.json" not in taken)
            aside = self.path / f"record-invalid-{number}.json"
            try:
                self.record_file.rename(aside)
            except FileNotFoundError:
                return ""  # another attempt has renamed it
            return f"{error.message}; it is renamed to {aside.name}, and the stage is run again"
        except HarnessError:
            return ""
        return ""

    def _parsed(self, content: bytes) -> Record:
        """Parse the content of a record file and check that it belongs to this stage."""
        try:
            record = Record.model_validate_json(content)
        except ValidationError as error:
            if (version := schema_version(content)) > SCHEMA_VERSION:
                raise NewerRecord(self.record_file, version) from error
            raise InvalidRecord(self.record_file, str(first_invalid(error))) from error
        if record.key != self.key:
            raise InvalidRecord(self.record_file, f"it belongs to stage {record.key}")
        return record

    def attempts(self) -> list[AttemptFolder]:
        """All attempts, oldest first."""
        folder = self.path / "attempts"
        if not folder.is_dir():
            return []
        numbers = sorted(int(p.name) for p in folder.iterdir() if re.fullmatch(r"[1-9][0-9]{0,8}", p.name))
        return [AttemptFolder(folder / str(n)) for n in numbers]

    def last_attempt(self) -> AttemptFolder | None:
        """The latest attempt."""
        attempts = self.attempts()
        return attempts[-1] if attempts else None

    def new_attempt(self) -> AttemptFolder:
        """Create the folder of the next attempt; safe if two processes do so at once."""
        number = len(self.attempts()) + 1
        while True:
            path = self.path / "attempts" / str(number)
            try:
                path.mkdir(parents=True)
                return AttemptFolder(path)
            except FileExistsError:
                number += 1


@dataclass(frozen=True)
class Workspace:
    """The workspace folder."""

    root: Path

    def stage(self, key: str) -> StageFolder:
        """The folder of a stage, whether it exists or not.

        Raises:
            HarnessError: invalid key.
        """
        if not is_key(key):
            raise HarnessError(f"'{key}' is not a stage key")
        return StageFolder(self.root / "stages" / key)

    @property
    def sweeps(self) -> Path:
        """The folder of saved plans."""
        return self.root / "sweeps"

    @property
    def hidden_file(self) -> Path:
        """Which runs the board hides, and why."""
        return self.root / "hidden.json"

    @property
    def tags_file(self) -> Path:
        """Tags, and the runs that have them."""
        return self.root / "tags.json"

    @property
    def database(self) -> Path:
        """The default path of the database."""
        return self.root / "results.db"
