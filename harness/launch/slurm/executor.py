"""Submit arrays through submitit, with its batch scripts, pickles and checkpointing, and with our dependencies."""

from __future__ import annotations

import re
import shutil
import subprocess
import time
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from submitit import SlurmExecutor
from submitit.core.utils import DelayedSubmission, JobPaths

from harness.errors import Exit, HarnessError
from harness.launch.slurm.queue import SlurmUnavailable, call

_ENDLESS = 1_000_000
"""Maximum of time-outs for submitit; the task counts attempts itself, since it can recognise preemptions."""
_TRANSIENT = re.compile(
    r"socket timed out|unable to contact|connection refused|temporarily|zero bytes were transmitted|connect failure",
    re.IGNORECASE,
)
_TRIES, _PAUSE_S = 4, 3.0
_SBATCH_S = 120.0


class Refused(HarnessError):
    """sbatch refused a job; the message is sbatch's full output."""

    exit_code = Exit.FAILED


class ArrayExecutor(SlurmExecutor):
    """submitit's executor, which always submits arrays, even of a single task, so that all task ids have one form.

    Args:
        folder: folder for scripts, pickles and logs, on a shared file system.
        python: command that starts Python in the job; empty for the current Python.
    """

    def __init__(self, folder: Path, python: str = "") -> None:
        if shutil.which("sbatch") is None or shutil.which("srun") is None:
            raise HarnessError(
                "this is not a SLURM cluster: sbatch and srun are not installed",
                "use --launcher local, or log in to one",
            )
        if "%" in str(folder):
            raise HarnessError(f"the workspace {folder} has a % in its path, which SLURM replaces", "name another one")
        super().__init__(folder, max_num_timeout=_ENDLESS, python=python or None)

    def send(self, calls: Sequence[DelayedSubmission], name: str) -> tuple[str, str]:
        """Submit one array.

        Args:
            calls: the calls of its tasks.
            name: name of the job, unique to this array, by which the array is found if sbatch's answer is lost.

        Returns:
            (id, cluster); cluster is "" if there is only one.

        Raises:
            Refused: sbatch refuses it.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        self.parameters["job_name"] = name
        self.parameters["map_count"] = len(calls)
        mark = uuid.uuid4().hex
        pickles = [self.folder / f".{mark}_{index}.pkl" for index in range(len(calls))]
        for pickle, delayed in zip(pickles, calls, strict=True):
            delayed.set_timeout(int(self.parameters.get("time", 5)), self.max_num_timeout)
            delayed.dump(pickle)
        script = self.folder / f".{mark}.sh"
        script.write_text(self._make_submission_file_text(self._submitit_command_str, mark))
        try:
            job, cluster = sbatch(script, name)
        except HarnessError:
            for left in (*pickles, script):
                left.unlink(missing_ok=True)
            raise
        for index, pickle in enumerate(pickles):
            pickle.rename(JobPaths(self.folder, job_id=f"{job}_{index}").submitted_pickle)
        script.rename(self.folder / f"{job}_submission.sh")
        return job, cluster


def sbatch(script: Path, name: str) -> tuple[str, str]:
    """Submit a script; return (job, cluster). Retries if the controller is unavailable, without submitting twice.

    Raises:
        Refused: with sbatch's full output.
    """
    for attempt in range(_TRIES):
        if attempt:
            time.sleep(_PAUSE_S * attempt)
            if found := _already_there(name):
                return found
        try:
            done = subprocess.run(
                ["sbatch", "--parsable", str(script)],
                capture_output=True,
                text=True,
                timeout=_SBATCH_S,
                check=False,
                errors="replace",
            )
        except subprocess.TimeoutExpired:
            said = f"sbatch did not answer within {_SBATCH_S:.0f} s"
            continue
        said = (done.stderr + done.stdout).strip()
        if done.returncode == 0:
            return read_parsable(done.stdout)
        if not _TRANSIENT.search(said):
            break
    raise Refused(f"sbatch refused {name}:\n{said}", _advice(said))


def read_parsable(text: str) -> tuple[str, str]:
    """(job, cluster) from `sbatch --parsable`, which prints `12` or `12;cluster`; other lines are skipped.

    Raises:
        Refused: there is no job id in it.
    """
    for line in reversed(text.splitlines()):
        if found := re.fullmatch(r"(?:Submitted batch job )?(\d+)(?:;([\w.-]+))?", line.strip()):
            return found[1], found[2] or ""
    raise Refused(f"sbatch gave no job id:\n{text.strip()}", "does a wrapper of the site change what sbatch prints?")


def _already_there(name: str) -> tuple[str, str] | None:
    """The array of that name, if SLURM accepted it although its answer was lost."""
    try:
        lines = call(["squeue", "--noheader", "--states=all", f"--name={name}", "--format=%F"]).split()
    except SlurmUnavailable:
        return None
    return (lines[0], "") if lines and lines[0].isdigit() else None


def _advice(said: str) -> str:
    for pattern, advice in (
        (r"partition", "choose one of sinfo's with --partition, or write site defaults with harness slurm init"),
        (r"account|association", "choose an account with -o account=NAME"),
        (r"time limit", "ask for less with --time"),
        (r"memory", "ask for less with --mem"),
        (r"submit|MaxJob|limit|QOS", "send fewer stages at once, or wait until some have ended"),
        (r"gres|gpu|node configuration", "see how the site spells GPUs: -o gpu_flag=gres, -o gpu_type=NAME"),
        (r"array", "set -o max_array_size=N"),
    ):
        if re.search(pattern, said, re.IGNORECASE):
            return advice
    return "see docs/slurm.md"


def batch_parameters(flags: Mapping[str, Any], **named: Any) -> dict[str, Any]:
    """Parameters of submitit: its own names, and other flags of sbatch unchanged."""
    return {**named, "additional_parameters": dict(flags)}
