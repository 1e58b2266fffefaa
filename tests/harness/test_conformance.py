"""The conformance suite finds what it is there to find; new methods and installed packages pass it."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from harness.cli.check_method import check_method
from harness.cli.methods import methods
from harness.cli.new_method import METHOD, new_method
from harness.conformance import PROPERTIES, check
from harness.errors import HarnessError
from harness.registries import METHODS
from harness.registry import load_plugin

REPOSITORY = Path(__file__).parents[2]

app = typer.Typer()
for command in (check_method, methods, new_method):
    app.command()(command)
runner = CliRunner()

HEADER = """
import torch
from torch import nn
from methods.base import IGNORE, Method, Term, resize, resize_labels
from methods import base

class Bad(Method):
    name = "bad"
    summary = "a method with one fault"
    terms = {"main": Term(1.0)}
    reads = frozenset({"logits"})

    def setup(self):
        pass

    def distance(self, step):
        student, teacher = resize(step.student.logits, step.taught.logits), step.taught.logits
        return (student - teacher).square().mean()

    def forward(self, step):
        return {"main": self.distance(step)} if "main" in self.active else {}
"""

GOOD = ""

FAULTS = {
    "declaration": """
    terms = {"main": Term(1.0, symbol="width")}
    class Params(base.Params):
        width: int = 3
""",
    "weights": """
    terms = {"main": Term(1.0), "second": Term(1.0)}
""",
    "finite": """
    reads = frozenset({"logits", "labels"})
    def forward(self, step):
        valid = resize_labels(step.labels, step.taught.logits) != IGNORE
        return {"main": self.distance(step) * valid.sum() / valid.sum()}
""",
    "extremes": """
    def forward(self, step):
        return {"main": self.distance(step).sqrt()}
""",
    "choices": """
    class Params(base.Params):
        flag: bool = False
    def forward(self, step):
        return {"main": self.distance(step) * (float("nan") if self.params.flag else 1.0)}
""",
    "reads": """
    def forward(self, step):
        return {"main": self.distance(step) + 0 * step.student.features[0].mean()}
""",
    "gradients": """
    def setup(self):
        self.unused = nn.Conv2d(3, 3, 1)
""",
    "zero": """
    def setup(self):
        torch.default_generator.manual_seed(torch.seed())
        self.register_buffer("noise", torch.rand(3))
""",
    "deterministic": """
    def forward(self, step):
        import time
        return {"main": self.distance(step) * (1 + time.time_ns() % 1000003)}
""",
    "permutable": """
    def forward(self, step):
        weights = torch.arange(1.0, len(step.labels) + 1, dtype=step.student.logits.dtype)
        student, teacher = resize(step.student.logits, step.taught.logits), step.taught.logits
        return {"main": ((student - teacher).square().mean(dim=(1, 2, 3)) * weights).mean()}
    reads = frozenset({"logits", "labels"})
""",
    "state": """
    mean = 0.0
    def forward(self, step):
        self.mean = self.mean * 0.9 + step.taught.logits.mean().item()
        return {"main": self.distance(step) * (2 + self.mean)}
""",
    "precision": """
    def forward(self, step):
        student = resize(step.student.logits, step.taught.logits)
        return {"main": (student.mean() + 1e4) - 1e4 + 0 * self.distance(step)}
""",
    "subsets": """
    terms = {"main": Term(1.0), "second": Term(1.0)}
    def forward(self, step):
        found = {"main": self.distance(step) * len(self.active), "second": self.distance(step)}
        return {name: found[name] for name in self.active}
""",
    "adversary": """
    def setup(self):
        self.judge = nn.Linear(1, 1)
    def adversary(self):
        return self.judge
    def adversary_loss(self, step):
        return step.taught.logits.mean() + 0 * self.judge.weight.sum()
""",
    "translator": """
    @classmethod
    def translator_key(cls, params, active, student, teacher):
        return {"channels": teacher.last}
    @classmethod
    def build_translator(cls, key, teacher):
        class Learned(base.Translator):
            terms = {"promised": Term(1.0)}
            def __init__(self):
                super().__init__()
                self.layer = nn.Conv2d(key["channels"], 2, 1)
            def forward(self, teacher):
                return {"given": self.layer(teacher.last).square().mean()}
        return Learned()
""",
    "cost": """
    def forward(self, step):
        x = resize(step.student.logits, step.taught.logits).flatten(2)
        t = step.taught.logits.flatten(2)
        return {"main": ((x.mT @ x) - (t.mT @ t)).square().mean()}
""",
}


def outcomes(tmp_path: Path, body: str, only: tuple[str, ...] = ()) -> dict[str, tuple[str, str]]:
    file = tmp_path / "bad.py"
    file.write_text(HEADER + body)
    try:
        load_plugin(file, [METHODS])
        return {result.property: (result.outcome, result.reason) for result in check("bad", only)}
    finally:
        METHODS._entries.pop("bad", None)


def test_the_sound_method_passes(tmp_path: Path) -> None:
    found = outcomes(tmp_path, GOOD)
    assert {name for name, (outcome, _) in found.items() if outcome == "fail"} == set()
    assert {name for name, (outcome, _) in found.items() if outcome == "skip"} == {
        "choices",
        "subsets",
        "adversary",
        "translator",
    }


@pytest.mark.parametrize("item", [item.name for item in PROPERTIES])
def test_every_property_finds_its_fault(tmp_path: Path, item: str) -> None:
    if item == "declaration":  # refused when it registers, before anything runs
        with pytest.raises(HarnessError, match=r"'width' is the name of a param and of the term main"):
            outcomes(tmp_path, FAULTS[item])
        return
    outcome, reason = outcomes(tmp_path, FAULTS[item], only=(item,))[item]
    assert outcome == "fail", reason
    assert len(reason) > 20


def test_a_faulty_method_fails_the_command(tmp_path: Path) -> None:
    file = tmp_path / "bad.py"
    file.write_text(HEADER + FAULTS["gradients"])
    try:
        result = runner.invoke(app, ["check-method", "bad", "--plugin", str(file), "--only", "gradients"])
        assert result.exit_code == 1
        assert "unused.weight is built" in " ".join(result.output.split())
        listed = runner.invoke(app, ["check-method", "bad", "--only", "gradients", "--json"])
        assert listed.exit_code == 1
        assert json.loads(listed.output)[0]["outcome"] == "fail"
    finally:
        METHODS._entries.pop("bad", None)


def test_unknown_names_are_answered(tmp_path: Path) -> None:
    result = runner.invoke(app, ["check-method", "kaa"])
    assert isinstance(result.exception, HarnessError) and "ka" in result.exception.hint
    with pytest.raises(HarnessError, match="no property 'beauty'"):
        check("ka", ["beauty"])


# The commands -------------------------------------------------------------------------------------------------------


def test_methods_lists_everything() -> None:
    listed = json.loads(runner.invoke(app, ["methods", "--json"]).output)
    assert [item["name"] for item in listed] == METHODS.names()
    ka = next(item for item in listed if item["name"] == "ka")
    assert ka["terms"]["adapt"] == {**ka["terms"]["adapt"], "weight": 50.0, "symbol": "beta"}
    assert ka["stages"] == ["teacher", "translator", "student"] and "arXiv 1903.04688" in ka["paper"]
    none = next(item for item in listed if item["name"] == "none")
    assert none["terms"] == {} and none["stages"] == ["student"]
    output = runner.invoke(app, ["methods"], env={"COLUMNS": "100"}).output
    assert "adapt 50 (beta)" in output and all(name in output for name in METHODS.names())


def test_methods_shows_one() -> None:
    output = runner.invoke(app, ["methods", "ka"], env={"COLUMNS": "160"}).output
    assert "affinity_adapter" in output and "own|shared|none" in output and "[open]" in output
    one = json.loads(runner.invoke(app, ["methods", "kd", "--json"]).output)
    assert one["params"]["tau"] == {**one["params"]["tau"], "default": 1.0, "values": "number > 0"}


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path
    METHODS._entries.pop("my_method", None)


def test_a_new_method_works_and_its_test_passes(fresh: Path) -> None:
    result = runner.invoke(app, ["new-method", "my_method", "--dir", str(fresh)])
    assert result.exit_code == 0, result.output
    file, test = fresh / "my_method.py", fresh / "test_my_method.py"
    assert len(file.read_text().splitlines()) <= 40
    ast.parse(test.read_text())
    checked = runner.invoke(app, ["check-method", "my_method", "--plugin", str(file)])
    assert checked.exit_code == 0, checked.output
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(test)],
        cwd=fresh,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        check=False,
    )
    assert done.returncode == 0 and "3 passed" in done.stdout, done.stdout + done.stderr


def test_a_new_method_overwrites_nothing(fresh: Path) -> None:
    (fresh / "test_my_method.py").write_text("mine")
    result = runner.invoke(app, ["new-method", "my_method", "--dir", str(fresh)])
    assert isinstance(result.exception, HarnessError) and "exists already" in result.exception.message
    assert (fresh / "test_my_method.py").read_text() == "mine" and not (fresh / "my_method.py").exists()


@pytest.mark.parametrize("name", ["My", "1st", "a-b", "class", "a b", "../x", "ka", "all", "", "é"])
def test_a_new_method_needs_a_good_name(fresh: Path, name: str) -> None:
    result = runner.invoke(app, ["new-method", name, "--dir", str(fresh)])
    assert isinstance(result.exception, HarnessError)
    assert list(fresh.iterdir()) == []


def test_the_template_is_lint_free(fresh: Path) -> None:
    (fresh / "my_method.py").write_text(METHOD.format(name="my_method", cls="MyMethod"))
    command = [sys.executable, "-m", "ruff", "check", "--config", str(REPOSITORY / "pyproject.toml"), str(fresh)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
