"""The workspace on disk: one folder a stage, everything written to a temporary name and then renamed.

    WORKSPACE/stages/<key>/     spec.json  job.json  record.json  weights.safetensors  checkpoint.pt
                                confusion.npz  samples/  attempts/N/{attempt.json, events.jsonl, log, outcome.json}
    WORKSPACE/sweeps/<id>.json  what was asked for, and the plan that came of it

No locks: correctness rests on atomic renames alone, so that shared file systems and two attempts at one stage are safe.
"""

from __future__ import annotations

import json
import os
import socket
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from pydantic import ValidationError

from harness.errors import HarnessError, StageFailed
from harness.workspace.files import now, read_json, write_atomic, write_json
from results.invalid import first_invalid
from results.record import SCHEMA_VERSION, Attempt, Record, schema_version

HEARTBEAT_S = 5.0
"""Seconds between two signs of life of an attempt."""
STALE_S = 60.0
"""An attempt without a sign of life for so long is taken for dead."""


class NewerRecord(HarnessError):
    """A record that a newer version of the harness wrote: it can be neither read here nor replaced."""

    def __init__(self, file: Path, version: int) -> None:
        super().__init__(
            f"{file} was written by a newer version of the harness (schema {version}, this one knows {SCHEMA_VERSION})",
            "update the harness, or name another --workspace",
        )


class InvalidRecord(HarnessError):
    """A file in a record's place that is none."""

    def __init__(self, file: Path, why: str) -> None:
        super().__init__(f"{file} is not a valid record: {why}", "run the sweep again: it is set aside")
        self.why = why


@dataclass(frozen=True)
class AttemptFolder:
    """One try at a stage."""

    path: Path

    @property
    def number(self) -> int:
        """Counts from 1."""
        return int(self.path.name)

    @property
    def events(self) -> Path:
        """What happened, one JSON object a line."""
        return self.path / "events.jsonl"

    @property
    def log(self) -> Path:
        """What the process printed."""
        return self.path / "log"

    def begin(self, **facts: Any) -> None:
        """Say that the attempt has begun, where, and as which process."""
        self.beat()
        host, pid = socket.gethostname(), os.getpid()
        write_json(self.path / "attempt.json", {"started": now(), "host": host, "pid": pid, **facts})

    def beat(self, **facts: Any) -> None:
        """A sign of life, with how far the attempt is: `iteration`, `still_s` (seconds without any progress)."""
        file = self.path / "heartbeat"
        try:
            file.write_text(json.dumps(facts))
        except OSError:
            file.touch()  # no room for a word on a full disk; the sign itself needs none

    def heartbeat(self) -> dict[str, Any]:
        """What the last sign of life said."""
        found = read_json(self.path / "heartbeat")
        return found if isinstance(found, dict) else {}

    def shows_life(self) -> bool:
        """It has shown a sign of life lately.

        One that lies in the future says nothing (a clock was wrong, or is): on this machine the process itself is
        looked for, and on others it is taken for dead when the clocks differ by more than the usual.
        """
        silence = self.silence_s()
        if 0 <= silence < STALE_S:
            return True
        if silence >= STALE_S:
            return False
        begun = self.started()
        if begun.get("host") == socket.gethostname():
            return psutil.pid_exists(int(begun.get("pid", -1)))
        return silence > -STALE_S

    def silence_s(self) -> float:
        """Seconds since the last sign of life; negative when it lies in the future."""
        try:
            return time.time() - (self.path / "heartbeat").stat().st_mtime
        except OSError:
            return float("inf")

    def end(self, outcome: str, reason: str = "") -> None:
        """Say how the attempt ended."""
        write_json(self.path / "outcome.json", {"ended": now(), "outcome": outcome, "reason": reason})

    def started(self) -> dict[str, Any]:
        """What `begin` wrote."""
        return read_json(self.path / "attempt.json") or {}

    def outcome(self) -> dict[str, Any] | None:
        """What `end` wrote, or None when it did not come to that."""
        return read_json(self.path / "outcome.json")

    def summary(self) -> Attempt:
        """The attempt as a record tells it."""
        begun, end = self.started(), self.outcome() or {}
        return Attempt(
            number=self.number,
            started=begun.get("started", ""),
            ended=end.get("ended", ""),
            outcome=end.get("outcome", "unknown"),
            reason=end.get("reason", ""),
            resumed_at=begun.get("resumed_at", 0),
        )


def close_silent_attempts(folder: StageFolder, before: int) -> None:
    """Say of earlier attempts that ended without a word that they did; those that may be alive are left alone."""
    for attempt in folder.attempts():
        if attempt.number < before and attempt.outcome() is None and not attempt.shows_life():
            begun = attempt.started()
            where = f"process {begun['pid']} on {begun['host']}" if "pid" in begun and "host" in begun else "it"
            attempt.end("interrupted", f"{where} ended without a word: killed, or the machine went down")


@dataclass(frozen=True)
class StageFolder:
    """All that belongs to one stage."""

    path: Path

    @property
    def key(self) -> str:
        """The stage's key."""
        return self.path.name

    @property
    def job_file(self) -> Path:
        """What a worker is given."""
        return self.path / "job.json"

    @property
    def record_file(self) -> Path:
        """There, and valid, if and only if the stage is done."""
        return self.path / "record.json"

    @property
    def weights_file(self) -> Path:
        """What was learned, as safetensors."""
        return self.path / "weights.safetensors"

    @property
    def checkpoint_file(self) -> Path:
        """Where to go on after an interruption."""
        return self.path / "checkpoint.pt"

    def done(self) -> bool:
        """Nothing is left to do: the record is there, valid and of this stage, or of a newer version of the harness."""
        try:
            self.record()
        except NewerRecord:
            return True
        except HarnessError:
            return False
        return True

    def missing(self) -> bool:
        """The stage is still to be run.

        Raises:
            NewerRecord: it is done, but its record cannot be read here.
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
            NewerRecord: a newer version of the harness wrote it.
            InvalidRecord: it is not a record of this stage.
            HarnessError: it is missing.
        """
        try:
            content = self.record_file.read_bytes()
        except OSError as error:
            raise HarnessError(f"stage {self.key} has no record", "it has not finished: see harness status") from error
        return self._parsed(content)

    def write_record(self, record: Record) -> None:
        """Write the record: with it, the stage is done.

        Raises:
            NewerRecord: there is one of a newer version, which stays.
            StageFailed: what would be written could not be read back; nothing is written.
        """
        content = record.model_dump_json(indent=1).encode()
        try:
            self._parsed(content)
        except InvalidRecord as error:
            raise StageFailed(f"the record of stage {self.key} could not be read back: {error.why}") from error
        self.missing()
        write_atomic(self.record_file, content)

    def set_aside_record(self) -> str:
        """Move a record that cannot be read out of the way, for the stage is run again.

        Returns:
            A sentence that names the file and what is wrong with it; "" if there is no such record.
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
                return ""  # another attempt has set it aside
            return f"{error.message}; it is set aside as {aside.name}, and the stage is run again"
        except HarnessError:
            return ""
        return ""

    def _parsed(self, content: bytes) -> Record:
        """The record in a file's content, which must be this stage's."""
        try:
            record = Record.model_validate_json(content)
        except ValidationError as error:
            if (version := schema_version(content)) > SCHEMA_VERSION:
                raise NewerRecord(self.record_file, version) from error
            raise InvalidRecord(self.record_file, str(first_invalid(error))) from error
        if record.key != self.key:
            raise InvalidRecord(self.record_file, f"it is of stage {record.key}")
        return record

    def attempts(self) -> list[AttemptFolder]:
        """All tries, oldest first."""
        folder = self.path / "attempts"
        if not folder.is_dir():
            return []
        numbers = sorted(int(p.name) for p in folder.iterdir() if p.name.isdigit())
        return [AttemptFolder(folder / str(n)) for n in numbers]

    def last_attempt(self) -> AttemptFolder | None:
        """The latest try."""
        attempts = self.attempts()
        return attempts[-1] if attempts else None

    def new_attempt(self) -> AttemptFolder:
        """A folder for the next try; safe when two processes ask at once."""
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
    """The folder in which everything happens."""

    root: Path

    def stage(self, key: str) -> StageFolder:
        """The folder of a stage, there or not.

        Raises:
            HarnessError: the key is not one.
        """
        if not (key.isalnum() and key.isascii()):
            raise HarnessError(f"'{key}' is not a stage key")
        return StageFolder(self.root / "stages" / key)

    @property
    def sweeps(self) -> Path:
        """The folder of plans."""
        return self.root / "sweeps"

    @property
    def database(self) -> Path:
        """Where the database is unless another is named."""
        return self.root / "results.db"
