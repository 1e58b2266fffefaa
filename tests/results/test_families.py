"""Methods over many settings: the chance of improvement and the interquartile mean of the gain, and the command."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from harness.cli.app import app
from harness.errors import HarnessError
from results.compare import interquartile_gain
from results.families import family_gaps, scores_by_setting
from results.ingest import collect
from results.metrics import COUNT_METRICS
from results.store import open_store
from tests.results.factory import Fake, sweep, write_all

MIOU = COUNT_METRICS["miou"].info
FAKES = [
    *sweep(("none", "kd", "ka"), (8, 16), (0, 1, 2), images=3),
    *(Fake(method, 32, seed, images=3) for method in ("none", "ka") for seed in (0, 1)),
    Fake("none", 8, 0, dataset="camvid", images=3),
    Fake("ka", 8, 0, dataset="camvid", images=3),
]


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = write_all(tmp_path_factory.mktemp("families"), FAKES)
    with open_store(root / "results.db") as store:
        collect(root, store)
    return root


def test_settings_that_both_have(workspace: Path) -> None:
    with open_store(workspace / "results.db", readonly=True) as store:
        scores = scores_by_setting(store, ["none", "kd", "ka"])
        strided = scores_by_setting(store, ["none", "ka"], {"stride": [8], "dataset": ["shapes"]})
    of = {(row.dataset, row.stride, row.method): row.scores for row in scores.itertuples()}
    ka = {fake.seed: fake.record().metrics.miou for fake in FAKES if (fake.method, fake.stride) == ("ka", 16)}
    assert of["shapes", 16, "ka"] == pytest.approx([ka[seed] for seed in sorted(ka)])
    gaps = {(gap.ours, gap.theirs): gap for gap in family_gaps(scores, ["none", "kd", "ka"], MIOU)}
    assert [(gap.settings, gap.left_out) for gap in gaps.values()] == [(2, 0), (3, 1), (2, 0)]
    best = gaps["ka", "none"]
    assert best.verdict == "better" and best.improvement.value == 1 and 0.01 < best.gain.low < best.gain.high < 0.05
    (one,) = family_gaps(strided, ["none", "ka"], MIOU)
    assert (one.settings, one.left_out) == (1, 0)
    (other,) = family_gaps(strided, ["ka", "none"], MIOU)
    assert other.verdict == "worse" and other.gain.value < 0


def test_a_metric_of_which_less_is_better(workspace: Path) -> None:
    from dataclasses import replace

    with open_store(workspace / "results.db", readonly=True) as store:
        scores = scores_by_setting(store, ["none", "ka"], {"dataset": ["shapes"]})
    (gap,) = family_gaps(scores, ["none", "ka"], replace(MIOU, direction="lower"))
    assert gap.verdict == "worse" and gap.gain.value < 0


def test_gain_covers_the_noise_of_both_sides() -> None:
    """Nominal 95 % intervals of no gain hold zero about as often as they say."""
    generator = np.random.default_rng(0)
    held = 0
    for _ in range(100):
        ours, theirs = generator.normal(0, 1, (2, 6, 5))
        found = interquartile_gain(list(ours), list(theirs), resamples=400)
        held += found.low <= 0 <= found.high
    assert 88 <= held <= 100


def harness(*words: str) -> str:
    found = CliRunner().invoke(app, list(words))
    if isinstance(found.exception, HarnessError):
        raise found.exception
    assert found.exit_code == 0, found.output
    return found.output


def test_the_command(workspace: Path) -> None:
    place = ["--workspace", str(workspace), "--db", str(workspace / "results.db")]
    found = json.loads(harness("compare", "none", "ka", "--family", "--json", *place))
    (gap,) = found["gaps"]
    assert gap["verdict"] == "better" and gap["settings"] == 3 and gap["improvement"]["value"] == 1
    said = harness("compare", "none", "kd", "ka", "--family", "--where", "shapes @16", *place)
    assert "shapes @16" in said and "better" in said and "Agarwal" in said
    for words, why in (
        (["none", "nobody", "--family"], "no run has the method 'nobody'"),
        (["none", "none", "--family"], "each named once"),
        (["none", "ka", "--family", "--where", "camvid"], "no setting .* in common .* two seeds"),
        (["none @8", "ka @8", "--where", "shapes"], "add --family"),
    ):
        with pytest.raises(HarnessError, match=why):
            harness("compare", *words, *place)
