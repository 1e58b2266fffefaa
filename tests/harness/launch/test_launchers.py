"""A launcher of others, in one file: swept with, observed, cancelled, sent again, its logs read; what is refused."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.cli.app import run
from harness.errors import HarnessError
from harness.launch.base import LARGEST, LAUNCHERS, Launcher, check_launcher
from harness.launch.launchers import make_options, settings_of
from harness.launch.run_sweep import _loader_workers
from harness.launch.settings import LauncherSettings
from harness.planning.cohorts import largest_cohort
from tests.end_to_end.tiny import stage_folders, tiny_flags

PLUGIN = '''
"""Runs stages in this very process, one after the other; or keeps them in a queue of its own, in a file."""

from dataclasses import replace
from pathlib import Path

from harness.launch.base import Launcher, LaunchResult, make_job
from harness.launch.settings import LauncherSettings
from harness.system.checks import Check
from harness.worker import main
from harness.workspace.files import read_json, write_json
from harness.workspace.status import State


class Never:
    reason = ""

    def __call__(self):
        return False


class HereSettings(LauncherSettings):
    """Its settings."""

    hold: bool = False
    """Keep the stages in the queue."""
    greeting: str = "hello"
    """What its own log says of a stage."""


class HereLauncher(Launcher):
    name = "here"
    summary = "this very process"
    Settings = HereSettings
    flags = {"greeting": ("--greeting",)}

    def launch(self, plan, keys, options):
        settings = self.settings(options.settings)
        jobs = [make_job(plan, plan.nodes[key], options, launcher=self.name, threads=1) for key in keys]
        return self._run(options.workspace, {job.stage.key: str(job.write()) for job in jobs}, settings)

    def resubmit(self, workspace, keys, changes):
        return self._run(workspace, {k: str(workspace.stage(k).job_file) for k in keys}, self.settings(changes))

    def _run(self, workspace, jobs, settings):
        if settings.hold:
            write_json(workspace.root / "queue.json", jobs)
            return LaunchResult(False, message=f"{len(jobs)} stages are queued")
        for key, file in jobs.items():
            code = main(Path(file), stop=Never())
            (workspace.root / f"{key}.here").write_text(f"{settings.greeting}: {key} ended with {code}\\n")
        (workspace.root / "queue.json").unlink(missing_ok=True)
        failed = {key: "it failed" for key in jobs if not workspace.stage(key).done()}
        return LaunchResult(True, failed)

    def _queue(self, workspace):
        return read_json(workspace.root / "queue.json") or {}

    def cancel(self, workspace, keys=None):
        queue = self._queue(workspace)
        taken = [key for key in queue if keys is None or key in keys]
        write_json(workspace.root / "queue.json", {k: v for k, v in queue.items() if k not in taken})
        return taken

    def logs(self, workspace, key):
        file = workspace.root / f"{key}.here"
        return [file] if file.is_file() else []

    def sent(self, workspace):
        return self._queue(workspace).keys()

    def observe(self, workspace, stage, status):
        return replace(status, state=State.QUEUED, reason="in a queue of its own")

    def checks(self):
        yield Check("launchers", "here", "ok", "always here")
'''


@pytest.fixture(scope="module")
def plugin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    file = tmp_path_factory.mktemp("plugin") / "here.py"
    file.write_text(PLUGIN)
    yield str(file)
    LAUNCHERS._entries.pop("here", None)


def _states(root: Path, plugin: str, capsys: pytest.CaptureFixture[str]) -> dict[str, str]:
    run(["status", "-w", str(root), "--plugin", plugin, "--json"])
    return {one["name"].split()[0]: one["state"] for one in json.loads(capsys.readouterr().out)}


def test_sweep_cancel_retry_and_logs_with_a_launcher_of_one_file(
    plugin: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    root = tmp_path / "runs"
    words = ["sweep", *tiny_flags(root, methods="none"), "--plugin", plugin, "--launcher", "here"]
    assert run([*words, "-o", "hold=true"]) == 0
    assert "1 stages are queued" in capsys.readouterr().out
    assert _states(root, plugin, capsys) == {"none": "queued"}

    taking = ["cancel", "none", "-w", str(root), "--plugin", plugin]
    assert run(taking) == 0
    (folder,) = stage_folders(root)
    assert f"cancelled {folder.key}" in capsys.readouterr().out
    assert run(taking) == 0
    assert "no matching job is queued" in capsys.readouterr().out
    assert _states(root, plugin, capsys) == {"none": "waiting"}

    # Without the plugin, its name is told, and what to do.
    LAUNCHERS._entries.pop("here")
    assert run(["retry", "-w", str(root)]) == 2
    assert "no launcher 'here'" in (said := capsys.readouterr().err) and "--plugin" in said

    assert run(["retry", "-w", str(root), "--plugin", plugin, "-o", "greeting=good morning"]) == 0
    assert folder.done()
    capsys.readouterr()
    assert _states(root, plugin, capsys) == {"none": "done"}
    assert run(["logs", folder.key, "--job", "-w", str(root), "--plugin", plugin]) == 0
    assert capsys.readouterr().out == f"good morning: {folder.key} ended with 0\n"


def test_it_is_listed_with_its_settings_and_checked_by_the_doctor(
    plugin: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["launchers", "--plugin", plugin, "--json"]) == 0
    found = {one["name"]: one for one in json.loads(capsys.readouterr().out)}
    assert {"here", "local", "slurm"} <= set(found)
    settings = {one["name"]: one for one in found["here"]["settings"]}
    assert settings["greeting"] == {
        "name": "greeting", "type": "text", "default": "hello", "flags": ["--greeting"],
        "help": "What its own log says of a stage.",
    }  # fmt: skip
    from harness.doctor import _launchers

    assert ("here", "always here") in {(check.name, check.found) for check in _launchers()}


def test_every_setting_of_every_launcher_has_its_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["launchers", "--json"]) == 0
    for launcher in json.loads(capsys.readouterr().out):
        for setting in launcher["settings"]:
            assert setting["help"].endswith("."), (launcher["name"], setting)
    assert run(["launchers", "slurm"]) == 0
    assert "--gpus-per-run" in capsys.readouterr().out
    assert run(["launchers", "slrum"]) == 2


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["-o", "partition=gpu"], "give --launcher slurm"),
        (["--partition", "gpu"], "give --launcher slurm"),
        (["-o", "max_attempt=3"], "did you mean max_attempts"),
        (["-o", "max_attempts=many"], "max_attempts"),
        (["-o", "config=nowhere.yaml"], "nowhere.yaml"),
        (["--launcher", "slurm", "--time", "soon"], "not a time limit"),
        (["--launcher", "slurm", "--max-parallel", "-1"], "max_parallel"),
        (["--launcher", "slurm", "-o", "grace_s=3"], "give --launcher local"),
    ],
)
def test_settings_are_checked_before_anything_is_planned(
    words: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(["sweep", "-m", "none", "-w", str(tmp_path / "runs"), "--dry-run", *words]) == 2
    assert said in capsys.readouterr().err


def test_words_go_before_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("harness-local.yaml").write_text("max_attempts: 7\ngrace_s: 2\n")
    chosen = lambda **words: settings_of("local", words).model_dump(exclude={"rehearse"})  # noqa: E731
    assert chosen() == {"max_attempts": 7, "grace_s": 2.0}
    assert chosen(**{"max-attempts": 4}) == {"max_attempts": 4, "grace_s": 2.0}
    Path("other.yaml").write_text("grace_s: 9\n")
    assert chosen(config="other.yaml") == {"max_attempts": 3, "grace_s": 9.0}


class _Needs(LauncherSettings):
    partition: str


class _Config(LauncherSettings):
    config: str = ""


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"summary": " "}, "has no summary"),
        ({"Settings": dict}, "not a class of settings"),
        ({"Settings": _Needs}, "partition has no default"),
        ({"Settings": _Config}, "is reserved for the site's file"),
        ({"flags": {"tiem": ("--time",)}}, "'tiem', which is not one of its settings"),
        ({"flags": {"config": "--file"}}, "are not flags"),
    ],
)
def test_declarations_that_make_no_sense(changes: dict[str, object], said: str) -> None:
    body = {"name": "odd", "summary": "odd", "launch": lambda *_: None, **changes}
    with pytest.raises(HarnessError, match=said):
        check_launcher(type("Odd", (Launcher,), body))


@pytest.mark.parametrize("name", LARGEST)
@pytest.mark.parametrize("value", [-1, 10**12, float("nan")])
def test_numbers_that_make_no_sense_are_refused(name: str, value: float, tmp_path: Path) -> None:
    with pytest.raises(HarnessError, match=r"^--\S+ \S+ is not a (whole )?number from 0 to \d+"):
        make_options(tmp_path, None, [], **{name: value})
    assert getattr(make_options(tmp_path, None, [], **{name: 1}), name) == 1


@pytest.mark.parametrize("asked", ["-1", "1.5", "9" * 5000, "²"])
def test_loader_workers_and_cohorts_are_numbers(asked: str) -> None:
    for read in (_loader_workers, largest_cohort):
        with pytest.raises(HarnessError):
            read(asked)


@pytest.mark.parametrize("asked", ["0", "1025", "1000000000", "all"])
def test_the_size_of_a_cohort_has_bounds(asked: str) -> None:
    assert largest_cohort("1024") == 1024
    with pytest.raises(HarnessError, match=rf"^--cohort {asked} is not auto, off or a whole number from 1 to 1024"):
        largest_cohort(asked)
