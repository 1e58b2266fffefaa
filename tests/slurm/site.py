"""A user at a SLURM site: runs `harness` there, looks into the workspace, compares with the local launcher."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from tests.slurm.cluster import Cluster

ROOT = Path(__file__).resolve().parents[2]
PACED = Path(__file__).with_name("paced.py")
COMMON = (
    "--dataset=shapes[size=32,train=16,val=4,test=4]", "--recipe=quick", "--weights=random",
    "--teacher-weights=random", "--students=timm:mobilenetv2_050", "--strides=16", "--device=cpu",
    "--teachers=timm:mobilenetv2_050/linear@16", "--set=teacher.iterations=6", "--set=translator.iterations=4",
    "--set=teacher.batch_size=4", "--set=translator.batch_size=4", "--set=student.batch_size=4",
    "--checkpoint-every=4", f"--plugin={PACED}",
)  # fmt: skip
"""The smallest world in which everything is real."""


def words(methods: str, iterations: int = 6, **more: str) -> list[str]:
    """The arguments of a sweep."""
    extra = [f"--{name.replace('_', '-')}={value}" for name, value in more.items()]
    return [*COMMON, f"--methods={methods}", f"--set=student.iterations={iterations}", *extra]


def harness(
    *arguments: str, env: dict[str, str], root: Path = ROOT, timeout_s: float = 900
) -> subprocess.CompletedProcess[str]:
    """Run the command line of the code under `root`."""
    return subprocess.run(
        [sys.executable, "-m", "harness", *arguments],
        env={**env, "PYTHONPATH": str(root), "COLUMNS": "250", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        cwd=root,
        timeout=timeout_s,
        check=False,
    )


@dataclass
class Place:
    """A workspace."""

    folder: Path

    @cached_property
    def plan(self) -> list[dict[str, Any]]:
        """The stages that were planned here."""
        stages = {}
        for file in sorted((self.folder / "sweeps").glob("*.json")):
            stages |= {stage["key"]: stage for stage in json.loads(file.read_text())["stages"]}
        return list(stages.values())

    def key(self, kind: str, text: str = "") -> str:
        """The one stage of a kind whose name holds a text."""
        found = [stage["key"] for stage in self.plan if stage["kind"] == kind and text in stage["name"]]
        assert len(found) == 1, (kind, text, self.plan)
        return str(found[0])

    def stage(self, key: str) -> Path:
        """The folder of a stage."""
        return self.folder / "stages" / key

    def read(self, key: str, name: str) -> Any:
        """A JSON file of a stage."""
        return json.loads((self.stage(key) / name).read_text())

    def record(self, key: str) -> dict[str, Any]:
        """The record of a stage."""
        return dict(self.read(key, "record.json"))

    def done(self) -> set[str]:
        """Keys of the stages that have a record."""
        return {file.parent.name for file in self.folder.glob("stages/*/record.json")}

    def iteration(self, key: str) -> int:
        """Where the latest attempt at a stage stands."""
        events = sorted(self.stage(key).glob("attempts/[0-9]*/events.jsonl"), key=lambda p: int(p.parent.name))
        if not events:
            return 0
        lines = [json.loads(line) for line in events[-1].read_text().splitlines() if line.endswith("}")]
        return max((line.get("iteration", 0) for line in lines), default=0)

    def attempts(self, key: str) -> list[dict[str, Any]]:
        """All attempts at a stage: how they began and how they ended."""
        folders = sorted(
            (f for f in (self.stage(key) / "attempts").iterdir() if f.name.isdigit()), key=lambda f: int(f.name)
        )
        read = [[json.loads(f.read_text()) if f.is_file() else {} for f in _halves(folder)] for folder in folders]
        return [{**begun, **ended} for begun, ended in read]

    def silence(self, key: str) -> None:
        """Let a minute pass since the latest heartbeat of a stage's attempts."""
        for sign in self.stage(key).glob("attempts/*/heartbeat"):
            os.utime(sign, (0, 0))

    @property
    def submission(self) -> Path:
        """The latest submission."""
        return sorted((self.folder / "slurm").iterdir())[-1]

    @property
    def jobs(self) -> list[dict[str, Any]]:
        """What SLURM took in the latest submission."""
        return [json.loads(line) for line in (self.submission / "jobs.jsonl").read_text().splitlines()]

    @property
    def all_jobs(self) -> list[str]:
        """Ids of all that SLURM ever took from this workspace."""
        files = sorted(self.folder.glob("slurm/*/jobs.jsonl"))
        lines = [json.loads(line) for file in files for line in file.read_text().splitlines()]
        return [line["job"] for line in lines if "job" in line]

    def task(self, key: str) -> str:
        """SLURM's task of a stage, in the latest submission."""
        request = json.loads((self.submission / "request.json").read_text())
        for job in self.jobs:
            for index, task in enumerate(request["arrays"][job["array"]]["tasks"] if "array" in job else []):
                if key in task["stages"]:
                    return f"{job['job']}_{index}"
        raise AssertionError(f"{key} was not sent")


def _halves(folder: Path) -> tuple[Path, Path]:
    return folder / "attempt.json", folder / "outcome.json"


@dataclass
class Site:
    """A cluster and a workspace on it."""

    cluster: Cluster
    place: Place
    root: Path = ROOT

    def harness(self, *arguments: str, fails: bool = False, **env: str) -> str:
        """Run a command in this workspace and return what it printed."""
        folder = f"--workspace={self.place.folder}"
        done = harness(*arguments, folder, env={**self.cluster.env, **env}, root=self.root)
        assert (done.returncode != 0) == fails, f"{arguments} -> {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout + done.stderr

    def sweep(self, *arguments: str, **env: str) -> str:
        """Submit a sweep."""
        return self.harness("sweep", "--launcher=slurm", "-o", "cpus=1", "-o", "time=30", *arguments, **env)

    def status(self) -> dict[str, dict[str, Any]]:
        """Key -> what `harness status` says."""
        done = harness("status", "--json", f"--workspace={self.place.folder}", env=self.cluster.env, root=self.root)
        return {stage["key"]: stage for stage in json.loads(done.stdout)}

    def until_done(self, timeout_s: float = 900) -> None:
        """Wait until all jobs of this workspace have ended, the collecting ones too."""
        self.cluster.wait_until_ended(self.place.all_jobs, timeout_s)

    def until_iteration(self, key: str, iteration: int, timeout_s: float = 600) -> None:
        """Wait until a stage has come so far."""
        self.cluster.wait_until(
            lambda: self.place.iteration(key) >= iteration, f"{key} to reach iteration {iteration}", timeout_s
        )


def rows(place: Place) -> list[tuple[str, str]]:
    """(key, weights) of every row of the database."""
    import sqlite3

    with sqlite3.connect(f"file:{place.folder / 'results.db'}?mode=ro", uri=True) as database:
        return list(database.execute("select key, kind from runs order by key"))


def same(one: Place, other: Place, keys: set[str] | None = None) -> None:
    """The stages ended alike: weights bit for bit, metrics, samples seen."""
    keys = one.done() if keys is None else keys
    assert keys <= one.done() & other.done(), (keys - one.done(), keys - other.done())
    for key in keys:
        a, b = one.record(key), other.record(key)
        assert a["artefacts"]["weights.safetensors"] == b["artefacts"]["weights.safetensors"], (key, a["name"])
        assert a["metrics"] == b["metrics"], (key, a["name"])
        for name in ("iterations", "samples_seen", "loss_last", "terms"):
            assert a["training"][name] == b["training"][name], (key, name)


def host_environment() -> dict[str, str]:
    """The environment of this machine, without any SLURM."""
    return {k: v for k, v in os.environ.items() if not k.startswith(("SLURM", "SBATCH", "HARNESS_"))}
