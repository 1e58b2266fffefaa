"""Cohorts from their jobs to their records: one fails, all are killed, and each ends as it would have alone."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import harness.training.learner
from harness.planning.plan import Node, Plan
from harness.training.checkpoint import load_checkpoint
from harness.worker import DONE, FAILED, INTERRUPTED, TOO_LARGE, main
from harness.workspace.folders import StageFolder, Workspace
from tests.end_to_end.tiny import CHANGES, After, Never, in_a_process, job_of, make_plan, run_all, tiny_sweep
from tests.processes import free_port, in_two

METHODS = ("none", "ka", "skd[holistic=0.1]", "cirkd[pixel_memory=40,region_memory=10,anchors=16]")


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> tuple[Plan, Path]:
    """A plan, and a workspace in which every stage of it ran alone."""
    plan = make_plan(tiny_sweep(methods=METHODS))
    root = tmp_path_factory.mktemp("alone")
    run_all(plan, root)
    return plan, root


@pytest.fixture
def fresh(alone: tuple[Plan, Path], tmp_path: Path) -> tuple[Plan, Path, list[Node]]:
    """The same workspace with the students' folders taken away."""
    plan, root = alone
    copy = tmp_path / "together"
    shutil.copytree(root, copy)
    nodes = [node for node in plan.nodes.values() if node.spec.kind == "student"]
    for node in nodes:
        shutil.rmtree(Workspace(copy).stage(node.key).path)
    return plan, copy, nodes


def run(plan: Plan, root: Path, nodes: list[Node], stop: Any = None) -> int:
    return main([job_of(plan, node, root).write() for node in nodes], stop=stop or Never())


def folder(root: Path, node: Node) -> StageFolder:
    return Workspace(root).stage(node.key)


def same(alone: tuple[Plan, Path], root: Path, node: Node) -> None:
    """The stage ended as the one that ran alone."""
    ours, theirs = folder(root, node), Workspace(alone[1]).stage(node.key)
    assert ours.weights_file.read_bytes() == theirs.weights_file.read_bytes(), node.name
    one, other = ours.record(), theirs.record()
    assert one.metrics == other.metrics and one.training.terms == other.training.terms
    assert one.cost and other.cost and one.cost.model_copy(update={"latency": other.cost.latency}) == other.cost
    assert one.artefacts["confusion.npz"] == other.artefacts["confusion.npz"]


def test_a_cohort_gives_the_records_of_runs_alone(alone: tuple[Plan, Path], fresh: Any) -> None:
    plan, root, nodes = fresh
    assert run(plan, root, nodes) == DONE
    for node in nodes:
        same(alone, root, node)
        training = folder(root, node).record().training
        assert training.shared_by == len(nodes) and training.own_ms and training.loading_ms is not None
        assert (training.teacher_ms or 0) > 0 if "teacher" in node.spec.parents else training.teacher_ms == 0
        assert 0 < (training.paid_s or 0) < training.seconds
        assert not folder(root, node).checkpoint_file.exists()
        (attempt,) = folder(root, node).record().attempts
        assert attempt.outcome == "done"


@pytest.mark.parametrize("after", [2, 17])
def test_stopped_between_two_members_and_gone_on_with(alone: tuple[Plan, Path], fresh: Any, after: int) -> None:
    plan, root, nodes = fresh
    assert run(plan, root, nodes, After(after)) == INTERRUPTED
    stands = [_iteration(folder(root, node)) for node in nodes]
    assert sum(stands) == after + 1 and len(set(stands)) == 2
    assert run(plan, root, nodes) == DONE
    for node in nodes:
        same(alone, root, node)
        assert [a.outcome for a in folder(root, node).record().attempts] == ["interrupted", "done"]


def _iteration(stage: StageFolder) -> int:
    state = load_checkpoint(stage.checkpoint_file)
    return int(state["progress"]["iteration"]) if state else 0


def _killed_at(learner_saves: int) -> Callable[[], None]:
    """Make this process kill itself instead of the n-th checkpoint."""
    count = 0
    real = harness.training.learner.save_checkpoint

    def save(*args: Any) -> None:
        nonlocal count
        count += 1
        if count == learner_saves:
            os.kill(os.getpid(), signal.SIGKILL)
        real(*args)

    def arm() -> None:
        harness.training.learner.save_checkpoint = save

    return arm


def test_killed_with_members_at_different_iterations(alone: tuple[Plan, Path], fresh: Any) -> None:
    plan, root, nodes = fresh
    arm = _killed_at(2 * len(nodes) + 3)

    def work() -> int:
        arm()
        return run(plan, root, nodes)

    assert in_a_process(work) == -signal.SIGKILL
    assert [_iteration(folder(root, node)) for node in nodes] == [6, 6, 4, 4]
    folder(root, nodes[-1]).checkpoint_file.unlink()
    assert run(plan, root, nodes) == DONE
    for node in nodes:
        same(alone, root, node)


def test_one_that_is_done_is_left_out(alone: tuple[Plan, Path], fresh: Any) -> None:
    plan, root, nodes = fresh
    assert run(plan, root, nodes[:2]) == DONE
    before = folder(root, nodes[0]).record_file.read_bytes()
    assert run(plan, root, nodes) == DONE
    assert folder(root, nodes[0]).record_file.read_bytes() == before
    assert folder(root, nodes[3]).record().training.shared_by == len(nodes) - 2
    for node in nodes:
        same(alone, root, node)


PLUGIN = '''
import torch
from methods.base import Method, Term

class Trouble(Method):
    """Fails at its third iteration, having spoiled what it was given."""

    name = "trouble"
    summary = "fails"
    terms = {"trouble": Term(1.0)}
    reads = frozenset({"logits"})

    def forward(self, step):
        step.teacher.logits.mul_(1 + step.iteration)
        torch.rand(3)
        if step.iteration == 2:
            step.teacher.last.zero_()
            KIND
        return {"trouble": step.student.logits.square().mean()}
'''


@pytest.mark.parametrize(
    ("beside", "kind", "told"),
    [
        (4, "step.images.zero_(), step.labels.zero_(), print(1 / 0)", "ZeroDivisionError"),
        (2, "return {'trouble': step.student.logits.sum() * float('nan')}", "nan at iteration 2"),
        (2, "return 3", "instead of a dict"),
    ],
)
def test_one_that_fails_leaves_and_the_others_go_on(
    alone: tuple[Plan, Path], fresh: Any, tmp_path: Path, beside: int, kind: str, told: str
) -> None:
    from harness.plugins.load import load_plugins

    plan, root, nodes = fresh
    nodes = nodes[-beside:]
    name = f"trouble{len(kind)}"
    file = tmp_path / "trouble.py"
    file.write_text(PLUGIN.replace("KIND", kind).replace('"trouble"\n', f'"{name}"\n'))
    plugins = load_plugins([file])
    bad_plan = make_plan(tiny_sweep(methods=(name,)))
    (bad,) = [node for node in bad_plan.nodes.values() if node.spec.kind == "student"]
    files = [job_of(plan, node, root, plugins=plugins).write() for node in nodes]
    files.insert(1, job_of(bad_plan, bad, root, plugins=plugins).write())
    assert main(files, stop=Never()) == FAILED
    (attempt,) = folder(root, bad).attempts()
    assert (attempt.outcome() or {})["outcome"] == "failed" and told in (attempt.outcome() or {})["reason"]
    assert not folder(root, bad).done()
    for node in nodes:
        same(alone, root, node)


def test_when_memory_runs_out_all_are_saved_but_the_one_in_its_step(
    alone: tuple[Plan, Path], fresh: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, root, nodes = fresh
    steps = 0
    real = harness.training.learner.Learner._backward

    def iterate(*args: Any) -> Any:
        nonlocal steps
        steps += 1
        if steps == 2 * len(nodes) + 3:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real(*args)

    with monkeypatch.context() as patch:
        patch.setattr(harness.training.learner.Learner, "_backward", iterate)
        assert run(plan, root, nodes) == TOO_LARGE
    assert [_iteration(folder(root, node)) for node in nodes] == [3, 3, 2, 2]
    for node in nodes:
        attempt = folder(root, node).last_attempt()
        assert attempt is not None and "smaller cohorts" in (attempt.outcome() or {})["reason"]
    assert run(plan, root, nodes[:3]) == DONE and run(plan, root, nodes[3:]) == DONE
    for node in nodes:
        same(alone, root, node)


def test_one_alone_without_memory_fails(fresh: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    plan, root, nodes = fresh

    def iterate(*args: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(harness.training.learner.Learner, "_backward", iterate)
    assert run(plan, root, nodes[1:2]) == FAILED
    attempt = folder(root, nodes[1]).last_attempt()
    assert attempt is not None and (attempt.outcome() or {})["reason"].startswith("out of memory")


def test_stages_that_do_not_belong_together_are_refused(fresh: Any) -> None:
    plan, root, nodes = fresh
    other = make_plan(tiny_sweep(methods=("none",), seeds=(7,)))
    (foreign,) = [node for node in other.nodes.values() if node.spec.kind == "student"]
    files = [job_of(plan, nodes[0], root).write(), job_of(other, foreign, root).write()]
    assert main(files, stop=Never()) != DONE
    attempt = folder(root, nodes[0]).last_attempt()
    assert attempt is not None and "they differ in seed" in (attempt.outcome() or {})["reason"]


def _two_processes(rank: int, runs: list[tuple[int, list[str], list[str]]]) -> None:
    """One of two processes that work through the same runs together: (port, jobs, plugins) each."""
    from harness.plugins.load import load_plugins

    torch.set_num_threads(1)
    for port, files, plugins in runs:
        os.environ.update(WORLD_SIZE="2", RANK=str(rank), MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
        load_plugins([Path(plugin) for plugin in plugins])
        main([Path(file) for file in files], stop=Never())


def test_two_processes_train_a_cohort_as_they_train_each_alone(fresh: Any, tmp_path: Path) -> None:
    """Also when the loss of one member turns NaN in one of them: it leaves in both, and the others go on."""
    from harness.plugins.load import load_plugins

    _, root, _ = fresh
    short = {**CHANGES, "student.iterations": 4}
    plan = make_plan(tiny_sweep(methods=METHODS, set=short))
    nodes = [node for node in plan.nodes.values() if node.spec.kind == "student"]
    alone = tmp_path / "alone"
    shutil.copytree(root, alone)
    file = tmp_path / "trouble.py"
    nan = "return {'trouble': step.student.logits.sum() * (float('nan') if os.environ['RANK'] == '1' else 1)}"
    file.write_text("import os\n" + PLUGIN.replace("KIND", nan).replace('"trouble"\n', '"trouble2"\n'))
    plugins = load_plugins([file])
    bad_plan = make_plan(tiny_sweep(methods=("trouble2",), set=short))
    (bad,) = [node for node in bad_plan.nodes.values() if node.spec.kind == "student"]
    chosen = nodes[2:]  # a discriminator, a memory
    runs = [(free_port(), [str(job_of(plan, node, alone).write())], list[str]()) for node in chosen]
    together = [job_of(bad_plan, bad, root, plugins=plugins)]
    together += [job_of(plan, node, root, plugins=plugins) for node in chosen]
    runs.append((free_port(), [str(job.write()) for job in together], [str(file)]))
    in_two(_two_processes, runs)
    for node in chosen:
        ours, theirs = folder(root, node), folder(alone, node)
        assert ours.weights_file.read_bytes() == theirs.weights_file.read_bytes(), node.name
        assert ours.record().metrics == theirs.record().metrics
        assert ours.record().training.samples_seen == theirs.record().training.samples_seen == 4 * 4
    (attempt,) = folder(root, bad).attempts()
    assert (attempt.outcome() or {})["outcome"] == "failed"
