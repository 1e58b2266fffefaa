"""Methods of others: a really installed package, and plugins that go wrong while they are used."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from harness.conformance import CASES, PROPERTIES, made_step
from harness.distiller import Combined, instantiate, resolved_parts
from harness.errors import HarnessError, StageFailed
from harness.expression import resolve
from harness.plugins import load_plugins
from harness.registries import METHODS
from tests.end_to_end.tiny import tiny_flags

REPOSITORY = Path(__file__).parents[2]


# An installed package -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`examples/plugin`, installed by pip into a folder of its own, without network."""
    source = tmp_path_factory.mktemp("source") / "plugin"
    shutil.copytree(REPOSITORY / "examples" / "plugin", source, ignore=shutil.ignore_patterns("build", "*.egg-info"))
    target = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    done = subprocess.run([*command, "--target", str(target), str(source)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return target


def with_package(installed: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(installed), str(REPOSITORY)])}
    return subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, check=False, env=environment, cwd=installed
    )


def test_an_installed_package_is_listed_resolved_and_passes_its_own_test(installed: Path) -> None:
    test = REPOSITORY / "examples" / "plugin" / "test_margin.py"
    program = f"""
import json, sys
import pytest
from harness.expression import resolve
from harness.registries import METHODS
from tests.end_to_end.tiny import tiny_flags
entry = METHODS.entry("margin")
spec = resolve("kd+margin[mu=2,beta=0.5]")[0]
print(json.dumps([entry.origin, entry.source, spec.expression, METHODS.broken]))
sys.exit(pytest.main(["-q", "-p", "no:cacheprovider", "--rootdir=.", "--import-mode=importlib", {str(test)!r}]))
"""
    done = with_package(installed, "-c", program)
    assert done.returncode == 0, done.stdout + done.stderr
    expected = ["package harness-method-margin", "", "kd+margin[beta=0.5,mu=2]", {}]
    assert json.loads(done.stdout.splitlines()[0]) == expected
    assert "3 passed" in done.stdout


@pytest.mark.slow
def test_an_installed_package_is_swept_and_ablated(installed: Path, tmp_path: Path) -> None:
    words = tiny_flags(tmp_path / "work", seeds="0,1")
    at = words.index("--methods")
    del words[at : at + 2]
    done = with_package(installed, "-m", "harness", "ablate", "margin", *words, "--device", "cpu", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    rows = {row["expression"]: row for row in json.loads(done.stdout)["rows"]}
    assert set(rows) == {"none", "margin"}
    assert rows["margin"]["seeds"] == 2 and rows["margin"]["row"] == "full"
    assert rows["margin"]["gain_basis"] == "paired over 2 seeds"
    assert rows["margin"]["gain"] == pytest.approx(rows["margin"]["miou"] - rows["none"]["miou"])


def test_without_the_package_there_is_no_such_method() -> None:
    with pytest.raises(HarnessError, match="no method 'margin'"):
        resolve("margin")


def test_the_walk_through_shows_the_real_file_and_every_property() -> None:
    guide = (REPOSITORY / "docs" / "add-a-method.md").read_text()
    file = (REPOSITORY / "examples" / "plugin" / "harness_method_margin.py").read_text()
    assert guide.split("```python\n")[1].split("```")[0] == file
    assert len(file.splitlines()) <= 40
    assert all(f"| {item.name} | {item.summary} |" in guide for item in PROPERTIES)


# Plugins that go wrong in use ---------------------------------------------------------------------------------------

HEADER = """from methods.base import Method, Term

class Mine(Method):
    name = "mine"
    summary = "a plugin"
    terms = {"main": Term(1.0), "other": Term(0.0)}
    reads = frozenset({"logits"})
"""


@pytest.fixture
def mine(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "mine.py"
    METHODS._entries.pop("mine", None)


def built(file: Path, body: str) -> Combined:
    file.write_text(HEADER + body)
    load_plugins([file])
    return instantiate(resolve("mine")[0], CASES[0].student, CASES[0].teacher)


def line_of(file: Path, text: str) -> int:
    return next(n for n, line in enumerate(file.read_text().splitlines(), 1) if text in line)


@pytest.mark.parametrize(
    ("body", "says", "line"),
    [
        ("    def forward(self, step):\n        return {'main': 1 / 0}\n", "ZeroDivisionError", "1 / 0"),
        (
            "    def forward(self, step):\n        return {'main': step.student.features[9].mean()}\n",
            "IndexError: tuple index out of range",
            "features[9]",
        ),
        (
            "    def forward(self, step):\n        return {'main': step.student.depth.mean()}\n",
            "has no attribute 'depth'",
            "depth",
        ),
        (
            "    def forward(self, step):\n"
            "        return {'main': (step.student.logits - step.teacher.logits).mean()}\n",
            "RuntimeError: The size of tensor",
            "step.teacher",
        ),
        (
            "    def forward(self, step):\n        return {'man': step.student.logits.mean()}\n",
            "undeclared term 'man'",
            "def forward",
        ),
        ("    def forward(self, step):\n        return {}\n", "did not give its active term 'main'", "def forward"),
        (
            "    def forward(self, step):\n"
            "        x = step.student.logits.mean()\n        return {'main': x, 'other': x}\n",
            "computed the term 'other', which has no weight",
            "def forward",
        ),
        (
            "    def forward(self, step):\n        return {'main': step.student.logits}\n",
            "main is a torch.float64 tensor of shape (2, 5, 5, 7)",
            "def forward",
        ),
        ("    def forward(self, step):\n        return {'main': 1.0}\n", "main is 1.0", "def forward"),
        (
            "    def forward(self, step):\n        return step.student.logits.mean()\n",
            "gave Tensor instead of a dict",
            "def forward",
        ),
    ],
)
def test_a_fault_in_a_plugin_names_it_its_file_and_line(mine: Path, body: str, says: str, line: str) -> None:
    method = built(mine, body)
    with pytest.raises(StageFailed) as caught:
        method(made_step(CASES[0]))
    message = caught.value.message
    assert says in message
    assert f"'mine' ({mine})" in message
    assert f"{mine}, line {line_of(mine, line)}" in message


def test_a_fault_while_building_names_the_line(mine: Path) -> None:
    body = (
        "    def setup(self):\n        raise ValueError('no room')\n    def forward(self, step):\n        return {}\n"
    )
    with pytest.raises(StageFailed, match=r"failed in setup.*line 9: ValueError: no room"):
        built(mine, body)


def test_out_of_memory_is_left_as_it_is(mine: Path) -> None:
    lines = [
        "    def forward(self, step):",
        "        import torch",
        "        raise torch.OutOfMemoryError('out of memory')",
    ]
    body = "\n".join(lines) + "\n"
    with pytest.raises(torch.OutOfMemoryError):
        built(mine, body)(made_step(CASES[0]))


def test_not_a_number_is_blamed_on_its_term(mine: Path) -> None:
    body = "    def forward(self, step):\n        return {'main': step.student.logits.mean() * float('nan')}\n"
    method = built(mine, body)
    values = {name: value for name, (value, _) in method(made_step(CASES[0])).items()}
    line = 1 + mine.read_text().splitlines().index("    def forward(self, step):")
    assert method.blame(values) == f"term 'main' of method 'mine' ({mine}) is nan ({mine}, line {line})"
    assert method.blame({"ce": float("nan"), "mine.main": 1.0}) == ""


def test_a_changed_plugin_is_refused(mine: Path) -> None:
    body = "    def forward(self, step):\n        return {'main': step.student.logits.mean()}\n"
    method = built(mine, body)
    spec = method.spec
    METHODS._entries.pop("mine")
    mine.write_text(HEADER + body + "# changed\n")
    load_plugins([mine])
    with pytest.raises(HarnessError, match=r"'mine' comes from .* the plan was made with sha256"):
        resolved_parts(spec)
    with pytest.raises(HarnessError, match="the plan was made with sha256"):
        instantiate(spec, CASES[0].student, CASES[0].teacher)


def test_a_changed_version_is_refused() -> None:
    spec = resolve("kd")[0]
    old = spec.model_copy(update={"parts": (spec.parts[0].model_copy(update={"version": 99}),)})
    with pytest.raises(HarnessError, match="the plan was made with version 99"):
        resolved_parts(old)
