"""What figures and pages say of strides, classes, terms and choices: numbers, sentences, and files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from results import ablation, advice, classes, compare, frontier, lengths, queries, strides
from results.figures import ablation as term_figures
from results.figures import classes as class_figures
from results.figures import files, looks, named
from results.figures import lengths as length_figures
from results.figures import strides as stride_figures
from results.figures.tradeoff import accuracy_against_cost
from results.ingest import collect
from results.leaderboard import leaderboard
from results.metrics import MIOU, STATE_METRICS, mean_of_ratios
from results.statistics import IMAGES_ONLY, Difference, class_counts
from results.store import Store, open_store
from tests.results.factory import CLASSES, Fake, add_metrics, add_outlines, sweep, write_all

STUDENT, RECIPE = "timm:mobilenetv2_100/linear", "quick-1a2b3c"
PARTS = {
    "ka": {"adapt": 50.0, "affinity": 1.0},
    "ka-affinity": {"adapt": 50.0},
    "ka-adapt": {"affinity": 1.0},
    "ka[beta=10]": {"adapt": 10.0, "affinity": 1.0},
}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Three methods at three strides, and `ka` taken apart at stride 16."""
    root = tmp_path_factory.mktemp("figures")
    fakes = sweep(("none", "kd", "ka"), (8, 16, 32), (0, 1, 2), images=8)
    taken = [Fake(m, 16, s, images=8, gain=0.02, teacher_key=fakes[0].key) for m in PARTS if m != "ka" for s in (0, 1)]
    write_all(root, [*fakes, *taken])
    for fake in [*fakes, *taken]:
        if fake.method in PARTS:
            file = root / "stages" / fake.key / "record.json"
            record = json.loads(file.read_text())
            record["spec"]["method"]["parts"] = [{"name": "ka", "version": 1, "weights": PARTS[fake.method]}]
            file.write_text(json.dumps(record))
    with open_store(root / "results.db") as opened:
        collect(root, opened)
    return open_store(root / "results.db", readonly=True)


@pytest.fixture(scope="module")
def board(store: Store) -> pd.DataFrame:
    return leaderboard(store, {"method": ["none", "kd", "ka", "teacher"]})


@pytest.fixture(scope="module")
def rows(board: pd.DataFrame) -> pd.DataFrame:
    return strides.one_setting(board, STUDENT, RECIPE)


@pytest.fixture(scope="module")
def look(store: Store) -> looks.Looks:
    return looks.looks(queries.runs(store))


def data_of(chart: Any) -> list[pd.DataFrame]:
    """The data behind each layer; the specification must be valid Vega-Lite."""
    spec = chart.to_dict()
    return [pd.DataFrame(spec["datasets"][layer.get("data", spec.get("data"))["name"]]) for layer in spec["layer"]]


# ----------------------------------------------------------------------------------------------- strides


def test_one_setting_has_its_teacher_and_one_row_a_method_and_stride(rows: pd.DataFrame) -> None:
    assert len(rows) == 10 and rows["method"].eq("teacher").sum() == 1
    assert not rows.duplicated(["method", "stride", "student"]).any()


def test_what_a_stride_buys_is_what_compare_says(store: Store, rows: pd.DataFrame) -> None:
    known = frontier.resampled_rows(store, rows)
    found = {one.method: one for one in strides.bought(rows, known)}
    by = {(m, s): known[r] for m, s, r in zip(rows["method"], rows["stride"], rows["row"], strict=True)}
    for method in ("kd", "ka"):
        mine = {s: by[method, s] for s in (8, 16, 32)}
        assert found[method].found == compare.stride_bought(mine, {s: by["none", s] for s in (8, 16, 32)})
    chances = strides.improvement(rows, known).set_index("method")
    assert chances.loc["ka", "strides"] == 3 and chances.loc["ka", "chance"] > 0.8
    assert (chances["low"] <= chances["chance"]).all() and (chances["chance"] <= chances["high"]).all()


@pytest.mark.parametrize(
    ("low", "high", "said"),
    [
        (0.01, 0.03, "ka at stride 16 is better than none at stride 8 (+2.0 ± 1.0 points), at 32 % of its MACs."),
        (-0.005, 0.045, "ka at stride 16 is as good, to within a point, as none at stride 8 (+2.0 ± 2.5 points)"),
        (-0.02, 0.06, "ka at stride 16 cannot be told from none at stride 8 (+2.0 ± 4.0 points)"),
    ],
)
def test_a_sentence_says_no_more_than_its_interval(rows: pd.DataFrame, low: float, high: float, said: str) -> None:
    gap = Difference(0.02, low, high, 3, "both", 0.5)
    bought = strides.Bought("ka", compare.StrideBought(16, 8, gap), 0.3165)
    assert said in strides.sentence(bought, strides.metric_column_of(rows))


def test_lines_and_map_show_every_row(rows: pd.DataFrame, look: looks.Looks) -> None:
    for over in ("stride", "macs"):
        chart = stride_figures.metric_over_stride(rows, look, over)
        assert chart is not None
        band, line, points, _, teacher, _ = data_of(chart)
        assert len(band) == len(line) == len(points) == 9 and len(teacher) == 1
    found = stride_figures.gain_map(rows, look)
    assert found is not None
    cells, texts = data_of(found)
    assert len(cells) == len(texts) == 6 and cells["text"].str.startswith(("+", "-")).all()
    none = rows[rows["method"] == "none"]
    assert stride_figures.gain_map(none, look) is None
    assert stride_figures.metric_over_stride(rows[rows["method"] == "teacher"], look) is None


def test_names_at_the_ends_do_not_lie_over_one_another() -> None:
    placed = stride_figures._apart([1.0, 1.01, 1.02, 5.0], 0.5)
    assert np.diff(placed).min() >= 0.5 - 1e-9 and np.mean(placed) == pytest.approx(np.mean([1.0, 1.01, 1.02, 5.0]))


# ----------------------------------------------------------------------------------------------- classes


def test_classes_are_paired_over_seeds_and_images(store: Store, board: pd.DataFrame) -> None:
    ours, theirs = (
        frontier.members_of(board[(board["method"] == m) & (board["stride"] == 16)])[0].runs for m in ("ka", "none")
    )
    table = classes.class_table(store, ours, theirs)
    assert list(table["class"]) == list(CLASSES) and table["pixels"].sum() == pytest.approx(1)
    mean = queries.per_class(store, list(ours.values()))["iou"]
    assert table["iou"].tolist() == pytest.approx(mean.tolist())
    assert (table["iou"] - table["other"]).tolist() == pytest.approx(table["delta"].tolist())
    states = queries.image_class_counts(store, [*ours.values(), *theirs.values()])
    a, b = (
        compare.resample({s: states[k][1][:, :, [2]] for s, k in side.items()}, MIOU, classes.RESAMPLES)
        for side in (ours, theirs)
    )
    gap = compare.difference(a, b)
    assert table.loc[2, ["delta_low", "delta_high", "p"]].tolist() == pytest.approx([gap.low, gap.high, gap.p])
    assert (table["p_holm"] >= table["p"]).all()
    assert classes.by_class(store, list(ours.values())) == ["miou", "mean_class_accuracy"]


def test_one_seed_says_nothing_of_a_method(store: Store, board: pd.DataFrame) -> None:
    ours, theirs = (
        dict(list(frontier.members_of(board[(board["method"] == m) & (board["stride"] == 8)])[0].runs.items())[:1])
        for m in ("ka", "none")
    )
    table = classes.class_table(store, ours, theirs)
    assert set(table["verdict"]) == {"one seed: images only"} and table["p_holm"].isna().all()
    alone = classes.class_table(store, ours)
    assert alone["delta"].isna().all() and alone["iou_low"].notna().all()


def test_other_images_cannot_be_paired(tmp_path: Path) -> None:
    fakes = [Fake("ka", images=4), Fake("none", images=5)]
    with open_store(tmp_path / "results.db") as store:
        collect(write_all(tmp_path, fakes), store)
        with pytest.raises(ValueError, match="other images"):
            classes.class_table(store, {0: fakes[0].key}, {0: fakes[1].key})


OUTLINED = [Fake(m, 16, s, images=6) for m in ("none", "ka") for s in (0, 1, 2)]
LATE = Fake("ka", 16, 3, images=6)


@pytest.fixture(scope="module")
def outlined(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """`none` and `ka` with boundary and interior IoU; a fourth seed of `ka` from before there was interior IoU."""
    root = tmp_path_factory.mktemp("outlined")
    for fake in [*OUTLINED, LATE]:
        fake.write(root)
        add_outlines(fake, root, list(STATE_METRICS)[: 1 if fake.seed == 3 else 2])
    with open_store(root / "results.db") as opened:
        assert not collect(root, opened).invalid
    return open_store(root / "results.db", readonly=True)


def keys_of(method: str) -> dict[int, str]:
    return {fake.seed: fake.key for fake in OUTLINED if fake.method == method}


def test_at_outlines_or_inside(outlined: Store) -> None:
    ours, theirs = keys_of("ka"), keys_of("none")
    assert classes.by_class(outlined, list(ours.values())) == [
        "miou", "mean_class_accuracy", "boundary_iou", "interior_iou",
    ]  # fmt: skip
    boundary, interior = (classes.class_table(outlined, ours, theirs, name) for name in classes.OUTLINES)
    assert set(boundary["verdict"]) == {"better"} and (boundary["delta"] > 0.02).all()
    pole = interior["class"] == "pole"  # a class that is all outline
    assert interior.loc[~pole, "delta"].abs().max() < 0.01 and set(interior.loc[~pole, "verdict"]) != {"better"}
    assert interior.loc[pole, ["iou", "other", "delta", "delta_low", "p"]].isna().all(axis=None)
    assert interior.loc[pole, ["verdict", "iou_basis"]].eq("").all(axis=None)
    counts = queries.image_states(outlined, ours.values(), "boundary_iou")
    totals = [counts[key][1].sum(0)[:, 1] for key in ours.values()]
    assert boundary.loc[1, "iou"] == pytest.approx(np.mean([hit / union for hit, union, *_ in totals]))


def test_what_runs_of_before_lack_is_said(outlined: Store, tmp_path: Path) -> None:
    measured = classes.by_class(outlined, [*keys_of("ka").values(), LATE.key])
    assert measured == ["miou", "mean_class_accuracy", "boundary_iou"]  # one of the row's runs is of before
    assert "interior IoU: not all" in classes.lacking(measured) and "boundary" not in classes.lacking(measured)
    assert "boundary IoU and interior IoU" in classes.lacking(["miou"])
    assert classes.lacking(["miou", *STATE_METRICS]) == ""
    assert not len(classes.class_table(outlined, {3: LATE.key}, keys_of("none"), "interior_iou"))


def test_of_a_metric_of_which_less_is_better(tmp_path: Path) -> None:
    said = {"heading": "missed", "unit": "%", "direction": "lower", "digits": 1, "summary": "pixels missed"}
    with open_store(tmp_path / "results.db") as store:
        for fake in OUTLINED:
            counts = class_counts(fake.matrices()).astype(float)
            missed = np.stack([counts[:, 1] - counts[:, 0], counts[:, 1]], axis=1)
            value = float(mean_of_ratios(missed.sum(0)))
            values = {"missed": {**said, "value": value}, "missed_pixels": {**said, "value": value, "unit": "px"}}
            add_metrics(fake.write(tmp_path), {"missed": missed, "missed_pixels": missed}, values)
        assert not collect(tmp_path, store).invalid
        ours, theirs = keys_of("ka"), keys_of("none")
        assert classes.by_class(store, list(ours.values()))[2:] == ["missed"]  # what is no fraction has no axis here
        table = classes.class_table(store, ours, theirs, "missed")
        assert (table["delta"] < 0).all() and set(table["verdict"]) == {"better"}


def test_several_scores_in_one_figure(outlined: Store, look: looks.Looks) -> None:
    tables = {name: classes.class_table(outlined, keys_of("ka"), keys_of("none"), name) for name in classes.OUTLINES}
    gaps, scores = (class_figures.class_scores(tables, look, "#123456", of) for of in ("delta", "iou"))
    assert gaps is not None and scores is not None
    for chart, points in ((gaps, 2), (scores, 1)):
        found = data_of(chart)[points]
        assert len(found) == 2 * len(CLASSES) - 1  # no interior IoU of `pole`
        assert found.groupby("score").size().tolist() == [len(CLASSES), len(CLASSES) - 1]
    alone = {name: table.assign(delta=np.nan) for name, table in tables.items()}
    assert class_figures.class_scores(alone, look, "#123456") is None


def test_class_figures_by_name(outlined: Store, store: Store) -> None:
    board = leaderboard(outlined, {"seed": [0, 1, 2]}, metric="boundary_iou")
    for name, title in (("classes", "boundary IoU [%]"), ("class-gains", "Δ boundary IoU [points]")):
        assert title in json.dumps(named.draw(outlined, name, board).to_dict(), ensure_ascii=False)
    assert "interior_iou" not in json.dumps(spec := named.draw(outlined, "boundary", board).to_dict())
    assert "interior IoU" in json.dumps(spec) and "boundary IoU" in json.dumps(spec)
    with pytest.raises(ValueError, match=r"ka beside its `none`: interior IoU: not all.*evaluated from now on"):
        named.draw(outlined, "boundary", leaderboard(outlined))
    by_pixels = leaderboard(store, {"method": ["ka"], "stride": [16]}, metric="fw_iou")
    with pytest.raises(ValueError, match="fw_iou: not known class by class; there are miou"):
        named.draw(store, "classes", by_pixels)


def test_class_figures(store: Store, board: pd.DataFrame, look: looks.Looks) -> None:
    members = frontier.members_of(board[(board["stride"] == 16) & board["method"].isin(["ka", "none"])])
    table = classes.class_table(store, members[0].runs, members[1].runs)
    bars, ends, ticks = data_of(class_figures.class_intervals(table, look, "#123456"))
    assert len(bars) == len(ends) == len(ticks) == len(CLASSES)
    found = class_figures.class_differences(table, look, "#123456")
    assert found is not None and len(data_of(found)[2]) == len(CLASSES)
    assert class_figures.class_differences(table.assign(delta=np.nan), look, "#123456") is None


# ---------------------------------------------------------------------------------------------- ablation


def test_ablations_are_found_from_what_was_trained(store: Store) -> None:
    found, other = ablation.ablations(store)
    assert found.method == "ka" and found.terms == ("adapt", "affinity")
    assert found.rows[:2] == (("none", "none"), ("full", "ka"))
    labels = {name: label for label, name in found.rows}
    assert labels["ka-adapt"] == "without adapt, only affinity"
    assert labels["ka-affinity"] == "without affinity, only adapt"
    # Another weight is another method, which has the other term in common.
    assert "ka[beta=10]" not in found.on and other.method == "ka[beta=10]" and "ka-affinity" not in other.on
    assert found.on["ka-adapt"] == {"affinity"} and found.on["none"] == set()


def test_contributions_of_all_runs(store: Store, look: looks.Looks) -> None:
    found = ablation.ablations(store)[0]
    table = ablation.contributions(store, found.rows)
    sixteen = table[table["stride"] == 16]
    assert dict(zip(sixteen["expression"], sixteen["seeds"], strict=True)) == {
        "none": 3, "ka": 3, "ka-adapt": 2, "ka-affinity": 2,
    }  # fmt: skip
    chart = term_figures.term_gains(sixteen, look, "#123456")
    assert chart is not None and len(data_of(chart)[0]) == 3
    assert term_figures.term_gains(sixteen[sixteen["row"] == "none"], look, "#123456") is None


def test_hidden_rows_are_not_drawn_but_compared_with(store: Store) -> None:
    found = ablation.ablations(store)[0]
    everything = ablation.contributions(store, found.rows)
    aside = queries.runs(store, {"method": ["none", "ka-affinity"], "stride": [16]})
    some = ablation.contributions(store, found.rows, hidden=set(aside["key"]))
    assert set(some.loc[some["stride"] == 16, "expression"]) == {"ka", "ka-adapt"}
    assert set(some.loc[some["stride"] == 8, "expression"]) == {"none", "ka"}
    gains = [table.set_index(["stride", "expression"])["gain"] for table in (everything, some)]
    assert gains[1].equals(gains[0].loc[gains[1].index])
    one = ablation.contributions(store, found.rows, hidden={aside["key"].iloc[0]})
    assert len(one) == len(everything)
    board = leaderboard(store, {"method": ["none", "ka"], "stride": [16]})
    drawn = [named.draw(store, "ablation", board, hidden=keys) for keys in ((), set(aside["key"]))]
    assert [len(data_of(chart)[0]) for chart in drawn] == [3, 2]


def test_contributions_to_another_metric(store: Store) -> None:
    found = ablation.ablations(store)[0]
    table = ablation.contributions(store, found.rows, metric="pixel_accuracy").set_index(["stride", "expression"])
    runs = queries.runs(store, {"method": ["ka", "none"], "stride": [16], "student": [table["student"].iloc[0]]})
    means = runs.groupby("method")["pixel_accuracy"].mean()
    assert table.loc[(16, "ka"), "pixel_accuracy"] == pytest.approx(means["ka"])
    assert table.loc[(16, "ka"), "gain"] == pytest.approx(means["ka"] - means["none"])
    with pytest.raises(ValueError, match="no run has the metric 'nonesuch'"):
        ablation.contributions(store, found.rows, metric="nonesuch")


# ------------------------------------------------------------------------------------- choosing, and files


def test_cheapest_near_the_best(board: pd.DataFrame) -> None:
    students = board[board["method"] != "teacher"]
    best = students.sort_values("miou").iloc[-1]
    assert advice.cheapest_near_best(board).startswith(f"Best: {best['method']} @{best['stride']}, ")
    near = board.assign(miou=board["miou"].where(board["stride"] != 32, best["miou"] - 0.009))
    said = advice.cheapest_near_best(near)
    assert "Cheapest within a point of it: " in said and "@32" in said and said.endswith("(20 % of its cost).")
    assert advice.cheapest_near_best(board.iloc[:1]) == ""


def test_a_budget_leaves_out_what_costs_more_or_is_not_known(board: pd.DataFrame) -> None:
    assert set(advice.within(board, {"macs": 3})["stride"]) == {16, 32}
    assert len(advice.within(board.assign(latency_ms=np.nan), {"latency_ms": 1e9})) == 0
    assert len(advice.within(board, {})) == len(board)


@pytest.mark.parametrize(("ending", "begins"), [("svg", b"<svg"), ("png", b"\x89PNG"), ("pdf", b"%PDF")])
def test_figures_as_files(tmp_path: Path, board: pd.DataFrame, look: looks.Looks, ending: str, begins: bytes) -> None:
    chart = accuracy_against_cost(board, look.for_paper())
    files.save(chart, tmp_path / "new" / f"figure.{ending}")
    content = (tmp_path / "new" / f"figure.{ending}").read_bytes()
    assert content.startswith(begins) and len(content) > 5000
    if ending == "svg":
        assert b"mIoU" in content and look.colours["ka"].encode() in content


@pytest.fixture(scope="module")
def lengths_store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Two methods at three lengths, and one length under another learning rate."""
    root = tmp_path_factory.mktemp("lengths")
    fields = {"optimizer": {"lr": 0.1}, "loss": {"name": "cross_entropy"}}
    recipes = {f"quick-{n}": fields | {"iterations": n} for n in (100, 200, 400)}
    recipes["other-200"] = fields | {"iterations": 200, "optimizer": {"lr": 0.5}}
    fakes = [
        Fake(method, 16, seed, recipe=name, recipe_fields=fields)
        for name, fields in recipes.items()
        for method in ("none", "ka")
        for seed in (0, 1)
    ]
    write_all(root, fakes)
    for fake in fakes:
        file = root / "stages" / fake.key / "record.json"
        record = json.loads(file.read_text())
        record["training"]["iterations"] = fake.recipe_fields["iterations"]
        if fake.recipe == "quick-100":  # written before there was such a field
            del record["spec"]["recipe"]["loss"]
        file.write_text(json.dumps(record))
    with open_store(root / "results.db") as opened:
        collect(root, opened)
    return open_store(root / "results.db", readonly=True)


def test_lengths_of_recipes_that_differ_in_nothing_else(lengths_store: Store, look: looks.Looks) -> None:
    everything = leaderboard(lengths_store)
    rows = lengths.over_lengths(lengths_store, everything)
    assert list(zip(rows["method"], rows["iterations"], strict=True)) == [
        (method, length) for method in ("ka", "none") for length in (100, 200, 400)
    ]
    assert set(rows["recipe"]) == {"quick-100", "quick-200", "quick-400"}
    chart = length_figures.gain_over_length(rows, look)
    assert chart is not None
    points = chart.layer[-1].data
    assert list(points["iterations"]) == [100, 200, 400]
    deltas = everything.set_index(["method", "recipe"])["delta"]
    assert list(points["gain"]) == pytest.approx([100 * deltas["ka", f"quick-{n}"] for n in (100, 200, 400)])
    assert not points["one_seed"].any() and "hollow" not in chart.to_json()
    assert list(points["place"]) == pytest.approx([100, 200, 400])  # one method: where its length is
    alone = rows.assign(delta_basis=rows["delta_basis"].where(rows["iterations"] != 400, "bootstrap: " + IMAGES_ONLY))
    chart = length_figures.gain_over_length(alone, look)
    assert chart is not None and list(chart.layer[-1].data["one_seed"]) == [False, False, True]
    assert "hollow, dashed: one seed" in chart.to_json()
    assert length_figures.gain_over_length(rows[rows["method"].eq("none")], look) is None
    drawn = named.draw(lengths_store, "lengths", everything)
    assert list(drawn.layer[-1].data["iterations"]) == [100, 200, 400]
    assert lengths.over_lengths(lengths_store, everything.iloc[:0]).empty


def test_points_of_many_methods_stay_at_their_length(lengths_store: Store) -> None:
    rows = lengths.over_lengths(lengths_store, leaderboard(lengths_store))
    ka = rows[rows["method"].eq("ka")]
    many = pd.concat([rows, *(ka[ka["iterations"].eq(200)].assign(method=f"ka[beta={n}]") for n in range(30))])
    many.attrs = rows.attrs
    chart = length_figures.gain_over_length(many.reset_index(drop=True))
    assert chart is not None
    points = chart.layer[-1].data
    few, crowd = points[points["iterations"] != 200], points[points["iterations"] == 200]
    assert list(few["place"]) == pytest.approx([100, 400])
    assert crowd["place"].is_unique and crowd["place"].between(200 * 0.9, 200 * 1.11).all()


def test_very_long_names_are_cut_and_stay_two(tmp_path: Path) -> None:
    """Was: minutes for a name of 50 000 characters."""
    names = ("a" * 50_000, "a" * 50_000 + "b")
    with open_store(tmp_path / "results.db") as store:
        collect(write_all(tmp_path, [Fake(name, images=2) for name in ("none", *names)]), store)
        files.save(named.draw(store, "tradeoff", leaderboard(store)), tmp_path / "figure.svg")
    drawn = (tmp_path / "figure.svg").read_text()
    assert "(1) aaa" in drawn and "(2) aaa" in drawn and "a" * 2 * files.LONGEST not in drawn


def test_no_other_kind_of_file(tmp_path: Path, board: pd.DataFrame) -> None:
    with pytest.raises(ValueError, match=r"written as \.svg, \.png, \.pdf, not '\.jpg'"):
        files.save(accuracy_against_cost(board), tmp_path / "figure.jpg")


def test_dark_and_light_differ_in_ink_only(store: Store) -> None:
    runs = queries.runs(store)
    light, dark = looks.looks(runs), looks.looks(runs, dark=True)
    assert light.ink != dark.ink and light.colours["ka"] == dark.colours["ka"]
    assert dark.for_paper().colours == light.colours
