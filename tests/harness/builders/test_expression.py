"""Method expressions: what they mean, their one canonical form, and errors that show the place."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.builders.expression import canonical_expression, combine, resolve, split_list
from harness.errors import HarnessError
from harness.plugins.file_plugin import load_plugin
from harness.plugins.registries import METHODS
from harness.specs.spec import MethodSpec, canonical_json


def one(expression: str) -> MethodSpec:
    found = resolve(expression)
    assert len(found) == 1
    return found[0]


def weights(expression: str) -> dict[str, float]:
    return {f"{part.name}.{term}": weight for part in one(expression).parts for term, weight in part.weights.items()}


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("none", {}),
        ("kd", {"kd.kd": 1.0}),
        ("ka", {"ka.adapt": 50.0, "ka.affinity": 1.0}),
        ("ka-affinity", {"ka.adapt": 50.0}),
        ("ka-adapt", {"ka.affinity": 1.0}),
        ("ka.adapt", {"ka.adapt": 50.0}),
        ("ka.adapt.affinity", {"ka.adapt": 50.0, "ka.affinity": 1.0}),
        ("kd+ka.affinity", {"kd.kd": 1.0, "ka.affinity": 1.0}),
        ("ka[beta=10]", {"ka.adapt": 10.0, "ka.affinity": 1.0}),
        ("ka[adapt=10]", {"ka.adapt": 10.0, "ka.affinity": 1.0}),
        ("ka[beta=10]-affinity+kd[tau=4]", {"ka.adapt": 10.0, "kd.kd": 1.0}),
        ("ka.affinity[gamma=2.5e-1]", {"ka.affinity": 0.25}),
        ("ka[gamma=0]", {"ka.adapt": 50.0}),
        ("none+kd", {"kd.kd": 1.0}),
        ("ka-affinity-adapt", {}),
        ("ka[beta=0,gamma=0]", {}),
        (" kd  + ka . affinity [ gamma = 2 ] ", {"kd.kd": 1.0, "ka.affinity": 2.0}),
    ],
)
def test_weights_of_the_active_terms(expression: str, expected: dict[str, float]) -> None:
    assert weights(expression) == expected


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("ka[beta=50]", "ka"),
        ("ka[p=2.0,q=1]", "ka"),
        ("ka[gamma=1,beta=50.0]", "ka"),
        ("ka.adapt", "ka-affinity"),
        ("ka-affinity-affinity", "ka-affinity"),
        ("ka-affinity-adapt", "none"),
        ("ka[gamma=0]", "ka-affinity"),
        ("kd[tau=4]+ka.affinity", "ka.affinity+kd[tau=4]"),
        ("ka[affinity=3]-adapt+kd", "ka[gamma=3].affinity+kd"),
        ("none+none_at_all", None),
        ("kd+none", "kd"),
        ("ka[q=2,p=1]", "ka[p=1,q=2]"),
    ],
)
def test_the_canonical_form(expression: str, expected: str | None) -> None:
    if expected is None:
        with pytest.raises(HarnessError):
            resolve(expression)
    else:
        assert one(expression).expression == expected


def test_the_same_thing_written_in_two_ways_is_one_spec() -> None:
    assert one("ka[beta=50]") == one("ka")
    assert one("kd+ka") == one("ka+kd")
    assert one("ka-affinity-adapt") == one("none") == MethodSpec()
    assert one("kd[tau=1]") == one("kd[tau=1.0]") == one("kd")
    assert canonical_json(one("kd[tau=4]")) == canonical_json(one("kd[tau=4.0]"))


def test_every_parameter_is_resolved_whether_written_or_not() -> None:
    part = one("ka").parts[0]
    assert set(part.params) == set(METHODS.get("ka").Params.model_fields)
    assert json.loads(json.dumps(part.params)) == part.params
    assert part.version == METHODS.get("ka").version and part.source == ""


def test_a_grid_is_one_spec_for_each_point_without_repetitions() -> None:
    assert [s.expression for s in resolve("ka[beta=1|10|50]")] == ["ka[beta=1]", "ka[beta=10]", "ka"]
    assert [s.expression for s in resolve("ka[beta=1|10,p=1|2]")] == [
        "ka[p=1,beta=1]",
        "ka[beta=1]",
        "ka[p=1,beta=10]",
        "ka[beta=10]",
    ]
    assert len(resolve("kd[tau=1|2|4]+ka[beta=0|50]")) == 6
    assert [s.expression for s in resolve("ka[beta=50|50.0]")] == ["ka"]


def test_all_is_every_registered_method() -> None:
    assert [s.expression for s in resolve("all")] == METHODS.names()
    assert split_list("all") == METHODS.names()
    assert {"none", "kd", "pixel_kd", "ka"} <= set(METHODS.names())


def test_a_list_is_split_outside_brackets_only() -> None:
    assert split_list("ka,kd[tau=4]") == ["ka", "kd[tau=4]"]
    assert split_list("ka[beta=1|2,gamma=(1,2)], kd ,none") == ["ka[beta=1|2,gamma=(1,2)]", "kd", "none"]
    assert split_list('x[text="a,]b"],kd') == ['x[text="a,]b"]', "kd"]
    assert split_list("ka-affinity,all") == ["ka-affinity", *METHODS.names()]


@pytest.mark.parametrize("text", ["ka,,kd", "ka,", ",ka", "", "ka[beta=1", "ka]", "ka[p=(1,2],kd", "ka[beta=1)"])
def test_a_broken_list_is_refused_with_its_place(text: str) -> None:
    with pytest.raises(HarnessError, match=r"column \d+") as caught:
        split_list(text)
    assert "^" in caught.value.message


@pytest.mark.parametrize(
    ("expression", "column", "says", "hint"),
    [
        ("kaa", 1, "no method 'kaa'", "ka"),
        ("kd+pixelkd", 4, "no method 'pixelkd'", "pixel_kd"),
        ("ka-afinity", 4, "no term 'afinity'", "affinity"),
        ("ka.adpt", 4, "no term 'adpt'", "adapt"),
        ("ka[beat=1]", 4, "no parameter or term 'beat'", "beta"),
        ("ka[beta=]", 9, "a value is missing", "number"),
        ("ka[beta]", 8, "'beta' has no value", "beta=VALUE"),
        ("ka[]", 4, "is missing", ""),
        ("ka[beta=1", 10, "',' or ']' is expected", ""),
        ("ka[beta=1]]", 11, "']' is not expected", ""),
        ("ka[beta=1,adapt=2]", 11, "set twice", "once"),
        ("ka[beta=-1]", 4, "weight of ka.adapt cannot be -1", ">= 0"),
        ("ka[beta=true]", 4, "weight of ka.adapt cannot be true", ">= 0"),
        ("ka[beta=much]", 4, "weight of ka.adapt cannot be much", ">= 0"),
        ("ka[p=x]", 4, "parameter 'p' of ka", "harness methods ka"),
        ("ka[p=0.5]", 4, "parameter 'p' of ka", "harness methods ka"),
        ("ka[form=cubic]", 4, "parameter 'form' of ka", "harness methods ka"),
        ("kd+kd", 4, "'kd' appears twice", "once"),
        ("ka.adapt+kd+ka.affinity", 13, "'ka' appears twice", "once"),
        ("ka.adapt-affinity", 10, "keeps terms with '.' and removes terms", "one of the two"),
        ("ka[beta=1]-adapt", 4, "given a weight and removed", "one of the two"),
        ("ka.affinity[beta=1]", 13, "given a weight and removed", "one of the two"),
        ("ka[beta=0].adapt", 12, "has weight 0", "adapt=1"),
        ("ka+", 4, "a method's name is missing", ""),
        ("+ka", 1, "a method's name is missing", ""),
        ("", 1, "a method's name is missing", ""),
        ("ka-", 4, "the term of ka to remove is missing", ""),
        ("ka kd", 4, "'k' is not expected", "+"),
        ("ka[p=(1,2]", 10, "',' or ')' is expected", "(1,2,3)"),
        ("ka[beta=1e]", 9, "a value is missing", ""),
    ],
)
def test_an_impossible_expression_says_what_and_where(expression: str, column: int, says: str, hint: str) -> None:
    with pytest.raises(HarnessError) as caught:
        resolve(expression)
    first, shown, caret = caught.value.message.split("\n")
    assert says in first and f"column {column}:" in first
    assert shown.strip() == expression.strip()
    assert caret.index("^") == 4 + column - 1
    assert hint in caught.value.hint


# Parameters of every shape ------------------------------------------------------------------------------------------

ODD = """
from typing import Literal
from pydantic import model_validator
from methods import base
from methods.base import Method, Term

class Odd(Method):
    name = "odd"
    summary = "a method with parameters of every shape"
    terms = {"main": Term(2.0, "lam"), "extra": Term(0.0), "kd": Term(1.0)}
    needs_teacher = False

    class Params(base.Params):
        variant: Literal["new", "original"] = "new"
        pool: float = 2
        sizes: tuple[int, ...] = (1, 2)
        pairs: tuple[tuple[int, int], ...] = ()
        label: str = "plain"
        limit: float | None = None
        flag: bool = False

        @model_validator(mode="before")
        @classmethod
        def _variant(cls, data):
            return {"pool": 0.5, **data} if data.get("variant") == "original" else data

    @classmethod
    def weights(cls, params):
        return {"main": 0.1, "extra": 0.0, "kd": 0.0} if params.variant == "original" else super().weights(params)

    def forward(self, step):
        return {}
"""


@pytest.fixture
def odd(tmp_path: Path) -> Iterator[str]:
    file = tmp_path / "odd.py"
    file.write_text(ODD)
    yield load_plugin(file, [METHODS])
    del METHODS._entries["odd"]


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("odd", "odd"),
        ("odd[pool=2]", "odd"),
        ("odd[variant=original]", "odd[variant=original]"),
        ("odd[variant=original,pool=0.5]", "odd[variant=original]"),
        ("odd[variant=original,pool=2]", "odd[variant=original,pool=2]"),
        ("odd[variant=original,lam=0.1]", "odd[variant=original]"),
        ("odd[variant=original,lam=2]", "odd[variant=original,lam=2]"),
        ("odd[variant=original]-kd", "odd[variant=original]"),
        ("odd[variant=original,kd=1]", "odd[variant=original,kd=1]"),
        ("odd[extra=3]", "odd[extra=3]"),
        ("odd[extra=3].extra", "odd[extra=3].extra"),
        ("odd-kd", "odd-kd"),
        ("odd-main", "odd-main"),
        ("odd.main.kd", "odd"),
        ("odd[sizes=(4)]", "odd[sizes=(4)]"),
        ("odd[sizes=(4,)]", "odd[sizes=(4)]"),
        ("odd[sizes=()]", "odd[sizes=()]"),
        ("odd[pairs=((1,2),(3,4))]", "odd[pairs=((1,2),(3,4))]"),
        ("odd[label=some-word.1]", "odd[label=some-word.1]"),
        ('odd[label="a b, [c] |"]', 'odd[label="a b, [c] |"]'),
        ('odd[label="true"]', 'odd[label="true"]'),
        ('odd[label="1"]', 'odd[label="1"]'),
        ('odd[label=""]', 'odd[label=""]'),
        ("odd[limit=3]", "odd[limit=3]"),
        ("odd[limit=null]", "odd"),
        ("odd[flag=true]", "odd[flag=true]"),
    ],
)
def test_parameters_of_every_shape(odd: str, expression: str, expected: str) -> None:
    spec = one(expression)
    assert spec.expression == expected
    assert one(expected) == spec
    assert all(part.source == odd for part in spec.parts)


def test_a_term_without_weight_cannot_be_kept(odd: str) -> None:
    with pytest.raises(HarnessError, match="term 'extra' of odd has weight 0"):
        resolve("odd.extra")


@pytest.mark.parametrize("text", ['odd[label="\\x"]', "odd[flag=3.5]", "odd[pool=true,label=1]"])
def test_values_of_the_wrong_kind_are_refused(odd: str, text: str) -> None:
    with pytest.raises(HarnessError, match="column"):
        resolve(text)


# The property that keys rest on: one thing, one text ----------------------------------------------------------------

_number = st.one_of(
    st.integers(1, 1000), st.floats(1.0, 1e6, allow_nan=False), st.sampled_from([1e-7, 2e-05, 0.5, 1e22, 3.0])
)
_ka_settings = st.fixed_dictionaries(
    {},
    optional={
        "p": st.sampled_from([1, 2, 2.0, 1.5]),
        "q": st.sampled_from([1, 2, "2.0"]),
        "form": st.sampled_from(["row", "squared"]),
        "affinity_adapter": st.sampled_from(["own", "shared", "none", '"own"']),
        "channels": st.integers(1, 512),
        "beta": _number,
        "gamma": _number,
    },
)
_kd_settings = st.fixed_dictionaries(
    {}, optional={"tau": _number, "mask_ignored": st.sampled_from(["true", "false"]), "kd": _number}
)


@st.composite
def _expressions(draw: st.DrawFn) -> str:
    parts = []
    for name, given_settings, terms in (("ka", _ka_settings, ("adapt", "affinity")), ("kd", _kd_settings, ("kd",))):
        if not draw(st.booleans()):
            continue
        chosen = draw(given_settings)
        off = draw(st.sets(st.sampled_from(terms)))
        symbols = {"adapt": "beta", "affinity": "gamma", "kd": "kd"}
        chosen = {k: v for k, v in chosen.items() if k not in {symbols[t] for t in off}}
        text = name + "".join(f"-{term}" for term in sorted(off))
        parts.append(text + (f"[{','.join(f'{k}={v}' for k, v in chosen.items())}]" if chosen else ""))
    return "+".join(draw(st.permutations(parts))) or "none"


@settings(max_examples=150, deadline=None)
@given(_expressions())
def test_resolving_the_canonical_form_gives_the_same_spec(expression: str) -> None:
    spec = one(expression)
    again = one(spec.expression)
    assert again == spec
    assert canonical_json(again) == canonical_json(spec)
    assert canonical_expression(spec.parts) == spec.expression
    assert combine(spec.parts) == spec
    assert MethodSpec.model_validate_json(spec.model_dump_json()) == spec


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet='kad+-.[]()=|,1 "\\xé', max_size=12))
def test_any_text_is_read_or_refused_in_a_sentence(text: str) -> None:
    try:
        resolve(text)
    except HarnessError as error:
        assert error.message
