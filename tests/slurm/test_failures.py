"""What goes wrong for good, and what a user is told of it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from tests.slurm.cluster import Cluster
from tests.slurm.site import ROOT, Place, Site, rows, same, words

Local = Callable[..., Place]
PACKAGES = ("harness", "methods", "backbones", "results")


def test_failing_teacher_blocks_its_own_students_alone(site: Site, local: Local) -> None:
    arguments = words("kd", teachers="timm:mobilenetv2_050/linear@16,timm:mobilenetv2_050/linear@32")
    # Held, so that a teacher can be broken before it begins: a folder stands where its weights belong.
    site.sweep(*arguments, "-o", "sbatch.hold=true")
    place = site.place
    good, bad = place.key("teacher", "@16"), place.key("teacher", "@32")
    (place.stage(bad) / "weights.safetensors").mkdir()
    for job in place.jobs:
        site.cluster.run("scontrol", "release", job["job"])
    site.until_done()
    stages = site.status()
    failed = [s for s in stages.values() if s["state"] == "failed"]
    blocked = [s for s in stages.values() if s["state"] == "blocked"]
    assert [s["key"] for s in failed] == [bad] and len(blocked) == 1
    assert "teacher timm:mobilenetv2_050/linear@32 failed" in blocked[0]["reason"]
    assert len(place.done()) == 2 and good in place.done()
    assert sorted(key for key, _ in rows(place)) == sorted(place.done())

    # Mended and sent again: the blocked one brings its teacher along.
    (place.stage(bad) / "weights.safetensors").rmdir()
    site.harness("retry", "--blocked", "-o", "sbatch.hold=false")
    site.until_done()
    same(place, local(arguments))
    assert len(place.done()) == 4 == len(rows(place))


def test_nan_is_not_tried_again(site: Site) -> None:
    site.sweep(*words("paced", iterations=16), PACE_NAN_AT="3")
    site.until_done()
    key = site.place.key("student")
    stage = site.status()[key]
    assert stage["state"] == "failed" and "nan at iteration 3" in stage["reason"]
    assert len(site.place.attempts(key)) == 1


def test_out_of_memory_is_named_and_not_tried_again(start_cluster: Callable[..., Cluster], tmp_path: Path) -> None:
    cluster = start_cluster(over_memory_kill=True)
    site = Site(cluster, Place(tmp_path / "runs"))
    site.sweep(*words("paced", iterations=16), "-o", "mem=120M")
    site.until_done()
    key = site.place.key("student")
    site.place.silence(key)
    stage = site.status()[key]
    assert stage["state"] == "failed" and "out of memory" in stage["reason"], stage
    assert len(cluster.jobs()) == 2
    cluster.stop()


def test_code_that_changed_while_queued_is_refused_unless_a_snapshot_was_made(site: Site, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    for package in PACKAGES:
        shutil.copytree(ROOT / package, tree / package, ignore=shutil.ignore_patterns("__pycache__"))
    plain, frozen = site, Site(site.cluster, Place(tmp_path / "frozen"))
    arguments = words("paced", iterations=4)
    for one, options in ((plain, ()), (frozen, ("-o", "snapshot=true"))):
        one.root = tree
        one.sweep(*arguments, "-o", "sbatch.hold=true", *options)
    changed = tree / "harness" / "training" / "schedule.py"
    changed.write_text(changed.read_text() + "\n# changed\n")
    for one in (plain, frozen):
        site.cluster.run("scontrol", "release", one.place.jobs[0]["job"])
    for one in (plain, frozen):
        one.until_done()
    key = plain.place.key("student")
    stage = plain.status()[key]
    assert stage["state"] == "failed" and "the code changed since" in stage["reason"]
    assert frozen.place.done() == {key}


def test_several_processes_and_cohorts(site: Site, local: Local) -> None:
    """Two GPUs for one run are two processes of one group; students of one seed are one task, as alone."""
    site.sweep(*words("paced", iterations=4), "-o", "gpus_per_run=2")
    site.until_done()
    key = site.place.key("student")
    record = site.place.record(key)
    # Both processes take part: each iteration sees one batch, half of it in either, or one batch each.
    assert record["training"]["samples_seen"] in (4 * 4, 4 * 4 * 2)
    assert len(site.place.attempts(key)) == 1
    script = (site.place.submission / f"{site.place.jobs[0]['job']}_submission.sh").read_text()
    assert "#SBATCH --ntasks-per-node=2" in script and "#SBATCH --gpus-per-node=2" in script

    packed = Site(site.cluster, Place(site.place.folder.with_name("packed")))
    arguments = words("none,kd,cwd", seeds="0,1")
    packed.sweep(*arguments, "--cohort", "3")
    packed.until_done()
    same(packed.place, local(arguments))
    assert len(packed.place.done()) == 7
    shared = [packed.place.record(key)["training"]["shared_by"] for key in packed.place.done()]
    assert sorted(shared) == [1, 3, 3, 3, 3, 3, 3]
