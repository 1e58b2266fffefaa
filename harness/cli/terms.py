"""`harness terms`: a method's unweighted terms on given arrays."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Annotated

import typer

from harness.cli.options import Plugins


def terms(
    method: Annotated[str, typer.Argument(help="A method, or an expression: ka, cwd-kd, ka.affinity.")],
    inputs: Annotated[Path, typer.Option("--inputs", "-i", help="An .npz file of named arrays.")],
    identity_adapters: Annotated[
        bool, typer.Option("--identity-adapters", help="Replace learned adapters and translators by the identity.")
    ] = False,
    param: Annotated[
        list[str] | None, typer.Option("--param", "-p", help="A parameter of the method: name=value. Repeatable.")
    ] = None,
    plugin: Plugins = None,
) -> None:
    """Compute a method's unweighted terms in float64, to compare with another implementation. Prints JSON.

    Arrays, all optional; a term whose arrays are missing is skipped, with a note on standard error:

    * student_logits, teacher_logits: (B, K, h, w)

    * student_features, teacher_features: (B, C, h, w), the last map and the only backbone map

    * student_features_0, student_features_1, ...: the backbone's maps, shallow to deep; the teacher's likewise

    * student_last, teacher_last: (B, C, h, w), the classifier's input, if it is not the deepest map

    * labels: (B, H, W), class indices; -1 and 255 are ignored

    * images: (B, 3, H, W)

    Any other array sets the learned tensor of that name (tokens of maskd).

    Examples:

        python -c "import numpy as n; S, T = n.random.rand(2, 2, 8, 4, 4); n.savez('x', student_last=S, teacher_last=T,
        student_logits=S, teacher_logits=T)"

        harness terms kd --inputs x.npz --param tau=4

        harness terms ka --inputs x.npz --param p=1 --identity-adapters
    """
    from harness.conformance.arrays import read_arrays
    from harness.conformance.terms import evaluate_terms
    from harness.plugins.file_plugin import stdout_to_stderr
    from harness.plugins.load import load_plugins
    from harness.specs.values import parse_pairs

    load_plugins(plugin or [])
    with stdout_to_stderr():
        found = evaluate_terms(method, parse_pairs(param or [], "--param"), read_arrays(inputs), identity_adapters)
    for name, note in found.notes.items():
        typer.echo(f"null: {note}" if name in found.values else f"{name} is skipped: it {note}", err=True)
    values = {name: value if math.isfinite(value) else None for name, value in found.values.items()}
    typer.echo(json.dumps(values, indent=1))
