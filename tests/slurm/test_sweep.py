"""A sweep on a real SLURM: teacher, translator, students; arrays; the database at the end; nobody logged in."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from tests.slurm.site import Place, Site, harness, rows, same, words

Local = Callable[..., Place]


def _span(record: dict[str, object]) -> tuple[datetime, datetime]:
    return datetime.fromisoformat(str(record["started"])), datetime.fromisoformat(str(record["finished"]))


def test_sweep_returns_at_once_and_fills_the_database_when_the_last_job_ends(site: Site, local: Local) -> None:
    arguments = words("none,kd,ka")
    told = site.sweep(*arguments)
    # The command is over, nothing of it is left, and no stage can be done yet.
    assert not site.place.done() and "updates the database" in told
    site.until_done()
    place = site.place
    assert len(place.plan) == 5 and place.done() == {stage["key"] for stage in place.plan}
    same(place, local(arguments))
    assert sorted(key for key, _ in rows(place)) == sorted(place.done())

    # none waits for nobody and runs beside the teacher, each on a GPU of its own.
    teacher, none = place.key("teacher"), place.key("student", "none")
    devices = {place.read(key, "job.json")["extra"]["cuda_visible_devices"] for key in (teacher, none)}
    assert devices == {"0", "1"}
    (a, b), (c, d) = _span(place.record(teacher)), _span(place.record(none))
    assert max(a, c) < min(b, d)
    # Each stage began after its own parents had ended.
    for stage in place.plan:
        for parent in stage["parents"]:
            assert _span(place.record(parent))[1] <= _span(place.record(stage["key"]))[0]
    record = place.record(none)
    assert record["environment"]["launcher"] == "slurm" and record["environment"]["job"] == place.task(none)

    # Again: nothing is sent.
    assert "nothing to do" in site.sweep(*arguments)


def test_arrays_longer_than_the_site_allows_are_split_and_outlive_the_controller(site: Site, local: Local) -> None:
    """MaxArraySize 5, twelve students; slurmctld is stopped and started while they run."""
    arguments = words("kd", seeds="0,1,2,3,4,5,6,7,8,9,10,11")
    site.sweep(*arguments, "-o", "max_parallel=4")
    sizes = []
    for job in site.place.jobs:
        script = (site.place.submission / f"{job['job']}_submission.sh").read_text()
        sizes.append(next(line.split("=")[1] for line in script.splitlines() if "--array=" in line))
    # One teacher; three arrays of students; the collecting job. Four at once are shared out among the three.
    assert sizes == ["0-0%1", "0-4%1", "0-4%1", "0-1%1", "0-0%1"]
    site.cluster.wait_until(lambda: len(site.place.done()) >= 3, "the first students to end", 600)
    site.cluster.stop_controller()
    unknown = [stage for stage in site.status().values() if stage["state"] == "unknown"]
    assert unknown and all(stage["reason"].startswith("unknown since 2") for stage in unknown)
    site.cluster.start_controller()
    site.until_done()
    assert len(site.place.done()) == 13
    assert len(rows(site.place)) == 13
    same(site.place, local(arguments))
    assert all(len(site.place.attempts(key)) == 1 for key in site.place.done())


def test_site_file_and_dry_run(site: Site, tmp_path: Path) -> None:
    """What `slurm init` writes on a real site is what a sweep there needs."""
    file = tmp_path / "site.yaml"
    done = harness("slurm", "init", f"--file={file}", env=site.cluster.env)
    assert done.returncode == 0, done.stdout + done.stderr
    text = file.read_text()
    assert "partition: gpu\n" in text and "max_array_size: 5 " in text and "gpus: 1 " in text
    arguments = words("none,kd", seeds="0,1,2,3,4,5,6")
    told = site.harness(
        "sweep", *arguments, "--launcher=slurm", f"--slurm-config={file}", "--time=0:30:00", "--dry-run"
    )
    assert "array of 5 student tasks [0-4], time 0:30:00, --partition=gpu --gpus-per-node=1" in told
    assert "waits for afterok:A2_0" in told and not (site.place.folder / "slurm").exists()
    refused = site.harness("sweep", *arguments, "--launcher=slurm", "--partition=nowhere", fails=True)
    assert "invalid partition specified: nowhere" in refused
    assert not site.place.all_jobs


def test_a_rehearsal_on_a_node_comes_first_and_is_remembered(site: Site) -> None:
    """What fails in its first step is said before anything is sent; what went well bounds cohorts."""
    arguments = words("none,kd", iterations=200)
    told = site.sweep(*arguments, "-o", "rehearse=true", "--dry-run")
    assert "tries" not in told and not (site.place.folder / "checks").exists()
    site.sweep(*arguments, "-o", "rehearse=true")
    checks = site.place.folder / "checks"
    trials = [json.loads(file.read_bytes()) for file in (checks / "trials").iterdir()]
    assert sorted(trial["name"].split()[0] for trial in trials) == ["kd", "none", "teacher"]
    assert all(trial["problem"] == "" and trial["own_ms"] > 0 and trial["held_bytes"] > 0 for trial in trials)
    represented = json.loads((checks / "trials_of_stages.json").read_bytes())
    assert set(represented) == {stage["key"] for stage in site.place.plan}
    assert len(list((checks / "jobs").glob("*_submission.sh"))) == 1
    site.sweep(*arguments, "--seeds=0,1", "-o", "rehearse=true")
    assert len(list((checks / "jobs").glob("*_submission.sh"))) == 1, "nothing new was to be tried out"
