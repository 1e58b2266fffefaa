"""Whole commands of the harness, timed from the outside; for other benchmarks."""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import resource
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_SUBREAPER = 36
"""PR_SET_CHILD_SUBREAPER of prctl(2): processes whose parents have ended are waited for here."""


def sweep_parser(description: str | None) -> argparse.ArgumentParser:
    """A parser with the flags of a small sweep."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", default="all")
    parser.add_argument("--strides", default="16,32")
    parser.add_argument("--student", default="timm:mobilenetv2_100/linear")
    parser.add_argument("--teacher", default="timm:resnet50/aspp@8")
    parser.add_argument("--dataset", default="shapes[size=128,train=64,val=4,test=8]")
    parser.add_argument("--iterations", type=int, default=40)
    parser.add_argument("--crop", type=int, default=128)
    parser.add_argument("--batch", type=int, default=4)
    return parser


@dataclass
class Run:
    """Seconds of one sweep with all processes that it started, and its records."""

    elapsed: float
    processor: float
    records: list[dict[str, Any]]

    @property
    def weights(self) -> dict[str, str]:
        """Name of each stage -> sha256 of its weights."""
        return {record["name"]: record["artefacts"]["weights.safetensors"] for record in self.records}


def sweep(words: Sequence[str], tree: Path | None = None) -> Run:
    """Run `harness sweep` in a temporary workspace.

    Args:
        tree: the checkout whose code runs; by default, the installed one.

    Raises:
        SystemExit: it failed.
    """
    ctypes.CDLL(None).prctl(_SUBREAPER, 1, 0, 0, 0)
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "harness", "sweep", *words, "--workspace", folder]
        code = {"PYTHONPATH": str(tree.resolve())} if tree else {}
        before, began = _processor_s(), time.perf_counter()
        process = os.fork()
        if process == 0:
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, 1)
            if tree:
                os.chdir(tree)  # `python -m` looks into the current folder first
            os.execve(command[0], command, {**os.environ, **code})
        status, elapsed = os.waitpid(process, 0)[1], time.perf_counter() - began
        _wait_for_all()
        if status:
            raise SystemExit(f"{' '.join(command)} ended with status {status}")
        records = [json.loads(file.read_bytes()) for file in sorted(Path(folder).glob("stages/*/record.json"))]
        return Run(elapsed, _processor_s() - before, records)


def _processor_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _wait_for_all() -> None:
    while True:
        try:
            os.wait()
        except ChildProcessError:
            return
