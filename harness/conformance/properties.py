"""The properties that every method must have: one function per property, listed in the table at the end."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from enum import Enum
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import torch
from pydantic import ValidationError
from torch import Tensor

from harness.builders.distiller import Distiller, build_translator, skip_reason, translator_specs
from harness.builders.expression import canonical_expression, resolve, validated
from harness.conformance.cases import LABELS, Case, RandomMaps, random_maps, step_tensors, step_to
from harness.conformance.cost import linear_cost
from harness.conformance.method_under_test import (
    MethodUnderTest,
    NotApplicable,
    PropertyViolated,
    backward,
    discriminator_parameters,
    expect_close,
    some_terms,
    total_of,
    values_of,
)
from harness.conformance.state import hidden_parameters, resumable
from harness.errors import HarnessError, StageFailed
from harness.numerics.modes import autocast
from harness.plugins.method_calls import checked_health, source_file
from harness.plugins.validation import check_declaration, checked_weights
from harness.specs.recipes import load_recipe
from harness.specs.spec import MethodSpec
from harness.training.optimizers import make_discriminator_optimizer
from methods.base import Maps, Method, Step, Translator


def _declaration(subject: MethodUnderTest) -> None:
    cls = subject.cls
    check_declaration(cls)
    file = source_file(cls)
    if not file:
        raise PropertyViolated("its source file cannot be found, so errors could not name a line")
    for spec in (subject.full, *resolve(cls.name), *(subject.spec(terms) for terms in subject.subsets)):
        if resolve(spec.expression) != [spec]:
            raise PropertyViolated(f"the expression '{spec.expression}' does not resolve to its own specification")
        if canonical_expression(spec.parts) != spec.expression:
            raise PropertyViolated(f"'{spec.expression}' is not its own canonical form")


def _weights(subject: MethodUnderTest) -> None:
    cls = subject.cls
    some_terms(subject)
    declared = {term: float(w) for term, w in cls.weights(validated(cls, {})).items() if w}
    found = {t: w for spec in resolve(cls.name) for part in spec.parts for t, w in part.weights.items()}
    if declared != found:
        raise PropertyViolated(f"weights are declared as {declared}, the expression '{cls.name}' gives {found}")
    for params in _alternatives(cls):
        try:
            checked_weights(cls, validated(cls, params))
        except HarnessError as error:
            raise PropertyViolated(f"{_shown(params)}: {error}") from error
    built = subject.build(subject.full, subject.cases[0])
    values = values_of(built, subject.step(subject.cases[0]))
    if set(values) != set(cls.terms):
        raise PropertyViolated(
            f"declared {sorted(cls.terms)}, computed {sorted(values)}; return exactly the terms in self.active"
        )


ITERATIONS = (0, 1, 5, 9)
"""Iterations of ten to test: the first ones, the middle, the last."""


def _finite(subject: MethodUnderTest) -> None:
    some_terms(subject)
    for index, case in enumerate(subject.cases):
        built = subject.build(subject.full, case, torch.float32)
        for number, kind in enumerate(LABELS):
            iteration = ITERATIONS[(number + index) % len(ITERATIONS)]
            step = subject.step(case, number, kind, torch.float32, iteration)
            expect_finite(built, step, f"{case.label}; labels: {kind}; iteration {iteration} of {step.iterations}")
    case = subject.cases[0]
    only = replace(subject.step(case, dtype=torch.float32), iterations=1)
    expect_finite(subject.build(subject.full, case, torch.float32), only, "iteration 0 of 1")


def expect_finite(built: Distiller, step: Step, where: str) -> None:
    """Check that terms and gradients are finite.

    Raises:
        PropertyViolated: one is not; the message names it and ends with `where`.
    """
    built.zero_grad()
    try:
        values = values_of(built, step)
    except HarnessError as error:
        raise PropertyViolated(f"{error} ({where})") from error
    fault = built.describe_nonfinite({f"{built.spec.parts[0].name}.{name}": value for name, value in values.items()})
    if fault:
        raise PropertyViolated(f"{fault} ({where})")
    total = total_of(built, values)
    if total.requires_grad:
        backward(total)
    for name, tensor in [*step_tensors(step).items(), *built.named_parameters()]:
        if tensor.grad is not None and not bool(torch.isfinite(tensor.grad).all()):
            raise PropertyViolated(f"the gradient at {name} is not finite ({where})")


def _extremes(subject: MethodUnderTest) -> None:
    """Terms and gradients are finite for zero, very large and the teacher's own maps (converged or diverged runs)."""
    some_terms(subject)
    case = next((c for c in subject.cases if c.student == c.teacher), subject.cases[0])
    built = subject.build(subject.full, case, torch.float32)
    for what in ("zero", "equal", "large", "constant"):
        step = subject.step(case, dtype=torch.float32)
        for who in (step.student, step.teacher):
            for tensor in who.tensors() if isinstance(who, RandomMaps) else ():
                with torch.no_grad():
                    if what == "zero":
                        tensor.zero_()
                    elif what == "large":
                        tensor.mul_(1e3)
                    elif what == "constant":
                        tensor.fill_(0.5)
        if what == "equal" and isinstance(step.student, RandomMaps) and isinstance(step.teacher, RandomMaps):
            with torch.no_grad():
                for mine, theirs in zip(step.student.tensors(), step.teacher.tensors(), strict=False):
                    if mine.shape == theirs.shape:
                        mine.copy_(theirs)
        expect_finite(built, step, f"{what} maps")


def _choices(subject: MethodUnderTest) -> None:
    """Terms and gradients are finite for every value of an enumerated parameter."""
    alternatives = list(_alternatives(subject.cls))
    some_terms(subject)
    if not alternatives:
        raise NotApplicable("no parameter is enumerated")
    for params in alternatives:
        spec, where = subject.spec(tuple(subject.cls.terms), params), _shown(params)
        fitting = (c for c in subject.cases if not skip_reason(spec, c.student, subject.teacher(c)))
        if (case := next(fitting, None)) is None:
            subject.notes.append(f"{where} fits no case")
            continue
        try:
            built = subject.build(spec, case, torch.float32)
        except HarnessError as error:
            raise PropertyViolated(f"{where}: {error}") from error
        expect_finite(built, subject.step(case, dtype=torch.float32), where)
        for _, discriminator in built.discriminators():
            loss = built.discriminator_loss(discriminator, subject.step(case, dtype=torch.float32))
            if not bool(torch.isfinite(loss)):
                raise PropertyViolated(f"the discriminator's loss is {float(loss)} ({where})")


def _alternatives(cls: type[Method]) -> Iterator[dict[str, Any]]:
    defaults = validated(cls, {})
    for name, info in cls.Params.model_fields.items():
        for value in _choices_of(info.annotation):
            if value == getattr(defaults, name):
                continue
            try:
                validated(cls, {name: value})
            except ValidationError:
                continue  # the method accepts it only together with others
            yield {name: value}


def _choices_of(annotation: Any) -> list[Any]:
    """The values that an annotation enumerates: literals, bool and enumerations, also within unions and Annotated."""
    if annotation is bool:
        return [False, True]
    if annotation is None or annotation is type(None):
        return [None]
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return list(annotation)
    if get_origin(annotation) is Literal:
        return list(get_args(annotation))
    if get_origin(annotation) is Annotated:
        return _choices_of(get_args(annotation)[0])
    if get_origin(annotation) in (Union, UnionType):
        return [value for part in get_args(annotation) for value in _choices_of(part)]
    return []


def _shown(params: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={value}" for name, value in params.items())


def _reads(subject: MethodUnderTest) -> None:
    """The method reads only what `reads` declares."""
    some_terms(subject)
    case = subject.cases[0]
    seen: set[str] = set()
    built = subject.build(subject.full, case)
    step = subject.step(case)
    watched_teacher = _Watched(step.teacher, seen) if step.teacher is not None else None
    watched = _WatchedStep(_Watched(step.student, seen), watched_teacher, step.images, step.labels, 0, 10)
    object.__setattr__(watched, "_seen", seen)
    values_of(built, watched)
    undeclared = sorted(seen - subject.cls.reads)
    if undeclared:
        raise PropertyViolated(f"it reads {', '.join(undeclared)}, which `reads` does not declare: add them")


class _Watched:
    """Maps that record what is read."""

    def __init__(self, maps: Maps, seen: set[str]) -> None:
        self._maps, self._seen = maps, seen

    def __getattr__(self, name: str) -> Any:
        if name == "memo":
            raise AttributeError(name)  # these maps have no cache; asking for one is not a read
        self._seen.add(name)
        return getattr(self._maps, name)


class _WatchedStep(Step):
    """A step that records whether images and labels are read."""

    def __getattribute__(self, name: str) -> Any:
        if name in ("images", "labels"):
            seen = object.__getattribute__(self, "__dict__").get("_seen")
            if seen is not None:
                seen.add(name)
        return object.__getattribute__(self, name)


def _gradients(subject: MethodUnderTest) -> None:
    """Gradients reach the student and the adapters only, and inputs are not modified."""
    some_terms(subject)
    for case in subject.cases:
        built = subject.build(subject.full, case)
        first = subject.step(case, 8)
        values_of(built, first)  # fills memories
        _expect_nothing_done(built, first, case)
        step = subject.step(case, 9)
        before = {name: tensor.detach().clone() for name, tensor in step_tensors(step).items()}
        values = values_of(built, step)
        _expect_student_gradients(values, step, case)
        backward(total_of(built, values))
        for name, tensor in step_tensors(step).items():
            if not torch.equal(tensor.detach(), before[name]):
                raise PropertyViolated(f"it changes the {name} in place ({case.label}): work on a copy")
            if tensor.grad is not None and not name.startswith("student"):
                raise PropertyViolated(f"a gradient reaches the {name} ({case.label}): detach it")
        _expect_parameter_gradients(built, case.label)


def _expect_nothing_done(built: Distiller, step: Step, case: Case) -> None:
    """After `forward`, no gradient exists yet, and every trainable tensor is registered."""
    reached = [name for name, t in (*step_tensors(step).items(), *built.named_parameters()) if t.grad is not None]
    if reached:
        raise PropertyViolated(
            f"its forward calls backward(), which reaches {reached[0]} ({case.label}): return the terms instead"
        )
    for method in built.parts.values():
        assert isinstance(method, Method)
        for path in hidden_parameters(method, step_tensors(step).values()):
            raise PropertyViolated(
                f"self.{path} is neither trained nor saved: assign it to self directly, or use nn.ModuleList, "
                "nn.ModuleDict or nn.ParameterList"
            )


def _expect_student_gradients(values: Mapping[str, Tensor], step: Step, case: Case) -> None:
    assert isinstance(step.student, RandomMaps)
    for name, value in values.items():
        if not value.requires_grad:
            raise PropertyViolated(f"term '{name}' has no gradient ({case.label}): is something detached?")
        found = torch.autograd.grad(value, step.student.tensors(), allow_unused=True, retain_graph=True)
        if not any(g is not None and bool((g != 0).any()) for g in found):
            raise PropertyViolated(
                f"term '{name}' gives the student no gradient ({case.label}): is something detached?"
            )


def _expect_parameter_gradients(built: Distiller, where: str) -> None:
    adversarial = discriminator_parameters(built)
    for name, parameter in built.named_parameters():
        if id(parameter) in adversarial and parameter.grad is not None:
            raise PropertyViolated(
                f"a term gives the discriminator's {name} a gradient ({where}): freeze it while computing the term"
            )
        if id(parameter) not in adversarial and parameter.requires_grad and parameter.grad is None:
            raise PropertyViolated(
                f"no active term uses the parameter {name} ({where}): build in setup only what self.active needs"
            )
    for part in built.parts.values():
        assert isinstance(part, Method)
        if part.translator is not None and any(p.grad is not None for p in part.translator.parameters()):
            raise PropertyViolated(f"a gradient reaches the frozen translator ({where}): call it under torch.no_grad()")


DISTANCE, DERIVATIVE = 1e-6, 1e-4
"""Step size of finite differences, and tolerance of the derivatives."""


def _derivatives(subject: MethodUnderTest) -> None:
    """The gradient of every term with respect to the student's maps agrees with finite differences."""
    some_terms(subject)
    if not subject.cls.exact_gradients:
        raise NotApplicable("not declared")
    case = min(subject.cases, key=lambda c: c.batch * c.size[0] * c.size[1])
    built, step = subject.build(subject.full, case).eval(), subject.step(case)
    assert isinstance(step.student, RandomMaps)
    maps = step.student.tensors()
    generator = torch.Generator().manual_seed(6)
    direction = [torch.randn(t.shape, generator=generator, dtype=t.dtype) for t in maps]

    def moved(distance: float) -> dict[str, Tensor]:
        with torch.no_grad():
            student = RandomMaps.of([t + distance * d for t, d in zip(maps, direction)])
            return values_of(built, replace(step, student=student))

    ahead, behind = moved(DISTANCE), moved(-DISTANCE)
    for name, value in values_of(built, step).items():
        gradients = torch.autograd.grad(value, maps, allow_unused=True, retain_graph=True)
        found = sum(float((g * d).sum()) for g, d in zip(gradients, direction) if g is not None)
        expected = float(ahead[name] - behind[name]) / (2 * DISTANCE)
        rounding = 1e-14 * abs(float(value.detach())) / DISTANCE
        if not math.isclose(found, expected, rel_tol=DERIVATIVE, abs_tol=rounding):
            raise PropertyViolated(
                f"term '{name}' has the derivative {expected:.6g} along a random direction, its gradient says "
                f"{found:.6g} ({case.label}): set `exact_gradients = False` where something is detached on purpose"
            )


def _zero(subject: MethodUnderTest) -> None:
    """Without terms the method equals `none`, and building it does not change the global random state."""
    name = subject.cls.name
    off = name + "".join(f"-{term}" for term in subject.cls.terms)
    if resolve(off) != [MethodSpec()]:
        raise PropertyViolated(f"'{off}' is not none")
    if not subject.cls.terms:
        return
    state = torch.random.get_rng_state()
    built = subject.build(subject.full, subject.cases[0])
    if not torch.equal(state, torch.random.get_rng_state()):
        raise PropertyViolated(
            "building it changes the global random state, and with it the student's training: draw from torch, and do "
            "not seed it"
        )
    again = subject.build(subject.full, subject.cases[0])
    for (key, first), second in zip(built.state_dict().items(), again.state_dict().values(), strict=True):
        if not torch.equal(first, second):
            raise PropertyViolated(
                f"{key} differs when built again under the same seed: draw from torch, and do not seed it"
            )


def _deterministic(subject: MethodUnderTest) -> None:
    """Under a seed, terms and gradients are equal bit for bit."""
    some_terms(subject)
    case = subject.cases[0]
    runs = []
    for _ in range(2):
        built = subject.build(subject.full, case, torch.float32)
        step = subject.step(case, dtype=torch.float32)
        values = values_of(built, step)
        backward(total_of(built, values))
        grads = {name: t.grad for name, t in step_tensors(step).items() if t.grad is not None}
        runs.append(
            {**{f"term {k}": v for k, v in values.items()}, **{f"gradient at {k}": g for k, g in grads.items()}}
        )
    for name, value in runs[0].items():
        if not torch.equal(value, runs[1][name]):
            raise PropertyViolated(
                f"{name} differs between two runs under the same seed: draw from torch's own generators"
            )


def _permutable(subject: MethodUnderTest) -> None:
    """Terms do not depend on the order of the images in a batch."""
    some_terms(subject)
    if not subject.cls.permutable:
        raise NotApplicable("not declared")
    case = max(subject.cases, key=lambda c: c.batch)
    if case.batch < 2:
        raise NotApplicable("it fits no case with several images")
    order = torch.arange(case.batch).roll(1)
    step = subject.step(case)
    student, teacher = step.student, step.teacher
    assert isinstance(student, RandomMaps)
    moved = Step(
        student.at(order),
        teacher.at(order) if isinstance(teacher, RandomMaps) else None,
        step.images[order],
        step.labels[order],
        0,
        10,
    )
    here = values_of(subject.build(subject.full, case), step)
    there = values_of(subject.build(subject.full, case), moved)
    for name, value in here.items():
        expect_close(float(there[name].detach()), float(value.detach()), 1e-9, f"term '{name}' of permuted images")


SINGLE, HALF = 1e-4, 0.06
"""Tolerances of float32 and of bfloat16 autocast relative to float64."""


def _precision(subject: MethodUnderTest) -> None:
    """Terms in float32 and under bfloat16 autocast are close to those in float64."""
    some_terms(subject)
    for case in subject.cases[:2]:
        exact = values_of(subject.build(subject.full, case), subject.step(case))
        single = values_of(subject.build(subject.full, case, torch.float32), subject.step(case, dtype=torch.float32))
        with autocast(torch.device("cpu"), "bf16"):
            half = values_of(subject.build(subject.full, case, torch.float32), subject.step(case, dtype=torch.float32))
        for name, value in exact.items():
            expect_close(
                float(single[name].detach()), float(value.detach()), SINGLE, f"term '{name}' in float32 ({case.label})"
            )
            expect_close(
                float(half[name].detach()),
                float(value.detach()),
                HALF,
                f"term '{name}' under bf16 autocast ({case.label})",
            )


def _half(subject: MethodUnderTest) -> None:
    """Terms of bfloat16 maps, as from a network under autocast, are computed in full precision."""
    some_terms(subject)
    for case in subject.cases[:2]:
        step = step_to(subject.step(case), torch.bfloat16)
        exact = values_of(subject.build(subject.full, case), step_to(step, torch.float64))
        with autocast(torch.device("cpu"), "bf16"):
            half = values_of(subject.build(subject.full, case, torch.float32), step)
        for name, value in half.items():
            if value.dtype in (torch.bfloat16, torch.float16):
                raise PropertyViolated(
                    f"term '{name}' of bf16 maps is computed in {value.dtype} ({case.label}): cast the maps first, "
                    "with methods.parts.precision.precise"
                )
            expected = float(exact[name].detach())
            expect_close(float(value.detach()), expected, HALF, f"term '{name}' of bf16 maps ({case.label})")


def _subsets(subject: MethodUnderTest) -> None:
    """Terms do not depend on which others are active; inactive ones are neither built nor computed."""
    if len(subject.cls.terms) < 2:
        raise NotApplicable("the method has fewer than two terms")
    case = subject.cases[0]
    full = subject.build(subject.full, case)
    state = {key: value.clone() for key, value in full.state_dict().items()}
    expected = values_of(full, subject.step(case))
    without_discriminator = not full.discriminators()
    for terms in subject.subsets:
        where = f"with {' and '.join(terms)} alone"
        built = subject.build(subject.spec(terms), case)
        extra = sorted(set(built.state_dict()) - set(state))
        if extra:
            raise PropertyViolated(f"{extra[0]} is built {where}, but not when all terms are active")
        built.load_state_dict({key: state[key] for key in built.state_dict()})
        step = subject.step(case)
        values = values_of(built, step)
        for name, value in values.items():
            expect_close(float(value.detach()), float(expected[name].detach()), 1e-9, f"term '{name}' {where}")
        backward(total_of(built, values))
        _expect_parameter_gradients(built, where)
        without_discriminator |= not built.discriminators()
    if not without_discriminator:
        raise PropertyViolated(
            "it has a discriminator regardless of active terms: return one only if its term is in self.active"
        )


def _discriminator(subject: MethodUnderTest) -> None:
    """The discriminator is trained by its own loss only, and its loss trains nothing else."""
    built = subject.build(subject.full, subject.cases[0])
    if not built.discriminators():
        raise NotApplicable("the method has no discriminator")
    for case in subject.cases[:2]:
        built = subject.build(subject.full, case)
        step = subject.step(case)
        for method, discriminator in built.discriminators():
            owned = {id(module) for module in method.modules()}
            if id(discriminator) not in owned:
                raise PropertyViolated("its discriminator is not a submodule of the method, so it would not be saved")
            make_discriminator_optimizer(method, discriminator)
            loss = built.discriminator_loss(discriminator, step)
            if not bool(torch.isfinite(loss)):
                raise PropertyViolated(f"the discriminator's loss is {float(loss)} ({case.label})")
            backward(loss)
            if any(t.grad is not None for t in step_tensors(step).values()):
                raise PropertyViolated(f"the discriminator's loss reaches the student or the teacher ({case.label})")
            own = discriminator_parameters(built)
            for name, parameter in built.named_parameters():
                if id(parameter) in own and parameter.grad is None:
                    raise PropertyViolated(
                        f"the discriminator's loss does not reach its parameter {name} ({case.label})"
                    )


def _translator(subject: MethodUnderTest) -> None:
    """A translator's terms are finite and declared, and its key is plain JSON."""
    wanted = {}
    for case in subject.cases:
        teacher = subject.teacher(case)
        for spec in translator_specs(subject.full, case.student, teacher).values():
            wanted[case.label] = (case, spec)
    if not wanted:
        raise NotApplicable("the method has no translator")
    for where, (case, spec) in wanted.items():
        translator = build_translator(spec, case.teacher, seed=5).train()
        load_recipe("quick").for_kind("translator", translator.recipe)
        generator = torch.Generator().manual_seed(0)
        maps = random_maps(case.teacher, case.batch, case.size, generator, grad=False).to(torch.float32)
        before = [t.clone() for t in maps.tensors()]
        values = translator(maps)
        if set(values) != set(translator.terms):
            raise PropertyViolated(
                f"the translator declares {sorted(translator.terms)} and computes {sorted(values)} ({where})"
            )
        for name, value in values.items():
            if value.ndim or not bool(torch.isfinite(value)):
                raise PropertyViolated(f"the translator's term '{name}' is {value} ({where})")
        total = torch.stack([translator.terms[name].weight * value for name, value in values.items()]).sum()
        backward(total)
        _expect_translator_gradients(translator, where)
        if not all(torch.equal(a, b) for a, b in zip(before, maps.tensors(), strict=True)):
            raise PropertyViolated(f"the translator changes the teacher's maps in place ({where})")
        _expect_health(subject.cls, translator.eval(), maps)


def _expect_translator_gradients(translator: Translator, where: str) -> None:
    for name, parameter in translator.named_parameters():
        if parameter.requires_grad and parameter.grad is None:
            raise PropertyViolated(f"the translator's parameter {name} is not trained by any of its terms ({where})")
        if parameter.grad is not None and not bool(torch.isfinite(parameter.grad).all()):
            raise PropertyViolated(f"the gradient of the translator's {name} is not finite ({where})")


def _expect_health(cls: type[Method], translator: Translator, teacher: Maps) -> None:
    try:
        checked_health(cls, lambda: translator.health(teacher))
    except StageFailed as error:
        if not isinstance(error.__cause__, ValueError):
            raise  # an untrained translator may be useless, and must report it this way


@dataclass(frozen=True)
class Property:
    """One property that every method must have."""

    name: str
    summary: str
    check: Callable[[MethodUnderTest], None]


PROPERTIES: tuple[Property, ...] = (
    Property("declaration", "names, symbols, parameters and expressions are unambiguous", _declaration),
    Property(
        "weights",
        "computes the terms it declares, with the weights it declares, in every variant",
        _weights,
    ),
    Property("finite", "finite terms and gradients at several shapes, strides, labels and iterations", _finite),
    Property("extremes", "finite for zero, constant, very large, and the teacher's own maps", _extremes),
    Property("choices", "finite for every value of an enumerated parameter", _choices),
    Property("reads", "reads only what it declares", _reads),
    Property(
        "gradients",
        "gradients reach the student and all adapters only; the teacher is unchanged",
        _gradients,
    ),
    Property("derivatives", "gradients agree with finite differences, where declared", _derivatives),
    Property("zero", "without terms it is none; building it leaves the global random state unchanged", _zero),
    Property("deterministic", "equal under the same seed, bit for bit", _deterministic),
    Property("permutable", "independent of the order of the images, where declared", _permutable),
    Property("state", "saved and resumed after 1, 3 or 6 steps, it continues exactly", resumable),
    Property("precision", "float32 and bf16 autocast are close to float64", _precision),
    Property("half", "terms of bf16 maps are in float32, close to float64 on the same maps", _half),
    Property("subsets", "terms do not depend on which others are active; inactive ones are not built", _subsets),
    Property("discriminator", "its discriminator is trained by its own loss only", _discriminator),
    Property("translator", "its translator is declared, finite and healthy", _translator),
    Property(
        "cost",
        "grows linearly with positions, in total and in its largest tensor, or declares otherwise",
        linear_cost,
    ),
)
