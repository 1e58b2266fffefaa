"""`harness terms`: a method's unweighted terms on given arrays."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Annotated

import typer


def terms(
    method: Annotated[str, typer.Argument(help="A method, or an expression: ka, cwd-kd, ka.affinity.")],
    inputs: Annotated[Path, typer.Option("--inputs", "-i", help="Arrays, an .npz file; see below.")],
    identity_adapters: Annotated[
        bool, typer.Option("--identity-adapters", help="Replace learned adapters and translators by the identity.")
    ] = False,
    param: Annotated[
        list[str] | None, typer.Option("--param", "-p", help="A parameter of the method: name=value. Repeatable.")
    ] = None,
    plugin: Annotated[list[Path] | None, typer.Option("--plugin", help="Python file that registers methods.")] = None,
) -> None:
    """Compute a method's unweighted terms in float64, to check it against another implementation. Prints JSON.

    Arrays: student_logits, student_features, teacher_logits, teacher_features (B, C, h, w), labels (B, H, W; -1 or
    255 is ignored), images (B, 3, H, W); several backbone maps as student_features_0, student_features_1, ...; any
    other array sets the learned tensor of that name. A term whose arrays are not given is left out, with a note on
    standard error.

    Examples:

        harness terms kd --inputs x.npz --param tau=4

        harness terms ka --inputs x.npz --identity-adapters --param p=1
    """
    from harness.plugins import load_plugins
    from harness.terms import evaluate_terms, parse_params, read_arrays

    load_plugins(plugin or [])
    found = evaluate_terms(method, parse_params(param or []), read_arrays(inputs), identity_adapters)
    for name, note in found.notes.items():
        typer.echo(f"{name} is left out: it {note}", err=True)
    values = {name: value if math.isfinite(value) else None for name, value in found.values.items()}
    typer.echo(json.dumps(values, indent=1))
