"""`harness new-method`: write a documented, working template of a method, and its test."""

from __future__ import annotations

import importlib.util
import keyword
import re
from pathlib import Path
from typing import Annotated

import typer

from harness.errors import HarnessError

METHOD = '''"""{name}: the student's class probabilities move towards the teacher's. Say here what your method does."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field
from torch import Tensor

from methods import base
from methods.base import Method, Step, Term, resize
from methods.parts.precision import precise


class {cls}(Method):
    """L = alpha · mean over pixels of Σ_classes (softmax(T/τ) − softmax(S/τ))²."""

    name = "{name}"
    summary = "squared distance of class probabilities at every pixel"
    paper = "Authors: Title; venue, year"
    terms: ClassVar[dict[str, Term]] = {{"distance": Term(1.0, symbol="alpha", summary="squared distance")}}
    reads = frozenset({{"logits"}})  # of: logits, last, features, images, labels

    class Params(base.Params):
        """What a user may change: {name}[tau=2]."""

        tau: float = Field(1.0, gt=0, description="temperature of both softmaxes")

    params: Params

    def setup(self) -> None:
        """Build adapters for the active terms here; sizes are in self.student and self.teacher."""

    def forward(self, step: Step) -> dict[str, Tensor]:
        """The active terms: unweighted scalars. Maps are (B, C, h, w), and strides may differ."""
        if "distance" not in self.active:
            return {{}}
        student, teacher = precise(step.student.logits), precise(step.teacher_maps.logits)
        difference = (teacher / self.params.tau).softmax(1) - (resize(student, teacher) / self.params.tau).softmax(1)
        return {{"distance": difference.square().sum(dim=1).mean()}}
'''

TEST = '''"""{name} conforms to the contract of methods and computes its formula."""

from dataclasses import replace
from pathlib import Path

import torch

from harness.conformance import CASES, check, random_step
from harness.builders.distiller import build_distiller
from harness.builders.expression import resolve
from harness.plugins.registries import METHODS
from harness.plugins.file_plugin import load_plugin

load_plugin(Path(__file__).with_name("{name}.py"), [METHODS])


def test_it_conforms() -> None:
    assert [result for result in check("{name}") if result.outcome == "fail"] == []


def test_it_computes_its_formula() -> None:
    case = CASES[2]
    step = random_step(case)
    method = build_distiller(resolve("{name}[tau=2]")[0], case.student, case.teacher).double()
    value, weight = method(step)["{name}.distance"]
    expected = ((step.teacher.logits / 2).softmax(1) - (step.student.logits / 2).softmax(1)).square().sum(1).mean()
    torch.testing.assert_close(value, expected)
    assert weight == 1.0


def test_nothing_is_left_to_learn_from_a_teacher_like_the_student() -> None:
    case = CASES[2]
    step = random_step(case)
    method = build_distiller(resolve("{name}")[0], case.student, case.teacher).double()
    value, _ = method(replace(step, teacher=step.student))["{name}.distance"]
    assert float(value) == 0.0
'''


def new_method(
    name: Annotated[str, typer.Argument(help="Name of the method: lower-case letters, digits, underscores.")],
    folder: Annotated[Path, typer.Option("--dir", help="Folder for the two files.")] = Path(),
) -> None:
    """Write a documented, working template of a method, under 40 lines, and its test.

    Existing files are not overwritten.

    Examples:

        harness new-method my_method

        harness check-method my_method --plugin my_method.py

        harness sweep --methods none,my_method --plugin my_method.py
    """
    check_new_name(name)
    cls = "".join(word.capitalize() for word in name.split("_"))
    files = {folder / f"{name}.py": METHOD, folder / f"test_{name}.py": TEST}
    for file in files:
        if file.exists():
            raise HarnessError(f"{file} exists already; nothing is written", "choose another name or --dir")
    if importlib.util.find_spec(name):
        raise HarnessError(f"{name}.py would hide the Python module '{name}'", f"choose another name: my_{name}")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for file, template in files.items():
            with file.open("x") as stream:
                stream.write(template.format(name=name, cls=cls))
    except OSError as error:
        raise HarnessError(f"cannot write into {folder}: {error.strerror}", "choose another --dir") from error
    method, test = files
    typer.echo(f"wrote {method} and {test}; next:")
    typer.echo(f"  harness check-method {name} --plugin {method}")
    typer.echo(f"  python -m pytest {test}")
    typer.echo(f"  harness sweep --methods none,{name} --plugin {method}")


def check_new_name(name: str) -> None:
    """Check that a name is valid for a new method.

    Raises:
        HarnessError: it is not a lower-case identifier, or is taken.
    """
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name) or keyword.iskeyword(name) or keyword.issoftkeyword(name):
        raise HarnessError(
            f"'{name}' cannot be a method's name", "use lower-case letters, digits and underscores: my_method"
        )
    from harness.plugins.registries import METHODS
    from harness.plugins.validation import RESERVED

    if name in METHODS:
        raise HarnessError(f"there is a method '{name}' already ({METHODS.entry(name).origin})", "choose another name")
    if name in RESERVED:
        raise HarnessError(f"'{name}' is a reserved word in expressions", "choose another name")
