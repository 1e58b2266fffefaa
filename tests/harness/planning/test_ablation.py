"""Ablation: the rows that are trained, and the table of what each term contributes."""

from __future__ import annotations

import inspect
import json
import math
from pathlib import Path

import pytest
from typer.testing import CliRunner

from harness.builders.expression import resolve
from harness.cli.ablate import ablate
from harness.cli.app import app
from harness.cli.sweep import sweep
from harness.errors import HarnessError
from harness.planning.ablation import ablation_expressions
from results.ablation import bracketed, contributions
from results.ingest import collect
from results.statistics import paired_over_seeds
from results.store import open_store
from tests.end_to_end.tiny import tiny_flags
from tests.results.factory import Fake, write_all


@pytest.mark.parametrize(
    ("expression", "rows"),
    [
        ("kd", [("none", "none"), ("full", "kd")]),
        (
            "ka",
            [
                ("none", "none"),
                ("full", "ka"),
                ("without adapt, only affinity", "ka-adapt"),
                ("without affinity, only adapt", "ka-affinity"),
            ],
        ),
        (
            "kd[tau=4]+ka[beta=10]",
            [
                ("none", "none"),
                ("full", "ka[beta=10]+kd[tau=4]"),
                ("without ka.adapt", "ka.affinity+kd[tau=4]"),
                ("without ka.affinity", "ka[beta=10].adapt+kd[tau=4]"),
                ("without kd.kd", "ka[beta=10]"),
                ("only ka.adapt", "ka[beta=10]-affinity"),
                ("only ka.affinity", "ka-adapt"),
                ("only kd.kd", "kd[tau=4]"),
            ],
        ),
        ("ka-affinity", [("none", "none"), ("full", "ka-affinity")]),
    ],
)
def test_the_rows_of_an_ablation(expression: str, rows: list[tuple[str, str]]) -> None:
    assert ablation_expressions(expression) == rows
    assert all(resolve(method)[0].expression == method for _, method in rows)


def test_a_weight_that_was_set_stays_with_its_term() -> None:
    rows = dict(ablation_expressions("ka[beta=10,gamma=3]"))
    assert rows["without affinity, only adapt"] == "ka[beta=10]-affinity"
    assert rows["without adapt, only affinity"] == "ka[gamma=3]-adapt"


@pytest.mark.parametrize(("expression", "says"), [("ka[beta=1|2]", "is 2 methods"), ("none", "has no terms")])
def test_what_cannot_be_ablated(expression: str, says: str) -> None:
    with pytest.raises(HarnessError, match=says):
        ablation_expressions(expression)


METHODS = ("none", "ka", "ka-adapt", "ka-affinity")
GAINS = {"none": 0.0, "ka": 0.04, "ka-adapt": 0.001, "ka-affinity": 0.035}


def fakes(seeds: range, stride: int = 16, **rest: str) -> list[Fake]:
    return [Fake(m, stride, s, gain=GAINS[m], **rest) for m in METHODS for s in seeds]


def test_differences_are_paired_over_seeds(tmp_path: Path) -> None:
    made = fakes(range(4))
    write_all(tmp_path, [*made, Fake("kd", 16, 0)])
    with open_store(str(tmp_path / "board.db")) as store:
        collect(tmp_path, store)
        table = contributions(store, ablation_expressions("ka"), [fake.key for fake in made])
    assert list(table["expression"]) == ["none", "ka", "ka-adapt", "ka-affinity"]
    assert set(table["seeds"]) == {4}
    scores = {m: [f.record().metrics.miou for f in made if f.method == m] for m in METHODS}
    rows = table.set_index("expression")
    gain = paired_over_seeds(scores["ka-adapt"], scores["none"])
    cost = paired_over_seeds(scores["ka"], scores["ka-adapt"])
    got = rows.loc["ka-adapt"]
    assert (got["gain"], got["gain_low"], got["gain_high"]) == pytest.approx((gain.value, gain.low, gain.high))
    assert (got["cost"], got["cost_low"], got["cost_high"]) == pytest.approx((cost.value, cost.low, cost.high))
    assert got["cost_basis"] == "paired over 4 seeds"
    assert rows.loc["ka", "gain_verdict"] == "better" and rows.loc["ka-adapt", "cost_verdict"] == "better"
    assert math.isnan(rows.loc["none", "gain"]) and math.isnan(rows.loc["ka", "cost"])
    assert rows.loc["none", "cost"] == pytest.approx(rows.loc["ka", "gain"])


def test_settings_and_teachers_stand_apart_and_other_runs_are_left_out(tmp_path: Path) -> None:
    made = [*fakes(range(2)), *fakes(range(2), stride=8)]
    other = [f for f in fakes(range(2), teacher="timm:resnet50/aspp@8") if f.method != "none"]
    unasked = fakes(range(5, 9))
    write_all(tmp_path, [*made, *other, *unasked])
    with open_store(str(tmp_path / "board.db")) as store:
        collect(tmp_path, store)
        table = contributions(store, ablation_expressions("ka"), [fake.key for fake in [*made, *other]])
    places = table.groupby(["stride", "teacher"]).size().to_dict()
    assert places == {
        (8, "timm:resnet18/aspp@8"): 4,
        (16, "timm:resnet18/aspp@8"): 4,
        (16, "timm:resnet50/aspp@8"): 4,
    }
    assert set(table["seeds"]) == {2}


def test_one_seed_gets_no_verdict_and_a_missing_row_is_left_out(tmp_path: Path) -> None:
    made = [fake for fake in fakes(range(1)) if fake.method != "ka-adapt"]
    write_all(tmp_path, made)
    with open_store(str(tmp_path / "board.db")) as store:
        collect(tmp_path, store)
        table = contributions(store, ablation_expressions("ka"), [fake.key for fake in made])
    assert list(table["expression"]) == ["none", "ka", "ka-affinity"]
    assert set(table["gain_verdict"]) == {"", "one seed: images only"}
    assert "not training noise" in table.set_index("expression").loc["ka", "gain_basis"]


def test_numbers_are_shown_in_per_cent() -> None:
    assert bracketed(0.0123, 0.004, 0.02, sign=True) == "+1.2 [+0.4, +2.0]"
    assert bracketed(0.5, math.nan, math.nan) == "50.0"
    assert bracketed(math.nan, math.nan, math.nan) == ""


# The command --------------------------------------------------------------------------------------------------------


def test_ablate_has_the_options_of_sweep() -> None:
    ours, theirs = inspect.signature(ablate).parameters, inspect.signature(sweep).parameters
    assert set(ours) == set(theirs) - {"methods"} | {"method"}


def test_a_dry_run_shows_rows_and_plan_and_runs_nothing(tmp_path: Path) -> None:
    words = tiny_flags(tmp_path / "work")
    at = words.index("--methods")
    del words[at : at + 2]
    result = CliRunner().invoke(app, ["ablate", "ka", *words, "--seeds", "0,1", "--dry-run"])
    assert result.exit_code == 0, result.output
    assert "without adapt, only affinity" in result.output
    assert "8 students" in result.output and "1 translator" in result.output
    shown = CliRunner().invoke(app, ["ablate", "kd", *words, "--dry-run", "--json"])
    assert shown.exit_code == 0 and json.loads(shown.output)
    assert not (tmp_path / "work" / "stages").exists()
