"""Curves of real runs, read back with the other board's own reader."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness.cli.app import run
from harness.worker import INTERRUPTED, main
from tests.end_to_end.tiny import After, Never, job_of, make_plan, only_student, stage_folders, tiny_sweep

PLUGIN = '''
import json
from harness.curves.base import CurveSink


class Lines(CurveSink):
    """A file of JSON lines."""

    name = "lines"
    summary = "WORKSPACE/lines.jsonl"

    def begin(self, run):
        self.file = (run.workspace / "lines.jsonl").open("a")
        self.write(begin=run.name, facts=run.facts)

    def scalars(self, iteration, values, time_s):
        self.write(iteration=iteration, **values)

    def end(self, outcome):
        self.write(end=outcome)
        self.file.close()

    def write(self, **values):
        self.file.write(json.dumps(values) + "\\n")
'''


def losses(root: Path) -> list[tuple[int, float]]:
    """What the stage's own events say: (iteration, loss) of its last attempt."""
    (folder,) = stage_folders(root)
    attempt = folder.last_attempt()
    assert attempt
    events = [json.loads(line) for line in attempt.events.read_text().splitlines()]
    return [(event["iteration"], event["loss"]) for event in events if event["event"] == "progress"]


def test_tensorboard_reads_what_the_events_say_also_of_a_resumed_run(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    plan = make_plan(tiny_sweep())
    job = job_of(plan, only_student(plan), tmp_path, log=("tensorboard",)).write()
    assert main(job, stop=After(5)) == INTERRUPTED
    assert main(job, stop=Never()) == 0
    (folder,) = (tmp_path / "tensorboard").iterdir()
    assert folder.name.startswith("student_none_timm_test_efficientnet_linear@16_seed_0-")
    found = EventAccumulator(str(folder))
    found.Reload()
    assert {"loss", "lr", "terms/ce", "validation/miou", "done/miou"} <= set(found.Tags()["scalars"])
    points = [(point.step, point.value) for point in found.Scalars("loss")]
    expected = losses(tmp_path)
    assert points[-len(expected) :] == [(step, pytest.approx(value)) for step, value in expected]
    assert [step for step, _ in points] == sorted({step for step, _ in points})
    (folder,) = stage_folders(tmp_path)
    record = folder.record()
    assert record.metrics and found.Scalars("done/miou")[0].value == pytest.approx(record.metrics.miou)


def test_a_sink_of_one_file_hears_of_a_sweep_and_afterwards(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plugin, plan = tmp_path / "lines.py", make_plan(tiny_sweep())
    plugin.write_text(PLUGIN)
    assert main(job_of(plan, only_student(plan), tmp_path / "w").write(), stop=Never()) == 0
    assert run(["mirror", "lines", "--plugin", str(plugin), "-w", str(tmp_path / "w")]) == 0
    assert "1 stages mirrored to lines" in capsys.readouterr().out
    lines = [json.loads(line) for line in (tmp_path / "w" / "lines.jsonl").read_text().splitlines()]
    assert lines[0]["facts"]["method"] == "none" and lines[-1] == {"end": "done"}
    told = [(line["iteration"], line["loss"]) for line in lines if "loss" in line]
    assert told == losses(tmp_path / "w") and any("validation/miou" in line for line in lines)
    assert run(["mirror", "lines", "--plugin", str(plugin), "-w", str(tmp_path / "w"), "--cell", "zzz"]) == 2


@pytest.mark.parametrize("sink", ["mlflow", "wandb"])
def test_other_boards_where_they_are_installed(tmp_path: Path, sink: str) -> None:
    pytest.importorskip(sink, reason=f"{sink} is not installed")
    plan = make_plan(tiny_sweep())
    assert main(job_of(plan, only_student(plan), tmp_path, log=(sink,)).write(), stop=Never()) == 0
    if sink == "mlflow":
        from mlflow import MlflowClient

        client = MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}")
        (found,) = client.search_runs([e.experiment_id for e in client.search_experiments()])
        points = [(m.step, m.value) for m in client.get_metric_history(found.info.run_id, "loss")]
        assert points == losses(tmp_path) and found.info.status == "FINISHED"
        assert found.data.tags["method"] == "none"
    else:
        (file,) = (tmp_path / "wandb").glob("offline-run-*/*.wandb")
        content = file.read_bytes()
        assert b"validation/miou" in content and b"terms/ce" in content
