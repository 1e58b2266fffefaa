"""What every distillation method must keep to, checked on made-up maps. Third parties run it: `harness check-method`.

Nothing is trained and no data set is read: maps are random tensors with the sizes that networks of various output
strides give, so a method is checked in a second or two.
"""

from __future__ import annotations

import io
import itertools
import json
import math
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, get_args, get_origin

import numpy as np
import torch
from pydantic import ValidationError
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from harness.declaration import check_declaration
from harness.distiller import Combined, build_translator, instantiate, skip_reason, source_file, translator_specs
from harness.errors import HarnessError
from harness.expression import canonical, combine, resolve, validated
from harness.registries import METHODS
from harness.spec import MethodPart, MethodSpec
from harness.training.randomness import reseed
from methods.base import IGNORE, Maps, Method, Sizes, Step, Translator

CLASSES = 5

EXCLUSIONS: Mapping[tuple[str, str], str] = {}
"""(method, property) -> why a built-in method is excused. The only place for exceptions."""


class Broken(AssertionError):
    """A property does not hold; the message says how."""


class NotApplicable(Exception):
    """A property says nothing about this method; the message says why."""


@dataclass(frozen=True)
class Result:
    """What came out for one property."""

    property: str
    outcome: Literal["pass", "fail", "skip"]
    reason: str = ""


@dataclass(frozen=True)
class Property:
    """One thing that every method must keep to."""

    name: str
    summary: str
    check: Callable[[Subject], None]


def check(name: str, only: Sequence[str] = ()) -> list[Result]:
    """Check a registered method against every property, or some.

    Raises:
        HarnessError: there is no such method or property.
    """
    unknown = sorted(set(only) - {p.name for p in PROPERTIES})
    if unknown:
        raise HarnessError(f"there is no property '{unknown[0]}'", f"known: {', '.join(p.name for p in PROPERTIES)}")
    subject = Subject(METHODS.get(name))
    return [run_property(p, subject) for p in PROPERTIES if not only or p.name in only]


def run_property(item: Property, subject: Subject) -> Result:
    """One property of one method; never raises for what the method does."""
    excused = EXCLUSIONS.get((subject.cls.name, item.name))
    if excused:
        return Result(item.name, "skip", excused)
    state, pythons, numpys = torch.random.get_rng_state(), random.getstate(), np.random.get_state()
    try:
        item.check(subject)
    except NotApplicable as reason:
        return Result(item.name, "skip", str(reason))
    except (Broken, HarnessError) as reason:
        return Result(item.name, "fail", str(reason))
    except Exception as error:
        return Result(item.name, "fail", f"{type(error).__name__}: {error}")
    finally:
        torch.random.set_rng_state(state)
        random.setstate(pythons)
        np.random.set_state(numpys)
    return Result(item.name, "pass")


# Made-up networks ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    """A student and a teacher that might meet, and a batch for them."""

    label: str
    student: Sizes
    teacher: Sizes
    batch: int
    size: tuple[int, int]


def sizes(stride: int, channels: Sequence[int], last: int, last_stride: int | None = None) -> Sizes:
    """A network's sizes: as many backbone maps as channels, the deepest at the output stride.

    Args:
        stride: output stride.
        channels: of the backbone's maps, shallow to deep.
        last: channels of what the classifier reads.
        last_stride: its stride, where a head upsamples; else the output stride.
    """
    first = 6 - len(channels)
    strides = tuple(min(2**level, stride) for level in range(first, 6))
    head = last_stride or stride
    return Sizes(CLASSES, last, head, head, tuple(channels), strides)


_SMALL, _LARGE = (6, 8, 10, 12, 14), (9, 12, 15, 18)
CASES = (
    Case("teacher 8, student 16, odd sizes", sizes(16, _SMALL, 14), sizes(8, _LARGE, 20), 2, (65, 97)),
    Case("teacher 8, student 32, one image", sizes(32, _SMALL, 14), sizes(8, _LARGE, 20), 1, (96, 72)),
    Case("equal networks at stride 8", sizes(8, _LARGE, 20), sizes(8, _LARGE, 20), 3, (64, 64)),
    Case("teacher 16, student 4", sizes(4, _SMALL, 14), sizes(16, _LARGE, 20), 2, (40, 56)),
    Case("heads that upsample", sizes(16, _SMALL, 16, 4), sizes(8, _LARGE, 16, 4), 2, (64, 48)),
)
LABELS = ("blocks", "all ignored", "a class absent", "no pixel ignored")


@dataclass
class MadeMaps:
    """Random maps of given sizes."""

    logits: Tensor
    last: Tensor
    features: tuple[Tensor, ...]

    def tensors(self) -> list[Tensor]:
        """All of them, in a fixed order."""
        return [self.logits, self.last, *self.features]

    def to(self, dtype: torch.dtype) -> MadeMaps:
        """The same values in another type, gradients asked for as before."""
        made = [t.detach().to(dtype).requires_grad_(t.requires_grad) for t in self.tensors()]
        return MadeMaps(made[0], made[1], tuple(made[2:]))

    def at(self, order: Tensor) -> MadeMaps:
        """The images of the batch in another order."""
        made = [t.detach()[order].requires_grad_(t.requires_grad) for t in self.tensors()]
        return MadeMaps(made[0], made[1], tuple(made[2:]))


def made_maps(of: Sizes, batch: int, size: tuple[int, int], generator: torch.Generator, grad: bool) -> MadeMaps:
    """Maps of a network of these sizes for (batch, 3, *size) images, in float64."""

    def draw(channels: int, stride: int) -> Tensor:
        shape = (batch, channels, math.ceil(size[0] / stride), math.ceil(size[1] / stride))
        return torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_(grad)

    features = tuple(draw(c, s) for c, s in zip(of.features, of.strides, strict=True))
    # With a head that changes nothing, what the classifier reads is the backbone's last map.
    return MadeMaps(draw(of.classes, of.logits_stride), draw(of.last, of.last_stride), features)


def made_labels(kind: str, batch: int, size: tuple[int, int], generator: torch.Generator) -> Tensor:
    """Labels (batch, *size) in blocks of 8×8 pixels, as `LABELS` names them."""
    rows, columns = math.ceil(size[0] / 8), math.ceil(size[1] / 8)
    blocks = torch.randint(0, CLASSES, (batch, rows, columns), generator=generator)
    if kind == "a class absent":
        blocks[blocks == 1] = 0
    elif kind != "no pixel ignored":
        hidden = torch.rand(blocks.shape, generator=generator) < 0.15
        blocks = blocks.masked_fill(hidden, IGNORE)
    if kind == "all ignored":
        blocks = torch.full_like(blocks, IGNORE)
    return blocks.repeat_interleave(8, 1).repeat_interleave(8, 2)[:, : size[0], : size[1]].contiguous()


def made_step(
    case: Case, seed: int = 0, labels: str = "blocks", dtype: torch.dtype = torch.float64, iteration: int = 0
) -> Step:
    """One iteration of a case: maps of student (asking for gradients) and teacher, images and labels."""
    generator = torch.Generator().manual_seed(seed)
    student = made_maps(case.student, case.batch, case.size, generator, grad=True).to(dtype)
    teacher = made_maps(case.teacher, case.batch, case.size, generator, grad=False).to(dtype)
    images = torch.randn((case.batch, 3, *case.size), generator=generator, dtype=torch.float64).to(dtype)
    return Step(student, teacher, images, made_labels(labels, case.batch, case.size, generator), iteration, 10)


def step_tensors(step: Step) -> dict[str, Tensor]:
    """Every tensor of a made-up step, by a name that an error can show."""
    found = {"images": step.images, "labels": step.labels}
    for who, maps in (("student", step.student), ("teacher", step.teacher)):
        if isinstance(maps, MadeMaps):
            names = ["logits", "last", *(f"features[{i}]" for i in range(len(maps.features)))]
            found |= {f"{who} {name}": t for name, t in zip(names, maps.tensors(), strict=True)}
    return found


# The method under examination ---------------------------------------------------------------------------------------


@dataclass
class Subject:
    """A method class, and ways to build and call it."""

    cls: type[Method]
    refusals: list[str] = field(default_factory=list)

    @cached_property
    def full(self) -> MethodSpec:
        """Every term active, those without a default weight at weight 1."""
        return self.spec(tuple(self.cls.terms))

    def spec(self, terms: Sequence[str], params: Mapping[str, Any] | None = None) -> MethodSpec:
        """The method with these terms active."""
        values = validated(self.cls, dict(params or {}))
        weights = self.cls.weights(values)
        part = MethodPart(
            name=self.cls.name,
            version=self.cls.version,
            params=values.model_dump(mode="json"),
            weights={term: float(weights[term]) or 1.0 for term in self.cls.terms if term in terms},
            source=METHODS.entry(self.cls.name).source,
        )
        return combine([part])

    @cached_property
    def subsets(self) -> list[tuple[str, ...]]:
        """Sets of active terms: all of them while there are few, else single ones and all but one."""
        terms = tuple(self.cls.terms)
        counts = range(1, len(terms)) if len(terms) <= 4 else (1, len(terms) - 1)
        return [chosen for count in counts for chosen in itertools.combinations(terms, count)]

    @cached_property
    def cases(self) -> list[Case]:
        """The cases that the method says it fits."""
        fitting = []
        for case in CASES:
            reason = skip_reason(self.full, case.student, self.teacher(case))
            if reason:
                self.refusals.append(f"{case.label}: {reason}")
            else:
                fitting.append(case)
        if not fitting:
            raise Broken(f"it fits no case: {'; '.join(self.refusals)}")
        return fitting

    def teacher(self, case: Case) -> Sizes | None:
        """The case's teacher; a method that needs none is given none."""
        return case.teacher if self.cls.needs_teacher else None

    def build(self, spec: MethodSpec, case: Case, dtype: torch.dtype = torch.float64, seed: int = 1) -> Combined:
        """The method in training mode, with untrained translators where it wants some."""
        teacher = self.teacher(case)
        translators: dict[str, Translator] = {}
        if teacher is not None:
            wanted = translator_specs(spec, case.student, teacher)
            translators = {name: build_translator(item, teacher, seed=2) for name, item in wanted.items()}
        return instantiate(spec, case.student, teacher, translators, seed).to(dtype).train()

    def step(self, case: Case, seed: int = 0, labels: str = "blocks", dtype: torch.dtype = torch.float64) -> Step:
        """A step of the case; without a teacher for a method that needs none."""
        step = made_step(case, seed, labels, dtype)
        return step if self.cls.needs_teacher else Step(step.student, None, step.images, step.labels, 0, 10)


def values_of(built: Combined, step: Step, seed: int = 3) -> dict[str, Tensor]:
    """The terms by their own names, computed under a seed, as the trainer does it."""
    reseed(seed, "method")
    return {name.split(".", 1)[1]: value for name, (value, _) in built(step).items()}


def total_of(built: Combined, values: Mapping[str, Tensor]) -> Tensor:
    """The weighted sum of terms."""
    weights = {name.split(".", 1)[1]: weight for name, weight in built.weights.items()}
    return torch.stack([weights[name] * value.double() for name, value in values.items()]).sum()


def _backward(loss: Tensor) -> None:
    loss.backward()  # type: ignore[no-untyped-call]


def _some_terms(subject: Subject) -> None:
    if not subject.cls.terms:
        raise NotApplicable("the method has no terms")


def _adversary_parameters(built: Combined) -> set[int]:
    return {id(p) for _, module in built.adversaries() for p in module.parameters()}


# The properties -----------------------------------------------------------------------------------------------------


def _declaration(subject: Subject) -> None:
    cls = subject.cls
    check_declaration(cls)
    file = source_file(cls)
    if not file:
        raise Broken("its source file cannot be found, so no error could name a line")
    for spec in (subject.full, *resolve(cls.name), *(subject.spec(terms) for terms in subject.subsets)):
        if resolve(spec.expression) != [spec]:
            raise Broken(f"the expression '{spec.expression}' does not resolve to what it was written for")
        if canonical(spec.parts) != spec.expression:
            raise Broken(f"'{spec.expression}' is not its own canonical form")


def _weights(subject: Subject) -> None:
    cls = subject.cls
    _some_terms(subject)
    declared = {term: float(w) for term, w in cls.weights(validated(cls, {})).items() if w}
    found = {t: w for spec in resolve(cls.name) for part in spec.parts for t, w in part.weights.items()}
    if declared != found:
        raise Broken(f"weights are declared as {declared}, the expression '{cls.name}' gives {found}")
    built = subject.build(subject.full, subject.cases[0])
    values = values_of(built, subject.step(subject.cases[0]))
    if set(values) != set(cls.terms):
        raise Broken(f"declared {sorted(cls.terms)}, computed {sorted(values)}")


def _finite(subject: Subject) -> None:
    _some_terms(subject)
    for case in subject.cases:
        built = subject.build(subject.full, case, torch.float32)
        for number, kind in enumerate(LABELS):
            _expect_finite(built, subject.step(case, number, kind, torch.float32), f"{case.label}; labels: {kind}")


def _expect_finite(built: Combined, step: Step, where: str) -> None:
    built.zero_grad()
    values = values_of(built, step)
    fault = built.blame({f"{built.spec.parts[0].name}.{name}": value for name, value in values.items()})
    if fault:
        raise Broken(f"{fault} ({where})")
    total = total_of(built, values)
    if total.requires_grad:
        _backward(total)
    for name, tensor in [*step_tensors(step).items(), *built.named_parameters()]:
        if tensor.grad is not None and not bool(torch.isfinite(tensor.grad).all()):
            raise Broken(f"the gradient at {name} is not finite ({where})")


def _extremes(subject: Subject) -> None:
    """Maps that are all zero, equal to the teacher's, or very large are what diverging and converged runs give."""
    _some_terms(subject)
    case = next((c for c in subject.cases if c.student == c.teacher), subject.cases[0])
    built = subject.build(subject.full, case, torch.float32)
    for what in ("zero", "equal", "large", "constant"):
        step = subject.step(case, dtype=torch.float32)
        for who in (step.student, step.teacher):
            for tensor in who.tensors() if isinstance(who, MadeMaps) else ():
                with torch.no_grad():
                    if what == "zero":
                        tensor.zero_()
                    elif what == "large":
                        tensor.mul_(1e3)
                    elif what == "constant":
                        tensor.fill_(0.5)
        if what == "equal" and isinstance(step.student, MadeMaps) and isinstance(step.teacher, MadeMaps):
            with torch.no_grad():
                for mine, theirs in zip(step.student.tensors(), step.teacher.tensors(), strict=False):
                    if mine.shape == theirs.shape:
                        mine.copy_(theirs)
        _expect_finite(built, step, f"{what} maps")


def _choices(subject: Subject) -> None:
    """Every value of a parameter that is a choice: terms and gradients are finite."""
    alternatives = list(_alternatives(subject.cls))
    _some_terms(subject)
    if not alternatives:
        raise NotApplicable("no parameter is a choice")
    case = subject.cases[0]
    for params in alternatives:
        spec = subject.spec(tuple(subject.cls.terms), params)
        where = ", ".join(f"{name}={value}" for name, value in params.items())
        if skip_reason(spec, case.student, subject.teacher(case)):
            continue
        try:
            built = subject.build(spec, case, torch.float32)
        except HarnessError as error:
            raise Broken(f"{where}: {error}") from error
        _expect_finite(built, subject.step(case, dtype=torch.float32), where)
        for _, adversary in built.adversaries():
            loss = built.adversary_loss(adversary, subject.step(case, dtype=torch.float32))
            if not bool(torch.isfinite(loss)):
                raise Broken(f"the adversary's loss is {float(loss)} ({where})")


def _alternatives(cls: type[Method]) -> Iterator[dict[str, Any]]:
    defaults = validated(cls, {})
    for name, info in cls.Params.model_fields.items():
        values: Sequence[Any] = ()
        if get_origin(info.annotation) is Literal:
            values = get_args(info.annotation)
        elif info.annotation is bool:
            values = (False, True)
        for value in values:
            if value == getattr(defaults, name):
                continue
            try:
                validated(cls, {name: value})
            except ValidationError:
                continue  # possible only together with others, says the method
            yield {name: value}


def _reads(subject: Subject) -> None:
    """Only what is declared in `reads` is looked at."""
    _some_terms(subject)
    case = subject.cases[0]
    seen: set[str] = set()
    built = subject.build(subject.full, case)
    step = subject.step(case)
    taught = _Watched(step.teacher, seen) if step.teacher is not None else None
    watched = _WatchedStep(_Watched(step.student, seen), taught, step.images, step.labels, 0, 10)
    object.__setattr__(watched, "_seen", seen)
    values_of(built, watched)
    undeclared = sorted(seen - subject.cls.reads)
    if undeclared:
        raise Broken(f"it looks at {', '.join(undeclared)}, which `reads` does not declare")


class _Watched:
    """Maps that note what is looked at."""

    def __init__(self, maps: Maps, seen: set[str]) -> None:
        self._maps, self._seen = maps, seen

    def __getattr__(self, name: str) -> Any:
        self._seen.add(name)
        return getattr(self._maps, name)


class _WatchedStep(Step):
    """A step that notes whether images and labels are looked at."""

    def __getattribute__(self, name: str) -> Any:
        if name in ("images", "labels"):
            seen = object.__getattribute__(self, "__dict__").get("_seen")
            if seen is not None:
                seen.add(name)
        return object.__getattribute__(self, name)


def _gradients(subject: Subject) -> None:
    """Gradients reach the student and the adapters, and nothing else; what is read is left as it was."""
    _some_terms(subject)
    for case in subject.cases:
        built = subject.build(subject.full, case)
        values_of(built, subject.step(case, 8))  # memories have something to compare with
        step = subject.step(case, 9)
        before = {name: tensor.detach().clone() for name, tensor in step_tensors(step).items()}
        values = values_of(built, step)
        _expect_student_gradients(values, step, case)
        _backward(total_of(built, values))
        for name, tensor in step_tensors(step).items():
            if not torch.equal(tensor.detach(), before[name]):
                raise Broken(f"it changes the {name} in place ({case.label})")
            if tensor.grad is not None and not name.startswith("student"):
                raise Broken(f"a gradient reaches the {name} ({case.label})")
        _expect_parameter_gradients(built, case.label)


def _expect_student_gradients(values: Mapping[str, Tensor], step: Step, case: Case) -> None:
    assert isinstance(step.student, MadeMaps)
    for name, value in values.items():
        if not value.requires_grad:
            raise Broken(f"term '{name}' has no gradient ({case.label})")
        found = torch.autograd.grad(value, step.student.tensors(), allow_unused=True, retain_graph=True)
        if not any(g is not None and bool((g != 0).any()) for g in found):
            raise Broken(f"term '{name}' gives the student no gradient ({case.label})")


def _expect_parameter_gradients(built: Combined, where: str) -> None:
    adversarial = _adversary_parameters(built)
    for name, parameter in built.named_parameters():
        if id(parameter) in adversarial and parameter.grad is not None:
            raise Broken(f"a term gives the adversary's {name} a gradient ({where})")
        if id(parameter) not in adversarial and parameter.requires_grad and parameter.grad is None:
            raise Broken(f"the parameter {name} is built, and no active term uses it ({where})")
    for part in built.parts.values():
        assert isinstance(part, Method)
        if part.translator is not None and any(p.grad is not None for p in part.translator.parameters()):
            raise Broken(f"a gradient reaches the frozen translator ({where})")


def _zero(subject: Subject) -> None:
    """With all terms taken off it is `none`; and building it leaves the global random state alone."""
    name = subject.cls.name
    off = name + "".join(f"-{term}" for term in subject.cls.terms)
    if resolve(off) != [MethodSpec()]:
        raise Broken(f"'{off}' is not none")
    if not subject.cls.terms:
        return
    state = torch.random.get_rng_state()
    built = subject.build(subject.full, subject.cases[0])
    if not torch.equal(state, torch.random.get_rng_state()):
        raise Broken("building it changes the global random state, and with it the student's training")
    again = subject.build(subject.full, subject.cases[0])
    for (key, first), second in zip(built.state_dict().items(), again.state_dict().values(), strict=True):
        if not torch.equal(first, second):
            raise Broken(f"{key} is not the same when built again under the same seed")


def _deterministic(subject: Subject) -> None:
    """Under a seed, terms and gradients are the same bit for bit."""
    _some_terms(subject)
    case = subject.cases[0]
    runs = []
    for _ in range(2):
        built = subject.build(subject.full, case, torch.float32)
        step = subject.step(case, dtype=torch.float32)
        values = values_of(built, step)
        _backward(total_of(built, values))
        grads = {name: t.grad for name, t in step_tensors(step).items() if t.grad is not None}
        runs.append(
            {**{f"term {k}": v for k, v in values.items()}, **{f"gradient at {k}": g for k, g in grads.items()}}
        )
    for name, value in runs[0].items():
        if not torch.equal(value, runs[1][name]):
            raise Broken(f"{name} differs between two runs under the same seed")


def _permutable(subject: Subject) -> None:
    """The same value whatever the order of the images in a batch."""
    _some_terms(subject)
    if not subject.cls.permutable:
        raise NotApplicable("not claimed")
    case = max(subject.cases, key=lambda c: c.batch)
    if case.batch < 2:
        raise NotApplicable("it fits no case with several images")
    order = torch.arange(case.batch).roll(1)
    step = subject.step(case)
    student, teacher = step.student, step.teacher
    assert isinstance(student, MadeMaps)
    moved = Step(
        student.at(order),
        teacher.at(order) if isinstance(teacher, MadeMaps) else None,
        step.images[order],
        step.labels[order],
        0,
        10,
    )
    here = values_of(subject.build(subject.full, case), step)
    there = values_of(subject.build(subject.full, case), moved)
    for name, value in here.items():
        _expect_close(float(there[name].detach()), float(value.detach()), 1e-9, f"term '{name}' of permuted images")


def _state(subject: Subject) -> None:
    """A method saved in the middle of training and loaded into a fresh one goes on exactly as if nothing had been."""
    _some_terms(subject)
    case = subject.cases[0]
    built = subject.build(subject.full, case, torch.float32)
    for number in range(2):
        _train_once(built, subject.step(case, number, dtype=torch.float32))
    file = io.BytesIO()
    torch.save(built.state_dict(), file)
    file.seek(0)
    fresh = subject.build(subject.full, case, torch.float32, seed=99)
    fresh.load_state_dict(torch.load(file, weights_only=True))
    for number in range(2, 5):
        ours = _train_once(built, subject.step(case, number, dtype=torch.float32))
        theirs = _train_once(fresh, subject.step(case, number, dtype=torch.float32))
        for name, value in ours.items():
            if value != theirs[name]:
                raise Broken(
                    f"{name} is {theirs[name]} after loading, {value} without, {number - 1} steps later: "
                    "keep all state in parameters and buffers (register_buffer)"
                )


def _train_once(built: Combined, step: Step) -> dict[str, float]:
    """One plain gradient step on adapters, then on adversaries; what the terms were."""
    values = values_of(built, step)
    built.zero_grad()
    _backward(total_of(built, values))
    adversarial = _adversary_parameters(built)
    _descend(p for p in built.parameters() if id(p) not in adversarial)
    seen = {f"term '{name}'": float(value.detach()) for name, value in values.items()}
    for method, adversary in built.adversaries():
        adversary.zero_grad()
        reseed(4, "adversary")
        loss = built.adversary_loss(adversary, step)
        _backward(loss)
        _descend(adversary.parameters())
        seen[f"the adversary's loss of {method.name}"] = float(loss.detach())
    return seen


@torch.no_grad()
def _descend(parameters: Iterator[nn.Parameter]) -> None:
    for parameter in parameters:
        if parameter.grad is not None:
            parameter.sub_(parameter.grad / parameter.grad.norm().clamp_min(1e-12), alpha=1e-2)


SINGLE, HALF = 1e-4, 0.06
"""How far float32, and bfloat16 autocast, may be from float64, relative to a term's own size."""


def _precision(subject: Subject) -> None:
    """float32 and bfloat16 autocast come close to float64."""
    _some_terms(subject)
    for case in subject.cases[:2]:
        exact = values_of(subject.build(subject.full, case), subject.step(case))
        single = values_of(subject.build(subject.full, case, torch.float32), subject.step(case, dtype=torch.float32))
        with torch.autocast("cpu", dtype=torch.bfloat16):
            half = values_of(subject.build(subject.full, case, torch.float32), subject.step(case, dtype=torch.float32))
        for name, value in exact.items():
            _expect_close(
                float(single[name].detach()), float(value.detach()), SINGLE, f"term '{name}' in float32 ({case.label})"
            )
            _expect_close(
                float(half[name].detach()),
                float(value.detach()),
                HALF,
                f"term '{name}' under bf16 autocast ({case.label})",
            )


def _expect_close(found: float, expected: float, tolerance: float, what: str) -> None:
    if not math.isclose(found, expected, rel_tol=tolerance, abs_tol=tolerance * 1e-3):
        raise Broken(f"{what} is {found:.8g}, expected {expected:.8g} within {tolerance:g}")


def _subsets(subject: Subject) -> None:
    """Terms do not depend on which others are active; what is not active is neither built nor computed."""
    if len(subject.cls.terms) < 2:
        raise NotApplicable("the method has fewer than two terms")
    case = subject.cases[0]
    full = subject.build(subject.full, case)
    state = {key: value.clone() for key, value in full.state_dict().items()}
    expected = values_of(full, subject.step(case))
    without_adversary = not full.adversaries()
    for terms in subject.subsets:
        where = f"with {' and '.join(terms)} alone"
        built = subject.build(subject.spec(terms), case)
        extra = sorted(set(built.state_dict()) - set(state))
        if extra:
            raise Broken(f"{extra[0]} is built {where}, and not when all terms are active")
        built.load_state_dict({key: state[key] for key in built.state_dict()})
        step = subject.step(case)
        values = values_of(built, step)
        for name, value in values.items():
            _expect_close(float(value.detach()), float(expected[name].detach()), 1e-9, f"term '{name}' {where}")
        _backward(total_of(built, values))
        _expect_parameter_gradients(built, where)
        without_adversary |= not built.adversaries()
    if not without_adversary:
        raise Broken("it has an adversary whatever terms are active")


def _adversary(subject: Subject) -> None:
    """The adversary learns from its own loss only, and its loss teaches nobody else."""
    built = subject.build(subject.full, subject.cases[0])
    if not built.adversaries():
        raise NotApplicable("the method has no adversary")
    for case in subject.cases[:2]:
        built = subject.build(subject.full, case)
        step = subject.step(case)
        for method, adversary in built.adversaries():
            owned = {id(module) for module in method.modules()}
            if id(adversary) not in owned:
                raise Broken("its adversary is no submodule of the method, so it would not be saved")
            loss = built.adversary_loss(adversary, step)
            if not bool(torch.isfinite(loss)):
                raise Broken(f"the adversary's loss is {float(loss)} ({case.label})")
            _backward(loss)
            if any(t.grad is not None for t in step_tensors(step).values()):
                raise Broken(f"the adversary's loss reaches the student or the teacher ({case.label})")
            own = _adversary_parameters(built)
            for name, parameter in built.named_parameters():
                if id(parameter) in own and parameter.grad is None:
                    raise Broken(f"the adversary's loss does not reach its parameter {name} ({case.label})")


def _translator(subject: Subject) -> None:
    """What is learned from a teacher first: its terms are finite and declared, its key is plain JSON."""
    wanted = {}
    for case in subject.cases:
        teacher = subject.teacher(case)
        for spec in translator_specs(subject.full, case.student, teacher).values():
            wanted[case.label] = (case, spec)
    if not wanted:
        raise NotApplicable("the method learns nothing before the student")
    for where, (case, spec) in wanted.items():
        if json.loads(json.dumps(spec.params)) != spec.params:
            raise Broken(f"translator_key is not plain JSON: {spec.params} ({where})")
        translator = build_translator(spec, case.teacher, seed=5).train()
        generator = torch.Generator().manual_seed(0)
        maps = made_maps(case.teacher, case.batch, case.size, generator, grad=False).to(torch.float32)
        before = [t.clone() for t in maps.tensors()]
        values = translator(maps)
        if set(values) != set(translator.terms):
            raise Broken(f"the translator declares {sorted(translator.terms)} and computes {sorted(values)} ({where})")
        for name, value in values.items():
            if value.ndim or not bool(torch.isfinite(value)):
                raise Broken(f"the translator's term '{name}' is {value} ({where})")
        total = torch.stack([translator.terms[name].weight * value for name, value in values.items()]).sum()
        _backward(total)
        _expect_translator_gradients(translator, where)
        if not all(torch.equal(a, b) for a, b in zip(before, maps.tensors(), strict=True)):
            raise Broken(f"the translator changes the teacher's maps in place ({where})")
        _expect_health(translator.eval(), maps, where)


def _expect_translator_gradients(translator: Translator, where: str) -> None:
    for name, parameter in translator.named_parameters():
        if parameter.requires_grad and parameter.grad is None:
            raise Broken(f"the translator's parameter {name} is not trained by any of its terms ({where})")
        if parameter.grad is not None and not bool(torch.isfinite(parameter.grad).all()):
            raise Broken(f"the gradient of the translator's {name} is not finite ({where})")


def _expect_health(translator: Translator, teacher: Maps, where: str) -> None:
    try:
        health = translator.health(teacher)
    except ValueError:
        return  # untrained, it may well be useless; that it says so is what is asked
    for name, value in health.items():
        if not isinstance(value, float) or not math.isfinite(value):
            raise Broken(f"health says {name} = {value!r}, which is no finite float ({where})")


def _cost(subject: Subject) -> None:
    """A method that claims linear cost makes no tensor that grows faster than the number of positions."""
    _some_terms(subject)
    if subject.cls.cost != "linear":
        raise NotApplicable(f"declared: {subject.cls.cost}")
    counts = []
    for side in (160, 320):
        case = Case("cost", sizes(8, _SMALL, 14), sizes(8, _LARGE, 20), 1, (side, side))
        if skip_reason(subject.full, case.student, subject.teacher(case)):
            raise NotApplicable("it does not fit two networks at stride 8")
        built, step = subject.build(subject.full, case, torch.float32), subject.step(case, dtype=torch.float32)
        with _Largest() as seen:
            _backward(total_of(built, values_of(built, step)))
        counts.append(seen.calls)
    growth = 4.0
    for name, small, large in _pairs(*counts):
        if large > 1.5 * growth * small and large > 4096:
            raise Broken(
                f"{name} makes {small} numbers at 160×160 pixels and {large} at 320×320: {large / small:.1f} times as "
                f"many for {growth:g} times the positions; declare `cost` as what it is"
            )


def _pairs(small: list[tuple[str, int]], large: list[tuple[str, int]]) -> Iterator[tuple[str, int, int]]:
    """The same call at both sizes where the sequences agree, else the largest of each operator."""
    if [name for name, _ in small] == [name for name, _ in large]:
        yield from ((a, m, n) for (a, m), (_, n) in zip(small, large, strict=True))
        return
    for operator in sorted({name for name, _ in large}):
        numbers = [max((n for name, n in calls if name == operator), default=1) for calls in (small, large)]
        yield operator, numbers[0], numbers[1]


class _Largest(TorchDispatchMode):
    """Notes of every operator call the number of elements of its largest result."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.calls: list[tuple[str, int]] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        # A view of few numbers, such as an expanded scalar, costs nothing however large it looks.
        made = [_stored(leaf) for leaf in tree_leaves(result) if isinstance(leaf, Tensor)]
        self.calls.append((str(func), max(made, default=0)))
        return result


def _stored(tensor: Tensor) -> int:
    """How many different numbers a tensor holds: axes of stride 0 repeat the same ones."""
    return math.prod(n for n, stride in zip(tensor.shape, tensor.stride(), strict=True) if stride or n == 0)


PROPERTIES: tuple[Property, ...] = (
    Property("declaration", "names, symbols, parameters and expressions can be told apart", _declaration),
    Property("weights", "computes the terms it declares, with the weights it declares", _weights),
    Property("finite", "finite terms and gradients at several shapes, strides and labels", _finite),
    Property("extremes", "finite for zero, constant, very large, and the teacher's own maps", _extremes),
    Property("choices", "finite for every value of a parameter that is a choice", _choices),
    Property("reads", "looks only at what it declares", _reads),
    Property("gradients", "gradients reach the student and the adapters only; the teacher is unchanged", _gradients),
    Property("zero", "all terms off is none; building it draws no random numbers of others", _zero),
    Property("deterministic", "the same under the same seed, bit for bit", _deterministic),
    Property("permutable", "the same whatever the order of the images, where claimed", _permutable),
    Property("state", "saved and resumed in the middle, it goes on exactly", _state),
    Property("precision", "float32 and bf16 autocast are close to float64", _precision),
    Property("subsets", "each term is the same whatever others are active; inactive ones are not built", _subsets),
    Property("adversary", "its adversary learns from its own loss only", _adversary),
    Property("translator", "what it learns from a teacher first is declared, finite and healthy", _translator),
    Property("cost", "grows linearly with the number of positions, or says otherwise", _cost),
)
