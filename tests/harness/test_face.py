"""`import harness`: a sweep from Python takes, does and returns what the command line does."""

from __future__ import annotations

import re
import signal
from pathlib import Path
from typing import Any

import pytest

import harness
from harness.cli.app import run
from harness.errors import HarnessError
from harness.launch.keywords import ASKED, KEYWORDS
from harness.planning.parse_sweep import sweep_spec
from harness.specs.spec import SweepSpec
from harness.workspace.files import read_json
from tests.end_to_end.tiny import CHANGES, DATASET, STUDENT, TEACHER, tiny_flags
from tests.processes import Command, python

ROOT = Path(__file__).resolve().parents[2]
SMALL: dict[str, Any] = {
    "students": STUDENT, "teachers": TEACHER, "dataset": DATASET, "recipe": "quick", "set": CHANGES, "device": "cpu",
}  # fmt: skip


def test_the_example_of_the_documentation_runs(tmp_path: Path) -> None:
    """As a script, without a guard around what it does."""
    (example,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "python.md").read_text(), re.DOTALL)
    file = tmp_path / "script.py"
    file.write_text(example)
    done = python(str(file), cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("PlannedSweep") == 1, "a worker ran the script again"
    assert "delta" in done.stdout and "teacher timm:test_resnet" in done.stdout
    assert "stages to run" in done.stderr and "done" in done.stderr


def test_every_field_of_a_sweep_has_a_keyword_and_no_other_has() -> None:
    assert set(ASKED) == set(SweepSpec.model_fields) - {"methods"}
    assert len(KEYWORDS) == len(set(KEYWORDS))


def test_lists_and_texts_ask_for_the_same_sweep(tmp_path: Path) -> None:
    lists = harness.plan(
        ["none", "ka[beta=1|10]"], strides=(8, 16), seeds=range(2), set={"student": {"iterations": 5}},
        workspace=tmp_path,
    )  # fmt: skip
    texts = harness.plan("none,ka[beta=1|10]", strides="8,16", seeds="0,1", set=["student.iterations=5"])
    flags = {"methods": "none,ka[beta=1|10]", "strides": "8,16", "seeds": "0,1", "set": ["student.iterations=5"]}
    assert lists.plan.sweep == texts.plan.sweep == sweep_spec(flags, None)
    assert list(lists.plan.nodes) == list(texts.plan.nodes)


@pytest.mark.parametrize(
    ("keywords", "said"),
    [
        ({"method": "ka"}, "a sweep has no keyword 'method'.*did you mean methods"),
        ({"stride": 8}, "a sweep has no keyword 'stride'.*did you mean strides"),
        ({"methods": "kaa"}, "did you mean"),
        ({"strides": [8, "x"]}, "^strides: 'x' is not a whole number"),
        ({"strides": [8.5]}, "^strides: 8.5 is not valid here"),
        ({"seeds": [True]}, "^seeds: True is not valid here"),
        ({"launcher": "slrum"}, "slurm"),
        ({"set": {"speed": 3}}, "speed"),
        ({"set": 5}, "^set: 5 is not a change"),
        ({"methods": "none", "students": "timm:resnet18", "strides": 4}, "every cell is skipped"),
    ],
)
def test_wrong_words_are_named_with_their_remedy(keywords: dict[str, Any], said: str, tmp_path: Path) -> None:
    with pytest.raises(HarnessError) as caught:
        harness.plan(**{"workspace": tmp_path, **keywords})
    assert re.search(said, str(caught.value)), str(caught.value)
    assert not list(tmp_path.iterdir())


def test_a_plan_looks_and_writes_nothing(tmp_path: Path) -> None:
    planned = harness.plan("none,kd", seeds=[0, 1], workspace=tmp_path / "runs", **SMALL)
    table = planned.stages()
    assert list(table["kind"]).count("student") == 4 and list(table["kind"]).count("teacher") == 1
    assert not table["done"].any() and set(table["key"]) == set(planned.missing)
    assert not (tmp_path / "runs").exists()


def test_a_sweep_its_failures_and_the_workspace_opened_again(tmp_path: Path) -> None:
    """One stage fails, one is blocked, one is done; the same is told by the result, by `open` and by the CLI."""
    root = tmp_path / "runs"
    broken = {**SMALL, "set": {**CHANGES, "teacher.optimizer.lr": 1e18}}
    result = harness.sweep("none,kd", workspace=root, progress=False, **broken)
    assert result.finished and not result.interrupted
    (failed,), (blocked,) = result.failed, result.blocked
    assert failed.startswith("teacher ") and "the loss is" in result.failed[failed]
    assert blocked.startswith("kd ")
    assert list(result.leaderboard()["method"]) == ["none"]
    assert list(result.runs()["seed"]) == [0] and len(result.plan.nodes) == 3

    opened = harness.open(root)
    assert set(opened.failed) == {failed} and set(opened.blocked) == {blocked}
    assert opened.leaderboard(method="none").equals(result.leaderboard())
    assert dict(opened.status()[["state"]].value_counts()) == {("done",): 1, ("failed",): 1, ("blocked",): 1}
    with pytest.raises(HarnessError, match="no run has the method 'kd'"):
        opened.leaderboard(method="kd")

    # What the harness notes of the request asks the command line for the same sweep.
    (saved,) = (root / "sweeps").glob("*.json")
    command = read_json(saved)["command"]
    assert command.startswith("harness sweep --methods none,kd ")


def test_a_sweep_of_the_command_line_is_found_done(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = tmp_path / "runs"
    assert run(["sweep", *tiny_flags(root, methods="none"), "--device", "cpu"]) == 0
    result = harness.sweep("none", workspace=root, **SMALL)
    assert result.launched is None and result.finished and not result.failed
    assert len(result.leaderboard()) == 1
    more = harness.plan("none", seeds=[0, 3], workspace=root, **SMALL)
    assert len(more.missing) == 1 and len(more.plan.nodes) == 2


def test_what_is_no_workspace_is_not_opened(tmp_path: Path) -> None:
    with pytest.raises(HarnessError, match="is not a workspace"):
        harness.open(tmp_path)


KINDS = ("display_data", "update_display_data", "execute_result")
NOTEBOOK = """
import harness
result = harness.sweep("none", workspace="runs", device="cpu", recipe="quick", **{small!r})
assert not result.failed
result.leaderboard()
"""


def test_a_notebook_has_a_bar_in_one_output_that_is_updated(tmp_path: Path) -> None:
    """In a real kernel: the bars are one output that is replaced; its last picture says that all is done."""
    client_module = pytest.importorskip("jupyter_client")
    connection = tmp_path / "kernel.json"
    client_module.write_connection_file(str(connection))
    kernel = Command(["-m", "ipykernel_launcher", "-f", str(connection)], cwd=tmp_path)
    client = client_module.BlockingKernelClient(connection_file=str(connection))
    client.load_connection_file()
    client.start_channels(hb=False)
    messages: list[dict[str, Any]] = []
    try:
        client.wait_for_ready(timeout=120)
        small = {name: SMALL[name] for name in ("students", "teachers", "dataset", "set")}
        reply = client.execute_interactive(
            NOTEBOOK.format(small=small), output_hook=messages.append, allow_stdin=False, timeout=300
        )
        assert reply["content"]["status"] == "ok", reply["content"]
    finally:
        client.stop_channels()
        kernel.send_signal(signal.SIGKILL)
    contents = {kind: [one["content"] for one in messages if one["header"]["msg_type"] == kind] for kind in KINDS}
    (shown,) = [one for one in contents["display_data"] if "<progress" in one["data"]["text/html"]]
    last = contents["update_display_data"][-1]
    assert last["transient"] == shown["transient"] and "display_id" in last["transient"]
    page = last["data"]["text/html"]
    assert "<progress" in page and "sweep" in page and "1/1" in page and "100%" in page
    (table,) = (one["data"]["text/html"] for one in contents["execute_result"])
    assert "miou" in table
