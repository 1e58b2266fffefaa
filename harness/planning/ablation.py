"""What each term of a method contributes: the rows to train, and the table of differences from their runs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from harness.builders.expression import combine, resolve
from harness.errors import HarnessError
from harness.specs.spec import MethodPart, MethodSpec, canonical_json


def ablation_expressions(expression: str) -> list[tuple[str, str]]:
    """The rows of an ablation, as (label, canonical expression); each expression once.

    `none`, the full method, the method without each term, and with each term only. With two terms, removing one leaves
    only the other: that is one row with both labels.

    Raises:
        HarnessError: a grid, or a method without terms.
    """
    return [(", ".join(labels), spec.expression) for labels, spec in ablation_rows(expression)]


def ablation_rows(expression: str) -> list[tuple[tuple[str, ...], MethodSpec]]:
    """The rows of an ablation, as (all labels, specification)."""
    specs = resolve(expression)
    if len(specs) != 1:
        raise HarnessError(f"'{expression}' is {len(specs)} methods", "ablate one method at a time, without a grid")
    full = specs[0]
    if not full.parts:
        raise HarnessError(f"'{expression}' has no terms to remove", "name a method with terms: harness methods")
    terms = [(part.name, term) for part in full.parts for term in part.weights]
    wanted = [("none", MethodSpec()), ("full", full)]
    terms = terms if len(terms) > 1 else []  # with a single term, "without" equals none and "only" equals full
    wanted += [(f"without {_label(full, t)}", _keep(full.parts, [o for o in terms if o != t])) for t in terms]
    wanted += [(f"only {_label(full, t)}", _keep(full.parts, [t])) for t in terms]
    labels: dict[str, tuple[list[str], MethodSpec]] = {}
    for label, spec in wanted:
        labels.setdefault(canonical_json(spec), ([], spec))[0].append(label)
    return [(tuple(names), spec) for names, spec in labels.values()]


def _label(full: MethodSpec, term: tuple[str, str]) -> str:
    """The term's name, with the name of its method if there are several methods."""
    return term[1] if len(full.parts) == 1 else ".".join(term)


def _keep(parts: Iterable[MethodPart], terms: Sequence[tuple[str, str]]) -> MethodSpec:
    """The same parts with only these terms, weights unchanged."""
    return combine(
        part.model_copy(update={"weights": {t: w for t, w in part.weights.items() if (part.name, t) in terms}})
        for part in parts
    )
