"""Methods, data sets and machines that misbehave while a run trains: it ends with a word, and nothing lives on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import psutil
import pytest

from harness.launch.base import Options, make_job
from harness.planning.plan import make_plan
from harness.worker import DONE, FAILED, INTERRUPTED
from harness.workspace.folders import StageFolder, Workspace
from tests.end_to_end.tiny import CHANGES, job_of, only_student, tiny_flags, tiny_sweep
from tests.processes import Command, may_mount, python
from tests.processes import harness as run

PLUGIN = """
import os
import subprocess
import time

from methods.base import Method, Term


class _Own(Method):
    summary = "misbehaves in its third iteration"
    terms = {"own": Term(weight=1.0)}
    needs_teacher = False

    def forward(self, step):
        if step.iteration == 2 and self.training:
            self.misbehave()
        return {"own": step.student.logits.square().mean()}


class Leaves(_Own):
    name = "leaves"

    def misbehave(self):
        os._exit(0)


class Interrupts(_Own):
    name = "interrupts"

    def misbehave(self):
        raise KeyboardInterrupt


class Forks(_Own):
    name = "forks"

    def misbehave(self):
        pid = os.fork()
        if pid == 0:
            time.sleep(1000)
        with open("FOLDER/pids", "w") as file:
            file.write(f"{pid} {subprocess.Popen(['sleep', '1000'], start_new_session=True).pid}")


class Comes(_Own):
    name = "comes"

    def misbehave(self):
        with open("FOLDER/who", "a") as file:
            file.write(f"{os.getpid()}\\n")
        os.fork()
"""


def _gone(pid: int) -> bool:
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def test_methods_that_leave_interrupt_and_fork(tmp_path: Path) -> None:
    plugin = tmp_path / "misbehaves.py"
    plugin.write_text(PLUGIN.replace("FOLDER", str(tmp_path)))
    root = tmp_path / "runs"
    methods = "leaves,interrupts,forks,comes,none"
    done = run("sweep", *tiny_flags(root, methods=methods), "--plugin", str(plugin), "--json")
    assert done.returncode == 1, done.stderr
    found = json.loads(run("status", "--workspace", str(root), "--json").stdout)
    states = {one["name"].split()[0]: one for one in found}
    assert {name: one["state"] for name, one in states.items()} == {
        "leaves": "failed", "interrupts": "failed", "forks": "done", "comes": "done", "none": "done",
    }  # fmt: skip
    assert "called os._exit(0)" in states["leaves"]["reason"] and "misbehaves.py" in states["leaves"]["reason"]
    assert "raised KeyboardInterrupt" in states["interrupts"]["reason"]
    assert len((tmp_path / "who").read_text().split()) == 1, "the forked child came out and trained as well"
    for pid in map(int, (tmp_path / "pids").read_text().split()):
        assert _gone(pid), "a process that a method started lives on"


BLOCKS = """
import os
import time

from harness.data.sets.shapes import Shapes


class Blocks(Shapes):
    name = "blocks"

    def split(self, name):
        return _Split(super().split(name))


class _Split:
    def __init__(self, split):
        self._split, self._given = split, 0

    def __len__(self):
        return len(self._split)

    def __getattr__(self, name):
        return getattr(self._split, name)

    def __getitem__(self, index):
        self._given += 1
        if self._given > 14:
            open(os.environ["BLOCKED"], "w").close()
        while self._given > 14:
            try:
                time.sleep(1000)
            except Exception:
                pass
        return self._split[index]
"""


STUCK = """
import subprocess
import time

from methods.base import Method, Term


class Stuck(Method):
    name = "stuck"
    summary = "does not come back from its third iteration, whatever it is asked"
    terms = {"own": Term(weight=1.0)}
    needs_teacher = False

    def forward(self, step):
        if step.iteration == 2 and self.training:
            with open("FOLDER/pid", "w") as file:
                file.write(str(subprocess.Popen(["sleep", "1000"], start_new_session=True).pid))
            while True:
                time.sleep(0.1)
        return {"own": step.student.logits.square().mean()}
"""


def test_a_run_that_is_stuck_is_ended_by_force_when_its_launcher_is_gone(tmp_path: Path) -> None:
    from harness.plugins.load import load_plugins

    plugin = tmp_path / "stuck.py"
    plugin.write_text(STUCK.replace("FOLDER", str(tmp_path)))
    files = load_plugins([plugin])
    plan = make_plan(tiny_sweep(methods=("stuck",)))
    node = only_student(plan)
    options = Options(Workspace(tmp_path), "", device="cpu", threads=1, plugins=files)
    job = make_job(plan, node, options, checkpoint_every=1).write()
    script = (
        "import sys, harness.worker as worker; worker.HEARTBEAT_S, worker.ORPHAN_GRACE_S = 0.2, 1.0; "
        "sys.exit(worker.main(worker.Path(sys.argv[1]), parent_pid=int(sys.argv[2])))"
    )
    launcher = subprocess.Popen(["sleep", "1000"])
    process = Command(["-c", script, str(job), str(launcher.pid)], session=True)
    try:
        end = time.monotonic() + 200
        while not (tmp_path / "pid").is_file() or not (tmp_path / "pid").read_text():
            assert process.poll() is None and time.monotonic() < end
            time.sleep(0.1)
        launcher.kill()
        launcher.wait()
        assert process.wait(100) == INTERRUPTED
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        launcher.kill()
    folder = Workspace(tmp_path).stage(node.key)
    outcome = folder.attempts()[-1].outcome() or {}
    assert outcome["outcome"] == "interrupted" and "did not stop in time" in outcome["reason"]
    assert folder.checkpoint_file.is_file() and _gone(int((tmp_path / "pid").read_text()))


LEAVES = """
import os

from harness.data.sets.shapes import Shapes, ShapesSplit


class Leaves(Shapes):
    name = "leaves_data"

    def split(self, name):
        return _Split(self.params, name)


class _Split(ShapesSplit):
    def __getitem__(self, index):
        if os.environ.get("LEAVES") == "exit":
            os._exit(0)
        if os.environ.get("LEAVES") == "fork" and os.fork() == 0:
            pass  # the child goes on, and comes out of here as a second run
        return super().__getitem__(index)
"""


@pytest.mark.parametrize("how", ["exit", "fork"])
def test_data_set_code_that_ends_or_doubles_the_process(how: str, tmp_path: Path) -> None:
    plugin = tmp_path / "leaves.py"
    plugin.write_text(LEAVES)
    from harness.plugins.load import load_plugins

    dataset = f"leaves_data[size=32,train=12,val=3,test={4 if how == 'exit' else 5}]"
    files = load_plugins([plugin])
    plan = make_plan(tiny_sweep(dataset=dataset, set={**CHANGES, "iterations": 2, "validate_every": 0}))
    node, options = only_student(plan), Options(Workspace(tmp_path), "", device="cpu", threads=1, plugins=files)
    done = python("-m", "harness.worker", str(make_job(plan, node, options).write()), env={"LEAVES": how})
    folder = Workspace(tmp_path).stage(node.key)
    outcomes = [(attempt.outcome() or {}) for attempt in folder.attempts()]
    if how == "exit":
        assert done.returncode == FAILED and not folder.done()
        assert "called os._exit(0)" in outcomes[0]["reason"] and "leaves.py" in outcomes[0]["reason"]
    else:
        assert done.returncode == DONE, done.stderr[-3000:]
        assert folder.done() and len(outcomes) == 1 and len(list(folder.path.glob("record*.json"))) == 1


def _still_s(folder: StageFolder) -> float:
    """Seconds in which a run that has trained has not got on, by its heartbeat."""
    beat = ((attempt := folder.last_attempt()) and attempt.heartbeat()) or {}
    return float(beat["still_s"]) if "iteration" in beat else 0


@pytest.mark.parametrize("loaders", [0, 2])
def test_a_run_that_waits_for_its_data_ends_when_it_is_asked_to(loaders: int, tmp_path: Path) -> None:
    plugin = tmp_path / "blocks.py"
    plugin.write_text(BLOCKS)
    root = tmp_path / "runs"
    from harness.plugins.load import load_plugins

    files = load_plugins([plugin])
    dataset = "blocks[size=32,train=12,val=3,test=4]"
    plan = make_plan(tiny_sweep(dataset=dataset, set={**CHANGES, "iterations": 100_000, "validate_every": 0}))
    node = only_student(plan)
    options = Options(Workspace(root), "", device="cpu", threads=1, plugins=files, loader_workers=loaders)
    job = make_job(plan, node, options, checkpoint_every=0)
    script = (
        "import sys, harness.worker as worker; from harness.system import waiting; worker.HEARTBEAT_S = 0.2; "
        "waiting.LOOK_EVERY_S = 0.1; sys.exit(worker.main(worker.Path(sys.argv[1])))"
    )
    folder, blocked = Workspace(root).stage(node.key), tmp_path / "blocked"
    process = Command(["-c", script, str(job.write())], env={"BLOCKED": str(blocked)}, session=True)
    try:
        end = time.monotonic() + 200
        while not (blocked.is_file() and _still_s(folder) > 1):
            assert process.poll() is None and time.monotonic() < end
            time.sleep(0.1)
        children = [child.pid for child in psutil.Process(process.pid).children(recursive=True)]
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == INTERRUPTED
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    outcome = (folder.attempts()[-1].outcome() or {}) if folder.attempts() else {}
    assert outcome["outcome"] == "interrupted" and "waiting for data (SIGTERM)" in outcome["reason"]
    assert folder.checkpoint_file.is_file(), "what was trained before the wait is lost"
    assert all(_gone(pid) for pid in children)


@pytest.mark.skipif(not may_mount(), reason="no mount of one's own allowed here")
def test_a_run_with_hardly_any_shared_memory_comes_to_its_end(tmp_path: Path) -> None:
    """64 KB, as in a report; a container has 64 MB unless it is given more."""
    plan = make_plan(tiny_sweep(set={**CHANGES, "crop": [160, 160], "iterations": 4, "validate_every": 0}))
    node = only_student(plan)
    job = job_of(plan, node, tmp_path, loader_workers=2)
    script = """
import runpy, sys
from tests.processes import mount
mount("size=64k", "/dev/shm")
runpy.run_module("harness.worker", run_name="__main__")
"""
    done = python("-c", script, str(job.write()))
    assert done.returncode == DONE, done.stderr[-3000:]
    assert "shared memory (/dev/shm" in done.stderr and "--shm-size" in done.stderr
    assert Workspace(tmp_path).stage(node.key).done()
