"""How long planning, submitting and looking take at scale: ten thousand cells, a fake sbatch, no training.

    python benchmarks/launch.py [--seeds 1250]

Runs the real command line in a temporary workspace, and prints a Markdown table. Records are written by hand for half
of the stages, of the size that real ones have, so that `status` reads what it would read on a site.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.harness.launch.slurm.fake_slurm import FakeSlurm  # noqa: E402 - the checkout is not always installed
from tests.results.factory import record_of  # noqa: E402

Timing = tuple[float, float]
"""Seconds by the clock, and of processor time with that of children: on a busy machine only the second means much."""


def run(fake: FakeSlurm, *arguments: str) -> tuple[Timing, str]:
    """How long a command took, and what it printed."""
    env = {**os.environ, **fake.env, "PATH": f"{fake.bin}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    began, used = time.perf_counter(), _processor_s()
    done = subprocess.run(
        [sys.executable, "-m", "harness", *arguments], env=env, capture_output=True, text=True, check=False
    )
    took = (time.perf_counter() - began, _processor_s() - used)
    if done.returncode not in (0, 1):
        raise SystemExit(f"{arguments} -> {done.returncode}\n{done.stdout}{done.stderr}")
    return took, done.stdout


def _processor_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def finish_half(workspace: Path) -> int:
    """Write a record for every other stage."""
    stages, record = sorted((workspace / "stages").iterdir())[::2], record_of("0")
    for folder in stages:
        spec = json.loads((folder / "spec.json").read_text())
        made = record.model_copy(update={"key": folder.name, "spec": spec})
        (folder / "record.json").write_text(made.model_dump_json(indent=1))
    return len(stages)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=1250, help="cells are eight times as many")
    seeds = parser.parse_args().seeds
    with tempfile.TemporaryDirectory() as temporary:
        fake, workspace = FakeSlurm(Path(temporary) / "slurm"), Path(temporary) / "runs"
        sweep = ["sweep", "--methods", "none,kd,pixel_kd,ka", "--strides", "8,16", f"--workspace={workspace}"]
        sweep += ["--seeds", ",".join(map(str, range(seeds))), "--launcher", "slurm", "--partition", "gpu"]
        dry, _ = run(fake, *sweep, "--dry-run", "--json")
        sent, _ = run(fake, *sweep, "--json")
        stages, arrays = len(list((workspace / "stages").iterdir())), len(fake.jobs)
        first, _ = run(fake, "status", f"--workspace={workspace}")
        half = finish_half(workspace)
        second, _ = run(fake, "status", f"--workspace={workspace}")
        as_json, text = run(fake, "status", "--json", f"--workspace={workspace}")
        assert len(json.loads(text)) == stages
    cpus = os.cpu_count()
    print(f"{8 * seeds} cells, {stages} stages, {arrays} jobs sent; {platform.machine()}, {cpus} cores, "
          f"Python {platform.python_version()}, load {os.getloadavg()[0]:.1f}\n")  # fmt: skip
    print("| what | seconds | of processor time |\n|---|---|---|")
    for what, (clock, processor) in (
        ("plan only (`--dry-run --json`)", dry),
        ("plan and submit", sent),
        ("`status`, all queued", first),
        (f"`status`, {half} done", second),
        ("`status --json`, the same", as_json),
    ):
        print(f"| {what} | {clock:.1f} | {processor:.1f} |")


if __name__ == "__main__":
    main()
