"""What can happen to a run on a cluster. Whatever does, it ends with the weights of an uninterrupted one."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from tests.slurm.cluster import Cluster
from tests.slurm.site import Place, Site, rows, same, words

Local = Callable[..., Place]
LONG = words("paced", iterations=16)
"""One student that can be made to take its time."""
PACE = "0.5"


def _key(site: Site) -> str:
    return site.place.key("student")


def _started(site: Site, *options: str, pace: str = PACE, until: int = 5) -> tuple[str, str]:
    """Submit the long student and wait until it trains: (its key, its SLURM task)."""
    site.sweep(*LONG, *options, PACE_S=pace)
    key = _key(site)
    site.until_iteration(key, until)
    return key, site.place.task(key)


def _resumed(site: Site, local: Local, key: str, outcomes: list[str]) -> None:
    """The stage is done, by these attempts, each going on where the one before stopped; all as on one machine."""
    site.until_done()
    attempts = site.place.attempts(key)
    assert [a.get("outcome") for a in attempts] == outcomes, attempts
    stands = [a["resumed_at"] for a in attempts]
    assert stands[0] == 0 and all(a < b for a, b in pairwise(stands)), stands
    record = site.place.record(key)
    assert record["training"]["samples_seen"] == 16 * 4 and len(record["attempts"]) == len(outcomes)
    same(site.place, local(LONG), {key})
    assert rows(site.place) == [(key, "student")]


@pytest.fixture(scope="module", autouse=True)
def time_limit(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A run that needs longer than its limit of two minutes, begun before the other tests so that it costs no time.

    SLURM signals up to a minute earlier than it is asked to: a limit of one minute would leave none on a slow machine.
    No checkpoint is written but at the signal.
    """
    site = Site(cluster, Place(tmp_path_factory.mktemp("limit") / "runs"))
    site.sweep(*LONG, "--checkpoint-every=1000", "-o", "time=2", "-o", "gpus=0", PACE_S="7")
    yield site
    cluster.try_run("scancel", *[job["job"] for job in site.place.jobs])


def test_requeued_task_goes_on_where_it_stopped(site: Site, local: Local) -> None:
    key, task = _started(site)
    site.cluster.run("scontrol", "requeue", task)
    _resumed(site, local, key, ["interrupted", "done"])


def test_preempted_task_goes_on_where_it_stopped(site: Site, local: Local) -> None:
    key, _ = _started(site)
    urgent = site.cluster.run("sbatch", "--parsable", "--partition=high", "--gpus=2", "--output=/dev/null",
                              "--wrap", "sleep 3").strip()  # fmt: skip
    site.cluster.wait_for_state(urgent, "RUNNING")
    assert site.status()[key]["state"] in ("queued", "running")
    _resumed(site, local, key, ["preempted", "done"])


def test_where_preemption_cancels_the_task_puts_itself_back(
    start_cluster: Callable[..., Cluster], tmp_path: Path, local: Local
) -> None:
    cluster = start_cluster(preempt="CANCEL")
    site = Site(cluster, Place(tmp_path / "runs"))
    key, _ = _started(site)
    cluster.run("sbatch", "--partition=high", "--gpus=2", "--output=/dev/null", "--wrap", "sleep 3")
    cluster.wait_until(lambda: len(site.place.attempts(key)) == 2, "a second attempt", 400)
    _resumed(site, local, key, ["preempted", "done"])
    cluster.stop()


def test_killed_worker_goes_on_in_the_same_job(site: Site, local: Local) -> None:
    key, _ = _started(site, until=6)
    os.kill(site.place.attempts(key)[-1]["pid"], signal.SIGKILL)
    _resumed(site, local, key, ["interrupted", "done"])
    assert "SIGKILL" in site.place.attempts(key)[0]["reason"]


def test_killed_step_is_told_and_retried(site: Site, local: Local) -> None:
    key, task = _started(site, until=6)
    # The step alone: all processes of the run die at once, and nobody is left to say why.
    site.cluster.run("scancel", "--signal=KILL", f"{task}.0")
    site.until_done()
    stage = site.status()[key]
    # The attempt still seems alive for a minute, whose end is brought forward here; nothing is called done.
    assert stage["state"] in ("running", "failed"), stage
    site.place.silence(key)
    stage = site.status()[key]
    assert stage["state"] == "failed" and task in stage["reason"], stage
    site.harness("retry", "--failed", PACE_S="0")
    site.until_done()
    assert site.place.task(key) != task
    same(site.place, local(LONG), {key})
    assert rows(site.place) == [(key, "student")]


def test_cancel_then_retry_with_more_time(site: Site, local: Local) -> None:
    key, task = _started(site)
    assert task in site.harness("cancel", "--all")
    site.until_done()
    stage = site.status()[key]
    assert stage["state"] == "interrupted" and "cancelled" in stage["reason"], stage
    assert site.place.attempts(key)[-1]["reason"] == "the job was cancelled"
    site.harness("retry", "--time", "2:00:00", "--mem", "3G", PACE_S="0")
    job = site.cluster.job(site.place.task(key))
    assert job["TimeLimit"] == "02:00:00" and job["MinMemoryNode"] == "3G"
    _resumed(site, local, key, ["interrupted", "done"])


def test_time_limit(time_limit: Site, local: Local) -> None:
    """A limit under ten minutes, which submitit alone would take for a time-out at every preemption."""
    site = time_limit
    site.until_done()
    key = _key(site)
    assert site.place.done() == {key}, site.status()
    outcomes = [a["outcome"] for a in site.place.attempts(key)]
    assert set(outcomes[:-1]) == {"timeout"} and outcomes[-1] == "done", outcomes
    _resumed(site, local, key, outcomes)


def test_a_cohort_goes_on_where_each_of_its_members_stopped(site: Site, local: Local) -> None:
    """Two students in one task: requeued, then their process killed, then one of them alone is left to do."""
    arguments = words("none,paced", iterations=16)
    site.sweep(*arguments, "--cohort", "2", PACE_S=PACE)
    slow, quick = site.place.key("student", "paced"), site.place.key("student", "none")
    site.until_iteration(slow, 5)
    assert site.place.task(slow) == site.place.task(quick)
    site.cluster.run("scontrol", "requeue", site.place.task(slow))
    site.cluster.wait_until(lambda: len(site.place.attempts(quick)) == 2, "a second attempt", 400)
    site.until_iteration(slow, 8)
    os.kill(site.place.attempts(slow)[-1]["pid"], signal.SIGKILL)
    site.until_done()
    for key in (slow, quick):
        outcomes = [attempt.get("outcome") for attempt in site.place.attempts(key)]
        assert outcomes == ["interrupted", "interrupted", "done"], outcomes
        assert site.place.record(key)["training"]["shared_by"] == 2
    same(site.place, local(arguments), {slow, quick})
