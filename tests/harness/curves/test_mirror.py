"""Curves told to sinks from events: all numbers, in order, whatever a sink does."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from harness.cli.app import run
from harness.curves.base import SINKS, CurveSink, MirroredRun, chosen_sinks
from harness.curves.mirror import Mirror, scalars_of
from harness.errors import HarnessError
from harness.workspace.folders import AttemptFolder
from tests.end_to_end.tiny import tiny_flags

PROGRESS = {
    "t": 5.0,
    "event": "progress",
    "iteration": 4,
    "iterations": 8,
    "loss": 1.5,
    "terms": {"ce": 1.0},
    "lr": 0.1,
}
RUN = MirroredRun("abc123", "ka", {}, Path())


class Listener(CurveSink):
    """Remembers what it is told."""

    name, summary = "listener", "remembers"

    def __init__(self) -> None:
        self.told: list[Any] = []

    def begin(self, run: MirroredRun) -> None:
        self.told.append(run.resumed_at)

    def scalars(self, iteration: int, values: Mapping[str, float], time_s: float) -> None:
        self.told.append((iteration, dict(values), time_s))

    def end(self, outcome: str) -> None:
        self.told.append(outcome)


class Broken(Listener):
    """Raises at the first numbers."""

    name = "broken"

    def scalars(self, iteration: int, values: Mapping[str, float], time_s: float) -> None:
        raise RuntimeError("its disk is full")


@pytest.fixture
def attempt(tmp_path: Path) -> AttemptFolder:
    return AttemptFolder(tmp_path)


def write(attempt: AttemptFolder, *events: Any, end: str = "\n") -> None:
    with attempt.events.open("a") as file:
        file.write("\n".join(json.dumps(event) for event in events) + end)


def test_every_number_of_an_event_is_a_curve() -> None:
    assert scalars_of(PROGRESS) == {"loss": 1.5, "terms/ce": 1.0, "lr": 0.1}
    found = scalars_of({"event": "gradients", "iteration": 2, "norms": {"ce": 2}, "cosines": {"ce": None, "kd": 0.5}})
    assert found == {"gradients/norms/ce": 2.0, "gradients/cosines/kd": 0.5}
    assert scalars_of({"event": "validation", "split": "val", "miou": 0.5, "ok": True}) == {"validation/miou": 0.5}
    assert math.isnan(scalars_of(json.loads('{"event": "done", "miou": NaN}'))["done/miou"])
    for silent in ({"event": "evaluating", "done": 1, "total": 2}, {"event": "checkpoint", "iteration": 4}, {}):
        assert scalars_of(silent) == {}


def test_lines_are_told_once_and_only_when_they_are_whole(attempt: AttemptFolder) -> None:
    sink = Listener()
    mirror = Mirror(attempt, RUN, [sink])
    mirror.look()  # there is no file yet
    write(attempt, {"event": "start", "name": "ka"}, PROGRESS, {"event": "valid", "x": 1}, end="")
    mirror.look()
    mirror.look()
    assert sink.told == [0, (4, {"loss": 1.5, "terms/ce": 1.0, "lr": 0.1}, 5.0)]
    write(attempt, end="\n")
    attempt.end("done")
    with attempt.events.open("a") as file:
        file.write("no JSON\n[1]\n")
    write(attempt, {"event": "done", "miou": 0.25, "t": 6.0})
    mirror.end()
    assert sink.told[2:] == [(4, {"valid/x": 1.0}, 0.0), (4, {"done/miou": 0.25}, 6.0), "done"]


def test_a_sink_that_raises_is_left_out_and_the_others_hear_on(
    attempt: AttemptFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    good, bad = Listener(), Broken()
    mirror = Mirror(attempt, RUN, [bad, good])
    write(attempt, PROGRESS, PROGRESS)
    mirror.end()
    assert len(good.told) == 4 and good.told[-1] == "unknown" and bad.told == [0] and mirror.alive
    assert capsys.readouterr().err == "note: ka: no longer mirrored to broken: RuntimeError: its disk is full\n"


def test_sinks_are_named_and_need_their_libraries(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert {"tensorboard", "mlflow", "wandb"} <= set(SINKS.names())
    assert chosen_sinks(None) == chosen_sinks("") == ()
    with pytest.raises(HarnessError, match="there is no sink of curves 'tensorbord'"):
        chosen_sinks("tensorbord")
    plugin = tmp_path / "absent.py"
    plugin.write_text(
        "from harness.curves.base import CurveSink\n"
        "class Absent(CurveSink):\n"
        "    name, summary, requires, install = 'absent', 'nowhere', ('no_such_module',), 'pip install no-such'\n"
        "    def begin(self, run): pass\n"
        "    def scalars(self, iteration, values, time_s): pass\n"
    )
    words = [
        "sweep",
        "--methods",
        "none",
        "--log",
        "absent",
        "--plugin",
        str(plugin),
        "--workspace",
        str(tmp_path / "w"),
    ]
    assert run(words) == 2
    said = capsys.readouterr().err
    assert "mirrored to absent: no_such_module is not installed" in said and "pip install no-such" in said
    assert not (tmp_path / "w").exists()  # nothing was begun


def test_what_attempts_share_is_made_before_anything_begins(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plugin = tmp_path / "unprepared.py"
    plugin.write_text(
        "from harness.curves.base import CurveSink\n"
        "class Unprepared(CurveSink):\n"
        "    name, summary = 'unprepared', 'a place that is not there'\n"
        "    @classmethod\n"
        "    def prepare(cls, workspace): raise RuntimeError('no such place')\n"
        "    def begin(self, run): raise AssertionError\n"
        "    def scalars(self, iteration, values, time_s): pass\n"
    )
    root = tmp_path / "w"
    words = ["--log", "unprepared", "--plugin", str(plugin)]
    assert run(["sweep", *tiny_flags(root, methods="none"), *words]) == 2
    assert "mirrored to unprepared: RuntimeError: no such place" in capsys.readouterr().err
    assert not (root / "stages").exists()
