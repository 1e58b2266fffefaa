"""A short job before a submission that rehearses stages on a node; the submission waits for it."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

from harness.launch.progress import counting
from harness.launch.slurm import queue as slurm_queue
from harness.launch.slurm.config import SlurmConfig
from harness.launch.slurm.queue import TERMINAL

LIMIT_MIN = 30
"""Time limit of the job, in minutes."""
_POLL_S = 2.0


def run_probe(folder: Path, config: SlurmConfig, rehearsal: Path, count: int, done: Callable[[], int]) -> str:
    """Send the job and wait until all is tried out or it has ended; how it ended, for a sentence.

    Args:
        folder: for its script and its logs.
        rehearsal: file of what it tries out.
        count: how many stages those are.
        done: how many of them have come to an end.

    Raises:
        HarnessError: this is no cluster, or sbatch refused.
    """
    job, cluster = _send(folder, config, rehearsal)
    print(f"job {job} tries {count} stages out on a node; waiting for it", file=sys.stderr, flush=True)
    try:
        with counting(f"job {job}") as progress:
            while (found := done()) < count:
                progress(found, count)
                state = slurm_queue.ask([(job, cluster)]).of(f"{job}_0")
                if state is not None and state.state in TERMINAL:
                    return f"job {job} that tried it out is {state.state.lower()}, see {folder}"
                time.sleep(_POLL_S)
    except KeyboardInterrupt:
        slurm_queue.cancel([job], cluster)
        raise
    return ""


def _send(folder: Path, config: SlurmConfig, rehearsal: Path) -> tuple[str, str]:
    from submitit.core.utils import DelayedSubmission

    from harness.launch.slurm.executor import ArrayExecutor, batch_parameters
    from harness.launch.slurm.task import RehearsalTask

    own = config.resources("student")
    wanted = own.model_copy(update={"gpus": min(1, own.gpus), "nodes": 1})
    flags, srun = wanted.flags(), list(config.srun)
    if wanted.cpus:
        srun.append(f"--cpus-per-task={wanted.cpus}")
        flags["cpus-per-task"] = wanted.cpus
    executor = ArrayExecutor(folder, config.python)
    executor.parameters = batch_parameters(
        flags,
        time=LIMIT_MIN,
        nodes=1,
        ntasks_per_node=1,
        array_parallelism=1,
        signal_delay_s=60,
        setup=list(config.setup) or None,
        srun_args=srun or None,
    )
    return executor.send([DelayedSubmission(RehearsalTask(), str(rehearsal))], f"rehearsal-{rehearsal.stem}")
