"""What a sweep takes in lock-step and one by one, whole commands timed.

    python benchmarks/cohort.py [--methods all] [--strides 16,32] [--iterations 40] [--crop 128] [--batch 4]

The teacher and the translators are trained first, once, and their time is told apart. Then the students of one seed
are trained by two commands, turn about: `harness sweep --cohort off` (each in a process of its own, one after the
other) and `--cohort auto`, both with one worker, on copies of the same workspace. Their weights are compared, file by
file. Beside them stand the students' own training (forward and backward pass, terms, optimisers; from the records),
and what as many students cost without any distillation (`none`). Nothing is downloaded: weights are random.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch


def sweep(asked: argparse.Namespace, workspace: Path, methods: str, *flags: str) -> float:
    """Run `harness sweep`; its seconds, from the shell's prompt to the next."""
    words = [
        f"--methods={methods}", f"--strides={asked.strides}", f"--students={asked.student}",
        f"--teachers={asked.teacher}", f"--dataset={asked.dataset}", "--recipe=quick",
        f"--set=crop=[{asked.crop},{asked.crop}]", f"--set=batch_size={asked.batch}",
        f"--set=iterations={asked.iterations}", f"--workspace={workspace}", "--workers=1", f"--device={asked.device}",
    ]  # fmt: skip
    started = time.perf_counter()
    command = [sys.executable, "-m", "harness", "sweep", *words, *flags]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=os.environ)
    return time.perf_counter() - started


def records(workspace: Path, kind: str = "student") -> dict[str, dict[str, object]]:
    """The records of a kind of stage, by key."""
    found = [json.loads(file.read_text()) for file in workspace.glob("stages/*/record.json")]
    return {record["key"]: record for record in found if record["kind"] == kind}


def drop_students(workspace: Path) -> None:
    """Take the students away; teacher and translators stay."""
    for key in records(workspace):
        shutil.rmtree(workspace / "stages" / key)
    for file in workspace.glob("results.db*"):
        file.unlink()


def own_seconds(found: dict[str, dict[str, object]]) -> float:
    """Seconds of the students' own training."""
    parts = [record["training"] for record in found.values()]
    return sum(part["own_ms"] * part["iterations"] for part in parts) / 1000  # type: ignore[index]


def none_seconds(found: dict[str, dict[str, object]]) -> float:
    """Seconds that as many students would take without distillation: each as `none` at its stride."""
    alone = {record["cell"]["stride"]: record["training"]["own_ms"] for record in found.values()  # type: ignore[index]
             if record["cell"]["method"] == "none"}  # type: ignore[index]  # fmt: skip
    return sum(alone[r["cell"]["stride"]] * r["training"]["iterations"] for r in found.values()) / 1000  # type: ignore[index]


def main() -> None:
    """Parse the flags, measure, print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", default="all")
    parser.add_argument("--strides", default="16,32")
    parser.add_argument("--student", default="timm:mobilenetv2_100/linear")
    parser.add_argument("--teacher", default="timm:resnet50/aspp@8")
    parser.add_argument("--dataset", default="shapes[size=128,train=64,val=4,test=8]")
    parser.add_argument("--iterations", type=int, default=40)
    parser.add_argument("--crop", type=int, default=128)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    asked = parser.parse_args()
    times: dict[str, list[float]] = {"off": [], "auto": []}
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder) / "base"
        # The students that need a translator are the reason for it: they are trained, and taken away again.
        shared = sweep(asked, base, "ka,ka_torchdistill,maskd" if asked.methods == "all" else asked.methods)
        drop_students(base)
        found: dict[str, dict[str, dict[str, object]]] = {}
        for _ in range(asked.rounds):
            for choice in times:
                place = Path(folder) / choice
                shutil.rmtree(place, ignore_errors=True)
                shutil.copytree(base, place)
                times[choice].append(sweep(asked, place, f"none,{asked.methods}", f"--cohort={choice}"))
                found[choice] = records(place)
    weights = [{k: r["artefacts"]["weights.safetensors"] for k, r in f.items()} for f in found.values()]  # type: ignore[index]
    seconds = {choice: statistics.median(values) for choice, values in times.items()}
    students = found["auto"]
    print(f"{len(students)} students ({asked.methods}; strides {asked.strides}) of {asked.student}")
    print(
        f"teacher {asked.teacher}; {asked.iterations} iterations of {asked.batch} crops of {asked.crop} x {asked.crop}"
    )
    print(
        f"{asked.device}, {platform.machine()}, torch {torch.__version__}; weights equal: {weights[0] == weights[1]}\n"
    )
    print("| | s | of one by one |\n|---|---:|---:|")
    rows = {
        "one by one (`--cohort off`)": seconds["off"],
        "in lock-step (`--cohort auto`)": seconds["auto"],
        "the students' own training": own_seconds(students),
        "as many students without distillation": none_seconds(students),
    }
    for name, value in rows.items():
        print(f"| {name} | {value:.0f} | {value / seconds['off']:.2f} |")
    print(f"\nteacher, translators and the students that asked for them, before: {shared:.0f} s")


if __name__ == "__main__":
    main()
