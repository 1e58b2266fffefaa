"""The conformance suite finds what it is there to find; new methods and installed packages pass it."""

from __future__ import annotations

import ast
import json
import signal
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
from harness.plugins.file_plugin import load_plugin
from harness.plugins.registries import METHODS
from tests.processes import python

REPOSITORY = Path(__file__).parents[3]

app = typer.Typer()
for command in (check_method, methods, new_method):
    app.command()(command)
runner = CliRunner()

HEADER = """
from enum import Enum
from types import SimpleNamespace
from typing import Literal
import torch
from torch import nn
from methods.base import IGNORE, Method, Term, resize, resize_labels
from methods import base
from methods.parts.precision import precise

class Form(str, Enum):
    FINE = "fine"
    BROKEN = "broken"

class Bad(Method):
    name = "bad"
    summary = "a method with one fault"
    terms = {"main": Term(1.0)}
    reads = frozenset({"logits"})

    def setup(self):
        pass

    def distance(self, step):
        student, teacher = resize(step.student.logits, step.teacher_maps.logits), step.teacher_maps.logits
        return precise(student - teacher).square().mean()

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
        valid = resize_labels(step.labels, step.teacher_maps.logits) != IGNORE
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
    "derivatives": """
    def forward(self, step):
        distance = self.distance(step)
        return {"main": distance * distance.detach()}
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
        student, teacher = resize(step.student.logits, step.teacher_maps.logits), step.teacher_maps.logits
        return {"main": ((student - teacher).square().mean(dim=(1, 2, 3)) * weights).mean()}
    reads = frozenset({"logits", "labels"})
""",
    "state": """
    mean = 0.0
    def forward(self, step):
        self.mean = self.mean * 0.9 + step.teacher_maps.logits.mean().item()
        return {"main": self.distance(step) * (2 + self.mean)}
""",
    "precision": """
    def forward(self, step):
        student = resize(step.student.logits, step.teacher_maps.logits)
        return {"main": (student.mean() + 1e4) - 1e4 + 0 * self.distance(step)}
""",
    "half": """
    def forward(self, step):
        return {"main": self.distance(step).to(step.student.logits.dtype)}
""",
    "subsets": """
    terms = {"main": Term(1.0), "second": Term(1.0)}
    def forward(self, step):
        found = {"main": self.distance(step) * len(self.active), "second": self.distance(step)}
        return {name: found[name] for name in self.active}
""",
    "discriminator": """
    def setup(self):
        self.judge = nn.Linear(1, 1)
    def get_discriminator(self):
        return self.judge
    def discriminator_loss(self, step):
        return step.teacher_maps.logits.mean() + 0 * self.judge.weight.sum()
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
        x = resize(step.student.logits, step.teacher_maps.logits).flatten(2)
        t = step.teacher_maps.logits.flatten(2)
        return {"main": ((x.mT @ x) - (t.mT @ t)).square().mean()}
""",
}


FURTHER = [
    # property, body, what is said
    (
        "state",
        """
    ema = None
    def forward(self, step):
        student = step.student.logits.detach().mean()
        self.ema = student if self.ema is None else 0.9 * self.ema + 0.1 * student
        return {"main": self.distance(step) * (1 + self.ema.abs())}
""",
        "when it was saved after step 1 and loaded",
    ),
    (
        "state",
        """
    calls = 0
    def forward(self, step):
        self.calls += 1
        return {"main": self.distance(step) * (2 if self.calls > 1000 else 1)}
""",
        "self.calls depends on earlier steps and is not saved",
    ),
    (
        "state",
        """
    def setup(self):
        self.queue = []
    def forward(self, step):
        self.queue = [*self.queue, step.teacher_maps.logits.mean().item()][-4:]
        return {"main": self.distance(step) * (1 + abs(self.queue[0]) if len(self.queue) > 3 else 1)}
""",
        "register_buffer",
    ),
    (
        "state",
        """
    def forward(self, step):
        if "mean" not in dict(self.named_buffers()):
            self.register_buffer("mean", step.teacher_maps.logits.mean().detach())
        return {"main": self.distance(step) + 0 * self.mean}
""",
        "its saved state does not fit a new instance",
    ),
    (
        "finite",
        """
    def forward(self, step):
        return {"main": self.distance(step) * (float("nan") if step.iteration == 9 else 1.0)}
""",
        "iteration 9 of 10",
    ),
    (
        "finite",
        """
    def forward(self, step):
        return {"main": self.distance(step)} if step.iteration == 0 else {}
""",
        "did not return its active term 'main'",
    ),
    (
        "finite",
        """
    def forward(self, step):
        import sys
        sys.exit("enough")
""",
        "SystemExit: enough",
    ),
    (
        "gradients",
        """
    def forward(self, step):
        loss = self.distance(step)
        loss.backward(retain_graph=True)
        return {"main": loss}
""",
        "calls backward(), which reaches student logits",
    ),
    (
        "gradients",
        """
    def setup(self):
        self.layers = [nn.Conv2d(5, 5, 1)]
    def forward(self, step):
        student = self.layers[0].to(step.student.logits.dtype)(step.student.logits)
        return {"main": (resize(student, step.teacher_maps.logits) - step.teacher_maps.logits).square().mean()}
""",
        "self.layers[0] is neither trained nor saved",
    ),
    (
        "gradients",
        """
    def setup(self):
        self.scales = {"main": nn.Parameter(torch.ones(()))}
    def forward(self, step):
        return {"main": self.distance(step) * self.scales["main"]}
""",
        "self.scales['main'] is neither trained nor saved",
    ),
    (
        "choices",
        """
    class Params(base.Params):
        form: Literal["fine", "broken"] | None = None
    def forward(self, step):
        return {"main": self.distance(step) * (float("nan") if self.params.form == "broken" else 1.0)}
""",
        "form=broken",
    ),
    (
        "choices",
        """
    class Params(base.Params):
        form: Form = Form.FINE
    def forward(self, step):
        return {"main": self.distance(step) * (float("nan") if self.params.form is Form.BROKEN else 1.0)}
""",
        "form=Form.BROKEN",
    ),
    (
        "weights",
        """
    class Params(base.Params):
        variant: Literal["ours", "theirs"] = "ours"
    @classmethod
    def weights(cls, params):
        return {"main": 1.0 if params.variant == "ours" else -1.0}
""",
        "variant=theirs: method bad",
    ),
    (
        "weights",
        """
    @classmethod
    def skip(cls, params, student, teacher):
        raise SystemExit("enough")
""",
        "SystemExit: enough",
    ),
    (
        "cost",
        """
    def forward(self, step):
        x = resize(step.student.logits, step.teacher_maps.logits).flatten(2)
        rows = [(x[:, :, [i]] * x).sum(1).square().mean() for i in range(x.shape[2])]
        return {"main": torch.stack(rows).mean()}
""",
        "over all calls, computes",
    ),
    (
        "cost",
        """
    def forward(self, step):
        x = resize(step.student.logits, step.teacher_maps.logits).flatten(2)
        blocks = [(x[:, :, i : i + 16].mT @ x).square().mean() for i in range(0, x.shape[2], 16)]
        return {"main": torch.stack(blocks).mean()}
""",
        "over all calls, computes",
    ),
    (
        "state",
        """
    ema = 0.0
    def forward(self, step):
        felt = (step.student.logits * self.ema).mean()
        self.ema = 0.9 * self.ema + step.student.logits.detach()
        return {"main": self.distance(step) + felt - felt.detach()}
""",
        "the student's gradient is",
    ),
    (
        "state",
        """
    def setup(self):
        self.register_buffer("calls", torch.zeros(()), persistent=False)
    def forward(self, step):
        self.calls += 1
        return {"main": self.distance(step) * (1 + (self.calls >= 30))}
""",
        "self.calls depends on earlier steps and is not saved",
    ),
    (
        "state",
        """
    def setup(self):
        self.register_buffer("seen", torch.zeros(0))
    def forward(self, step):
        self.seen = torch.cat([self.seen, step.teacher_maps.logits.mean()[None]])
        return {"main": self.distance(step) + self.seen.mean()}
""",
        "size mismatch for parts.bad.seen",
    ),
    (
        "finite",
        """
    def forward(self, step):
        return {"main": self.distance(step) * (1 + step.iteration / (step.iterations - 1))}
""",
        "ZeroDivisionError: division by zero (check it with `harness check-method bad`) (iteration 0 of 1)",
    ),
    (
        "gradients",
        """
    def setup(self):
        self.block = nn.Identity()
        self.block.scales = {"first": (1, [nn.Parameter(torch.ones(()))])}
    def forward(self, step):
        return {"main": self.distance(step) * self.block.scales["first"][1][0]}
""",
        "self.block.scales['first'][1][0] is neither trained nor saved",
    ),
    (
        "gradients",
        """
    def setup(self):
        self.kept = SimpleNamespace(layer=nn.Conv2d(5, 5, 1).double())
    def forward(self, step):
        return {"main": self.distance(step) + self.kept.layer(step.student.logits).square().mean()}
""",
        "self.kept.layer is neither trained nor saved",
    ),
    (
        "gradients",
        """
    layers = []
    def forward(self, step):
        if not self.layers:
            self.layers.append(nn.Conv2d(5, 5, 1).double())
        return {"main": self.distance(step) + self.layers[0](step.student.logits).square().mean()}
""",
        "self.layers[0] is neither trained nor saved",
    ),
    (
        "choices",
        """
    class Params(base.Params):
        scale: float | None = 1.0
    def forward(self, step):
        return {"main": self.distance(step) * (float("nan") if self.params.scale is None else 1.0)}
""",
        "scale=None",
    ),
    (
        "cost",
        """
    @classmethod
    def skip(cls, params, student, teacher):
        return "strides are equal" if student.stride == teacher.stride else None
    def forward(self, step):
        x, t = step.student.logits.flatten(2), step.teacher_maps.logits.flatten(2)
        return {"main": (x.mT @ x).square().mean() + (t.mT @ t).square().mean()}
""",
        "times as many for 4 times the positions",
    ),
]


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
        "discriminator",
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


@pytest.mark.parametrize(("item", "body", "says"), FURTHER, ids=[f"{item}: {says}" for item, _, says in FURTHER])
def test_faults_that_are_harder_to_see(tmp_path: Path, item: str, body: str, says: str) -> None:
    outcome, reason = outcomes(tmp_path, body, only=(item,))[item]
    assert outcome == "fail" and says in reason, reason


@pytest.mark.parametrize(
    "body",
    [
        """
    cache = {}
    def forward(self, step):
        size = step.teacher_maps.logits.shape[-2:]
        if size not in self.cache:
            self.cache[size] = torch.ones(size)
        self.last = step.student.logits
        return {"main": self.distance(step) * self.cache[size].mean().to(step.student.logits.dtype)}
""",
        """
    def setup(self):
        self.scale = nn.Parameter(torch.ones(()))
        self.all = [self.scale]
        self.register_buffer("calls", torch.zeros(()))
    def forward(self, step):
        self.calls += 1
        return {"main": self.distance(step) * self.scale * (1 + self.calls)}
""",
    ],
)
def test_caches_shared_references_and_buffers_are_no_faults(tmp_path: Path, body: str) -> None:
    found = outcomes(tmp_path, body, only=("state", "gradients", "finite"))
    assert {outcome for outcome, _ in found.values()} == {"pass"}, found


def test_what_could_not_be_tried_is_told(tmp_path: Path) -> None:
    body = """
    @classmethod
    def skip(cls, params, student, teacher):
        return None if student.stride == 16 else "only at stride 16"
"""
    outcome, reason = outcomes(tmp_path, body, only=("finite",))["finite"]
    assert outcome == "pass" and reason.startswith("on 2 of 5 cases; not on ") and "only at stride 16" in reason
    nothing = body.replace("None if student.stride == 16 else", "")
    outcome, reason = outcomes(tmp_path, nothing, only=("finite",))["finite"]
    assert outcome == "fail" and "it fits no case" in reason


@pytest.mark.parametrize("cost", ["Linear", "fast", "", "n log n", None])
def test_an_unknown_cost_is_refused(tmp_path: Path, cost: str | None) -> None:
    with pytest.raises(HarnessError, match=f"cost is {cost!r}, which does not begin with a growth rate"):
        outcomes(tmp_path, f"    cost = {cost!r}\n")


@pytest.mark.parametrize("cost", ["linear, with a large factor", "quadratic in pooled nodes"])
def test_what_is_called_linear_is_checked(tmp_path: Path, cost: str) -> None:
    outcome, reason = outcomes(tmp_path, f"    cost = {cost!r}\n" + FAULTS["cost"], only=("cost",))["cost"]
    assert outcome == ("skip" if cost.startswith("quadratic") else "fail"), reason


def test_a_choice_that_fits_nowhere_is_named(tmp_path: Path) -> None:
    body = """
    class Params(base.Params):
        size: Literal["small", "large", "huge"] = "small"
    @classmethod
    def skip(cls, params, student, teacher):
        return "too large" if params.size == "huge" else None
"""
    assert outcomes(tmp_path, body, only=("choices",))["choices"] == ("pass", "size=huge fits no case")


def test_an_interrupt_still_interrupts(tmp_path: Path) -> None:
    # As on a command line: a worker that ran in this process before may have left a handler of its own.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            outcomes(tmp_path, "    def forward(self, step):\n        raise KeyboardInterrupt\n", only=("finite",))
    finally:
        signal.signal(signal.SIGINT, before)


def test_weights_that_end_the_program_are_refused(tmp_path: Path) -> None:
    with pytest.raises(HarnessError, match=r"weights\(\) raises SystemExit"):
        outcomes(tmp_path, "    @classmethod\n    def weights(cls, params):\n        raise SystemExit(0)\n")


def test_a_method_whose_code_raises_spoils_no_list(tmp_path: Path) -> None:
    file = tmp_path / "bad.py"
    body = "    @classmethod\n    def skip(cls, *_):\n        print('hello')\n        raise ValueError('no idea')\n"
    file.write_text(HEADER + body)
    try:
        listed = json.loads(runner.invoke(app, ["methods", "--plugin", str(file), "--json"]).stdout)
        faults = {item["name"]: item["fault"] for item in listed if item["fault"]}
        assert set(faults) == {"bad"} and f"{file}, line " in faults["bad"] and "no idea" in faults["bad"]
        for words in (["methods"], ["methods", "bad"]):
            assert "no idea" in runner.invoke(app, words, env={"COLUMNS": "400"}).stdout
    finally:
        METHODS._entries.pop("bad", None)


def test_what_a_method_prints_stays_out_of_the_json(tmp_path: Path) -> None:
    file = tmp_path / "bad.py"
    file.write_text(HEADER + "    def setup(self):\n        print('hello')\n")
    try:
        words = ["check-method", "bad", "--plugin", str(file), "--only", "finite", "--json"]
        assert json.loads(runner.invoke(app, words).stdout)[0]["outcome"] == "pass"
    finally:
        METHODS._entries.pop("bad", None)


def test_a_faulty_method_fails_the_command(tmp_path: Path) -> None:
    file = tmp_path / "bad.py"
    file.write_text(HEADER + FAULTS["gradients"])
    try:
        result = runner.invoke(app, ["check-method", "bad", "--plugin", str(file), "--only", "gradients"])
        assert result.exit_code == 1
        said = " ".join(result.output.split())
        assert "no active term uses the parameter" in said and "unused.weight" in said
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
    done = python("-m", "pytest", "-q", "-p", "no:cacheprovider", str(test), cwd=fresh)
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
