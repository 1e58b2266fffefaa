"""Methods of others: a really installed package, and plugins that go wrong while they are used."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from harness.builders.distiller import Distiller, build_distiller, resolved_parts, translator_specs
from harness.builders.expression import resolve
from harness.builders.models import _probed
from harness.cli.app import run
from harness.conformance import CASES, PROPERTIES, check, random_step
from harness.errors import HarnessError, StageFailed
from harness.launch.base import Options, make_job
from harness.planning.plan import make_plan
from harness.plugins.load import load_plugins
from harness.plugins.method_calls import checked_health
from harness.plugins.registries import DATASETS, FAMILIES, HEADS, METHODS
from harness.system.memory import out_of_memory
from harness.worker import FAILED, REFUSED, main
from harness.workspace.folders import Workspace
from tests.end_to_end.tiny import DATASET, STUDENT, TEACHER, Never, only_student, tiny_flags, tiny_sweep
from tests.processes import python

REPOSITORY = Path(__file__).parents[3]


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


def with_package(installed: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return python(*words, env={"PYTHONPATH": str(installed)}, cwd=installed)


def test_an_installed_package_is_listed_resolved_and_passes_its_own_test(installed: Path) -> None:
    test = REPOSITORY / "examples" / "plugin" / "test_margin.py"
    program = f"""
import json, sys
import pytest
from harness.builders.expression import resolve
from harness.plugins.registries import METHODS
from tests.end_to_end.tiny import tiny_flags
entry = METHODS.entry("margin")
spec = resolve("kd+margin[mu=2,beta=0.5]")[0]
print(json.dumps([entry.origin, entry.source, spec.expression, METHODS.broken]))
sys.exit(pytest.main(["-q", "-p", "no:cacheprovider", "--rootdir=.", "--import-mode=importlib", {str(test)!r}]))
"""
    done = with_package(installed, "-c", program)
    assert done.returncode == 0, done.stdout + done.stderr
    origin, source, *rest = json.loads(done.stdout.splitlines()[0])
    assert origin == "package harness-method-margin" and re.fullmatch("[0-9a-f]{64}", source)
    assert rest == ["kd+margin[beta=0.5,mu=2]", {}]
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


def test_a_package_that_changed_is_another_method_and_its_rows_name_no_file(installed: Path, tmp_path: Path) -> None:
    site = tmp_path / "site"
    shutil.copytree(installed, site)
    program = """
import json
from harness.builders.models import _probed
from harness.planning.plan import make_plan
from tests.end_to_end.tiny import tiny_sweep
nodes = make_plan(tiny_sweep(methods=("margin",))).nodes.values()
print(json.dumps([[node.key, node.reproduce] for node in nodes if node.spec.kind == "student"]))
"""
    keys = []
    for change in ("", "# changed\n"):
        file = site / "harness_method_margin.py"
        file.write_text(file.read_text() + change)
        done = with_package(site, "-c", program)
        assert done.returncode == 0, done.stderr
        ((key, command),) = json.loads(done.stdout)
        assert "--plugin" not in command
        keys.append(key)
    assert keys[0] != keys[1]


def test_a_stage_refuses_what_comes_from_another_package_than_planned(
    places: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plugins = load_plugins([places])
    plan = make_plan(tiny_sweep(**{name: (v if name == "dataset" else (v,)) for name, v in PLACED.items()}))
    node = only_student(plan)
    for field, what in (("dataset", "data set 'my_shapes'"), ("model", "model my_family:test_efficientnet/my_head@16")):
        options = Options(Workspace(tmp_path / "work"), "", plugins=plugins, device="cpu", threads=1)
        part = getattr(node.spec, field).model_copy(update={"source": "other"})
        job = make_job(plan, replace(node, spec=node.spec.model_copy(update={field: part})), options)
        assert main(job.write(), stop=Never()) == REFUSED
        assert f"the plugin or package of {what} changed since the stage was planned" in capsys.readouterr().err


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


PLACES = """from typing import ClassVar

from backbones.heads import Linear
from backbones.timm_family import TimmFamily
from harness.data.sets.shapes import Shapes

class MyHead(Linear):
    name = "my_head"
    summary = "a head"

class MyFamily(TimmFamily):
    name = "my_family"
    summary = "a family"

class MyShapes(Shapes):
    name = "my_shapes"
    summary = "a data set"
"""


@pytest.fixture
def places(tmp_path: Path) -> Iterator[Path]:
    """A plugin with a head, a backbone family and a data set."""
    file = tmp_path / "my places.py"
    file.write_text(PLACES)
    yield file
    _forget_places()


def _forget_places() -> None:
    for registry, name in ((HEADS, "my_head"), (FAMILIES, "my_family"), (DATASETS, "my_shapes")):
        registry._entries.pop(name, None)


PLACED = {
    "students": "my_family:test_efficientnet/my_head",
    "teachers": "my_family:test_resnet/my_head@8",
    "dataset": "my_shapes[size=32,train=12,val=3,test=4]",
}


@pytest.mark.slow
def test_heads_backbones_and_data_sets_of_a_plugin_are_swept_and_their_rows_made_again(
    places: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = tiny_flags(tmp_path / "work", **PLACED)
    done = with_package(tmp_path, "-m", "harness", "sweep", *words, "--plugin", str(places))
    assert done.returncode == 0, done.stdout + done.stderr
    (command,) = {
        json.loads(file.read_text())["reproduce"] for file in tmp_path.glob("work/stages/*/record.json")
        if json.loads(file.read_text())["cell"]["method"] == "kd"
    }  # fmt: skip
    assert shlex.split(command)[-2:] == ["--plugin", str(places)]
    again = [*shlex.split(command)[1:], "--workspace", str(tmp_path / "work")]
    done = with_package(tmp_path, "-m", "harness", *again)
    assert done.returncode == 0 and "all stages are done already" in done.stdout, done.stdout + done.stderr


def test_heads_backbones_and_data_sets_of_a_plugin_are_listed_and_counted(
    places: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def said(*words: str) -> str:
        assert run([*words, "--plugin", str(places)]) == 0
        return capsys.readouterr().out

    assert "my_head" in said("backbones") and "my_family" in said("backbones")
    assert "my_shapes" in said("datasets")
    assert "nothing wrong" in said("data", "check", "my_shapes[size=32,train=4,val=2,test=2]")
    assert "my_head" in said("cost", "my_family:test_efficientnet/my_head@16", "--size", "32")


@pytest.mark.parametrize(
    ("at", "line", "says"),
    [
        (
            "a data set",
            "    palette = (('a', 'b', 'c'),) * 8\n",
            "data set 'my_shapes' has invalid declarations: TypeError",
        ),
        ("a data set", "    classes = 5\n", "data set 'my_shapes' has invalid declarations: TypeError"),
        ("a data set", "    classes = ()\n", r"data set my_shapes: its classes are \(\)"),
        ("a data set", "    palette = ((0, 0, 0),)\n", "its palette has 1 colours for 8 classes"),
        ("a data set", "    weights = 'coco'\n", "its weights are 'coco'"),
        ("a data set", "    recipe = 'quik'\n", "there is no recipe 'quik'"),
        ("a data set", "    summary = None\n", "my_shapes declares no summary"),
        ("a head", "    summary = None\n", "my_head declares no summary"),
    ],
)
def test_data_sets_and_heads_that_make_no_sense_are_refused(places: Path, at: str, line: str, says: str) -> None:
    start, end = PLACES.split(f'    summary = "{at}"\n')
    places.write_text(start + f'    summary = "{at}"\n' + line + end)
    with pytest.raises(HarnessError, match=says):
        load_plugins([places])


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        ("super().__init__(channels, strides, classes + 1)", "declares classes 2 but returns 3"),
        ("super().__init__(channels, strides, classes); self.stride = 4", "declares stride 4 but returns 8"),
        (
            "super().__init__(channels, strides, classes); self.last_channels = 7",
            "declares last_channels 7 but returns",
        ),
        ("raise KeyError('depth')", r"cannot run: KeyError: 'depth' \(plugin .*my places.py, line 11\)"),
        ("raise SystemExit(0)", r"cannot run: SystemExit: 0 \(plugin .*my places.py, line 11\)"),
    ],
)
def test_a_head_that_is_not_what_it_declares_is_skipped_with_the_reason(places: Path, lines: str, says: str) -> None:
    start, end = PLACES.split('    summary = "a head"\n')
    body = f"    def __init__(self, channels, strides, classes):\n        {lines}\n"
    places.write_text(start + '    summary = "a head"\n' + body + end)
    load_plugins([places])
    plan = make_plan(tiny_sweep(students=("timm:test_efficientnet/my_head",), strides=(8,)))
    assert not plan.nodes
    _probed.cache_clear()
    assert re.search(says, plan.skips[0].reason), plan.skips[0].reason


DATA_FAULTS = {
    "def split(self, name):\n        return 1 / 0": "ZeroDivisionError",
    "def split(self, name):\n        raise SystemExit(3)": "SystemExit: 3",
}


@pytest.mark.parametrize("body", DATA_FAULTS)
def test_a_fault_of_a_data_set_in_a_run_names_the_plugin_and_the_line(
    places: Path, body: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    places.write_text(PLACES + f"    {body}\n")
    plugins = load_plugins([places])
    plan = make_plan(tiny_sweep(dataset=PLACED["dataset"]))
    job = make_job(plan, only_student(plan), Options(Workspace(tmp_path / "work"), "", plugins=plugins, device="cpu"))
    assert main(job.write(), stop=Never()) == FAILED
    line = 1 + (PLACES + f"    {body}").splitlines().index("    " + body.splitlines()[0]) + 1
    assert f"failed: plugin {places}, line {line}: {DATA_FAULTS[body]}" in capsys.readouterr().err


@pytest.mark.parametrize("manifest", ["5", "{'a': float('nan')}", "{'a': {1, 2}}"])
def test_a_manifest_that_is_no_json_is_refused(places: Path, manifest: str) -> None:
    places.write_text(PLACES + f"    def manifest(self):\n        return {manifest}\n")
    load_plugins([places])
    with pytest.raises(HarnessError, match=r"data set 'my_shapes': its manifest .* is not plain JSON"):
        make_plan(tiny_sweep(dataset="my_shapes"))


@pytest.mark.parametrize("error", ["ValueError('no files')", "SystemExit(0)"])
def test_a_fault_of_a_data_set_in_a_plan_names_the_plugin_and_the_line(
    places: Path, error: str, capsys: pytest.CaptureFixture[str]
) -> None:
    places.write_text(PLACES + f"    def manifest(self):\n        raise {error}\n")
    words = ["sweep", "--plugin", str(places), "-d", "my_shapes", "-m", "none", "--dry-run"]
    assert run(words) == 1
    said = capsys.readouterr().err
    assert f"plugin {places}, line {len(PLACES.splitlines()) + 2}: {error.split('(')[0]}" in said
    assert "fix the plugin" in said and "bug of the harness" not in said


@pytest.mark.parametrize("kind", ["students", "teachers", "dataset"])
def test_the_content_of_a_head_backbone_or_data_set_is_keyed(places: Path, kind: str) -> None:
    plain = {**PLACED, "students": STUDENT, "teachers": TEACHER, "dataset": DATASET}

    def keys() -> dict[str, str]:
        chosen = {name: (PLACED if name == kind else plain)[name] for name in PLACED}
        values = {name: (value if name == "dataset" else (value,)) for name, value in chosen.items()}
        load_plugins([places])
        nodes = make_plan(tiny_sweep(methods=("none", "kd"), **values)).nodes.values()
        return {f"{node.spec.kind} {node.spec.method.expression}": key for node in nodes for key in [node.key]}

    before = keys()
    _forget_places()
    places.write_text(PLACES + "# changed\n")
    after = keys()
    changed = {name for name in before if before[name] != after[name]}
    everything = {"teacher none", "student none", "student kd"}
    assert set(before) == everything
    assert (
        changed
        == {
            "students": {"student none", "student kd"},
            "teachers": {"teacher none", "student kd"},
            "dataset": everything,
        }[kind]
    )


@pytest.fixture
def mine(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "mine.py"
    METHODS._entries.pop("mine", None)


def built(file: Path, body: str) -> Distiller:
    file.write_text(HEADER + body)
    load_plugins([file])
    return build_distiller(resolve("mine")[0], CASES[0].student, CASES[0].teacher)


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
        ("    def forward(self, step):\n        return {}\n", "did not return its active term 'main'", "def forward"),
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
            "returned Tensor instead of a dict",
            "def forward",
        ),
    ],
)
def test_a_fault_in_a_plugin_names_it_its_file_and_line(mine: Path, body: str, says: str, line: str) -> None:
    method = built(mine, body)
    with pytest.raises(StageFailed) as caught:
        method(random_step(CASES[0]))
    message = caught.value.message
    assert says in message
    assert f"'mine' ({mine})" in message
    assert f"{mine}, line {line_of(mine, line)}" in message


@pytest.mark.parametrize(
    ("declaration", "says"),
    [
        ("    term = {'main': Term(1.0)}\n", "declares no terms, so it would equal none"),
        ("    terms = {'main': Term(1.0)}\n    reads = 'logits'\n", "reads is 'logits'"),
        (
            "    terms = {'main': Term(1.0)}\n    class Params(Params):\n        tau: PositiveFloat = -1.0\n",
            "parameter tau has no valid default",
        ),
        (
            "    terms = {'main': Term(1.0)}\n    @classmethod\n    def weights(cls, params):\n        return 1 / 0\n",
            "weights\\(\\) raises ZeroDivisionError",
        ),
        (
            "    terms = {'main': Term(1.0)}\n    @classmethod\n    def weights(cls, params):\n        return [1.0]\n",
            "weights\\(\\) returns list",
        ),
        (
            "    terms = {'main': Term(1.0)}\n    class Params(Params):\n        x: int = Field(1, alias='y')\n",
            "parameter x has an alias",
        ),
        (
            "    terms = {'main': Term(1.0)}\n    class Params(Params):\n        @computed_field\n"
            "        def y(self) -> int:\n            return 1\n",
            "parameter y is computed",
        ),
        (
            "    terms = {'main': Term(1.0)}\n    class Params(Params):\n        x: float = float('inf')\n",
            "parameter x has no valid default: Input should be a finite number",
        ),
        ("    terms = {1: Term(1.0)}\n", "method 'mine' has invalid declarations"),
        ("    terms = {'main': Term(1.0)}\n    name = 'Mine'\n", "its name cannot be written in an expression"),
        ("    terms = {'main': Term(1.0)}\n    name = 'import'\n", "its name cannot be written in an expression"),
    ],
)
def test_a_declaration_that_makes_no_sense_is_refused(mine: Path, declaration: str, says: str) -> None:
    top = "from pydantic import Field, PositiveFloat, computed_field\n"
    top += "from methods.base import Method, Params, Term\n\nclass Mine(Method):\n"
    body = "    name = 'mine'\n    summary = 'a plugin'\n    reads = frozenset({'logits'})\n"
    mine.write_text(top + body + declaration + "    def forward(self, step):\n        return {}\n")
    with pytest.raises(HarnessError, match=f"{re.escape(str(mine))}, line 4: .*{says}"):
        load_plugins([mine])


@pytest.mark.parametrize("name", ["keys", "type", "forward"])
def test_a_method_may_be_called_as_modules_call_their_own_things(tmp_path: Path, name: str) -> None:
    file = tmp_path / "mine.py"
    body = "    def forward(self, step):\n        return {'main': step.student.logits.mean()}\n"
    file.write_text(HEADER.replace('"mine"', f'"{name}"') + body)
    load_plugins([file])
    try:
        method = build_distiller(resolve(f"kd+{name}")[0], CASES[0].student, CASES[0].teacher)
        assert f"{name}.main" in method(random_step(CASES[0]))
    finally:
        METHODS._entries.pop(name)


FORWARD = "    def forward(self, step):\n        return {'main': step.student.logits.mean()}\n"
KEYED = "    @classmethod\n    def translator_key(cls, *_):\n        return {}\n"


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("    @classmethod\n    def skip(cls, *_):\n        return 5\n", "skip returns 5"),
        (
            "    @classmethod\n    def translator_key(cls, *_):\n        return ['a']\n",
            r"translator_key returns \['a'\]",
        ),
        (
            "    @classmethod\n    def translator_key(cls, *_):\n        return {1: 2}\n",
            "translator_key returns {1: 2}",
        ),
        (
            "    @classmethod\n    def translator_key(cls, *_):\n        return {'a': float('nan')}\n",
            "translator_key returns {'a': nan}",
        ),
        (
            KEYED + "    @classmethod\n    def build_translator(cls, *_):\n        return 5\n",
            "build_translator returns 5",
        ),
    ],
)
def test_what_a_method_gives_a_plan_is_checked(mine: Path, body: str, says: str) -> None:
    mine.write_text(HEADER + FORWARD + body)
    load_plugins([mine])
    function = says.split()[0]
    line = next(n for n, text in enumerate(mine.read_text().splitlines(), 1) if f"def {function}" in text)
    with pytest.raises(StageFailed, match=says) as caught:
        make_plan(tiny_sweep(methods=("mine",)))
    assert f"'mine' ({mine})" in caught.value.message
    assert any(f"{mine}, line {n}" in caught.value.message for n in (line, line - 1))


def test_a_translators_key_may_hold_tuples(mine: Path) -> None:
    body = "    @classmethod\n    def translator_key(cls, *_):\n        return {'strides': (1, (2, 3))}\n"
    mine.write_text(HEADER + FORWARD + body)
    load_plugins([mine])
    (found,) = translator_specs(resolve("mine")[0], CASES[0].student, CASES[0].teacher).values()
    assert found.params == {"strides": [1, [2, 3]]}


def test_state_of_earlier_versions_loads() -> None:
    method = build_distiller(resolve("fitnet")[0], CASES[0].student, CASES[0].teacher)
    assert {name.split(".")[1] for name in method.state_dict()} == {"fitnet"}


def test_what_a_translator_prescribes_is_told_as_the_methods(mine: Path) -> None:
    learned = """
    @classmethod
    def build_translator(cls, *_):
        class Learned(base.Translator):
            terms = {"main": Term(1.0)}
            recipe = {"optimiser": {"lr": 0.1}}
            def forward(self, teacher):
                return {}
        return Learned()
"""
    mine.write_text("from methods import base\n" + HEADER + FORWARD + KEYED + learned)
    load_plugins([mine])
    with pytest.raises(HarnessError, match=r"translator of method 'mine' .*there is no field .optimiser.") as caught:
        make_plan(tiny_sweep(methods=("mine",)))
    assert "optimizer" in caught.value.hint
    results = {result.property: result for result in check("mine", ["translator"])}
    assert results["translator"].outcome == "fail" and "optimiser" in results["translator"].reason


@pytest.mark.parametrize(
    ("health", "says"),
    [
        ("{'a': 1 / 0}", "failed in the health of its translator, .*ZeroDivisionError"),
        ("{'a': float('nan')}", "the health of its translator is {'a': nan}"),
        ("{'a': None}", "the health of its translator is {'a': None}"),
        ("5", "the health of its translator is 5"),
    ],
)
def test_the_health_of_a_translator_is_checked(mine: Path, health: str, says: str) -> None:
    method = type(built(mine, FORWARD).method("mine"))
    with pytest.raises(StageFailed, match=says):
        checked_health(method, lambda: eval(health))
    assert checked_health(method, lambda: {"dead": 0, "mean": 0.5}) == {"dead": 0.0, "mean": 0.5}
    with pytest.raises(StageFailed, match=r"^dead"):
        checked_health(method, lambda: (_ for _ in ()).throw(ValueError("dead")))


def test_a_validator_that_raises_anything_is_told_in_the_expression(mine: Path) -> None:
    lines = """
    class Params(MethodParams):
        x: int = 0
        @field_validator("x")
        @classmethod
        def check(cls, value):
            return {0: 0}[value]
"""
    top = "from pydantic import field_validator\nfrom methods.base import MethodParams\n"
    mine.write_text(top + HEADER + FORWARD + lines)
    load_plugins([mine])
    with pytest.raises(HarnessError, match="parameters of mine cannot be validated: KeyError: 3") as caught:
        resolve("kd+mine[x=3]")
    assert f"fix the plugin: {mine}, line" in caught.value.hint and "column 4" in caught.value.message


JUDGED = """
    def setup(self):
        from torch import nn
        self.judge = nn.Linear(1, 1)
    def get_discriminator(self):
        return self.judge
    def discriminator_loss(self, step):
        loss = self.judge(step.student.logits.mean().reshape(1, 1)).mean()
        return loss * (float("nan") if step.iteration == 2 else 1.0)
"""


def run_student(mine: Path, body: str, tmp_path: Path) -> int:
    """A student taught by the plugin, in this process: its exit code."""
    mine.write_text(HEADER.replace("    reads", "    needs_teacher = False\n    reads") + FORWARD + body)
    plugins = load_plugins([mine])
    plan = make_plan(tiny_sweep(methods=("mine",)))
    options = Options(Workspace(tmp_path / "work"), "", plugins=plugins, device="cpu", threads=1)
    return main(make_job(plan, only_student(plan), options).write(), stop=Never())


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (JUDGED, "the discriminator's loss of method 'mine' ({mine}) is nan ({mine}, line"),
        (
            JUDGED.replace("return self.judge", "return 5", 1),
            "method 'mine' ({mine}): get_discriminator returns 5 ({mine}, line",
        ),
        (JUDGED.replace("return self.judge", "raise SystemExit(0)", 1), "failed in get_discriminator, {mine}, line"),
        (JUDGED + "    discriminator_recipe = {'name': 'zzz'}\n", "discriminator_recipe names the optimiser 'zzz'"),
        (
            JUDGED + "    discriminator_recipe = {'speed': 3}\n",
            "discriminator_recipe = {{'speed': 3}} makes no optimiser",
        ),
    ],
)
def test_faults_of_an_adversary_stop_the_run_with_its_name(
    mine: Path, body: str, says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = run_student(mine, body, tmp_path)
    said = capsys.readouterr().err
    assert code in (FAILED, REFUSED) and says.format(mine=mine) in said, said
    if "discriminator_recipe" in says:
        (result,) = check("mine", ["discriminator"])
        assert result.outcome == "fail" and "discriminator_recipe" in result.reason


def test_a_fault_while_building_names_the_line(mine: Path) -> None:
    body = (
        "    def setup(self):\n        raise ValueError('no room')\n    def forward(self, step):\n        return {}\n"
    )
    with pytest.raises(StageFailed, match=r"failed in setup.*line 9: ValueError: no room"):
        built(mine, body)


@pytest.mark.parametrize(
    "raised", ["torch.empty(10**15)", "raise torch.OutOfMemoryError('out of memory')", "raise MemoryError"]
)
def test_out_of_memory_is_left_as_it_is(mine: Path, raised: str) -> None:
    body = f"    def forward(self, step):\n        import torch\n        {raised}\n"
    with pytest.raises((MemoryError, RuntimeError)) as found:
        built(mine, body)(random_step(CASES[0]))
    assert out_of_memory(found.value)


def test_not_a_number_is_blamed_on_its_term(mine: Path) -> None:
    body = "    def forward(self, step):\n        return {'main': step.student.logits.mean() * float('nan')}\n"
    method = built(mine, body)
    values = {name: value for name, (value, _) in method(random_step(CASES[0])).items()}
    line = 1 + mine.read_text().splitlines().index("    def forward(self, step):")
    assert method.describe_nonfinite(values) == f"term 'main' of method 'mine' ({mine}) is nan ({mine}, line {line})"
    assert method.describe_nonfinite({"ce": float("nan"), "mine.main": 1.0}) == ""


def test_a_changed_plugin_is_refused(mine: Path) -> None:
    body = "    def forward(self, step):\n        return {'main': step.student.logits.mean()}\n"
    method = built(mine, body)
    spec = method.spec
    METHODS._entries.pop("mine")
    mine.write_text(HEADER + body + "# changed\n")
    load_plugins([mine])
    with pytest.raises(HarnessError, match=r"method 'mine' \(.*\) changed since the stage was planned"):
        resolved_parts(spec)
    with pytest.raises(HarnessError, match="changed since the stage was planned"):
        build_distiller(spec, CASES[0].student, CASES[0].teacher)


def test_a_plugin_that_changed_is_refused_before_it_is_imported(
    mine: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    built(mine, "    def forward(self, step):\n        return {'main': step.student.logits.mean()}\n")
    plan = make_plan(tiny_sweep(methods=("mine",)))
    options = Options(Workspace(tmp_path / "work"), "", plugins=load_plugins([mine]), device="cpu", threads=1)
    teacher = next(node for node in plan.nodes.values() if node.spec.kind == "teacher")
    mine.write_text("this is (no Python")
    job = make_job(plan, teacher, options)
    assert main(job.write(), stop=Never()) == REFUSED
    said = capsys.readouterr().err
    assert f"plugin {mine} changed since the stage was planned" in said and "SyntaxError" not in said


def test_a_changed_version_is_refused() -> None:
    spec = resolve("kd")[0]
    old = spec.model_copy(update={"parts": (spec.parts[0].model_copy(update={"version": 99}),)})
    with pytest.raises(HarnessError, match="but the plan was made with version 99"):
        resolved_parts(old)
