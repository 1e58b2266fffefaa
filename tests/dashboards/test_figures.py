"""Tables and figures as pure functions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from dashboards import figures, tables
from results import formats, queries
from results.figures.looks import GREY
from results.figures.strides import metric_over_stride
from results.figures.tradeoff import SIDE_BY_SIDE
from results.ingest import collect
from results.leaderboard import columns_of, leaderboard
from results.store import Store, open_store
from tests.results.factory import Fake, sweep, write_all


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    root = tmp_path_factory.mktemp("figures")
    fakes = sweep(("none", "kd", "ka"), (8, 16, 32), (0, 1, 2), images=4)
    fakes.append(Fake("ka", 4, images=4, numerics="bf16 is wrong"))
    with open_store(root / "results.db") as opened:
        collect(write_all(root, fakes), opened)
    return open_store(root / "results.db", readonly=True)


@pytest.fixture(scope="module")
def board(store: Store) -> pd.DataFrame:
    return leaderboard(store)


def table_of(board: pd.DataFrame) -> Any:
    """The table of the page Leaderboard."""
    return tables.board_table(board, tables.board_texts(board))


def data_of(chart: Any) -> list[pd.DataFrame]:
    """The data behind each layer; the specification must be valid Vega-Lite."""
    spec = chart.to_dict()
    return [pd.DataFrame(spec["datasets"][layer["data"]["name"]]) for layer in spec["layer"]]


def test_scatter_shows_every_row_where_it_belongs(board: pd.DataFrame) -> None:
    frontier, bars, points, labels = data_of(figures.accuracy_against_cost(board))
    assert len(points) == len(board) == len(bars)
    assert sorted(points["value"]) == pytest.approx(sorted(100 * board["miou"]))
    assert (np.abs(np.log(points["place"] / points["cost"])) <= SIDE_BY_SIDE * 1.01).all()
    # Rows of equal cost are apart.
    assert points.groupby("cost")["place"].nunique().eq(points.groupby("cost").size()).all()
    assert len(frontier) == board["frontier"].sum() and frontier["place"].is_monotonic_increasing
    assert set(labels["label"]) == {"@4", "@8", "@16", "@32"}


def test_none_is_grey_and_every_method_has_a_colour(board: pd.DataFrame) -> None:
    colours = colours_of(figures.accuracy_against_cost(board))
    assert colours["none"] == GREY and len(set(colours.values())) == len(colours) == 4


def colours_of(chart: Any) -> dict[str, str]:
    scale = chart.to_dict()["layer"][2]["encoding"]["color"]["scale"]
    return dict(zip(scale["domain"], scale["range"], strict=True))


def test_a_name_has_one_colour_in_all_figures_and_under_all_filters(store: Store, board: pd.DataFrame) -> None:
    looks = figures.looks(queries.runs(store))
    everything = colours_of(figures.accuracy_against_cost(board, looks))
    lines = metric_over_stride(board[board["stride"].isin([8, 16])], looks)
    assert lines is not None and colours_of(lines).items() <= everything.items()
    for method in ("ka", "kd"):
        shown = board[board["method"] == method]
        assert colours_of(figures.accuracy_against_cost(shown, looks)) == {method: everything[method]}
        assert everything[method] in figures.legend(shown, looks)


def test_the_legend_has_every_method_in_full_and_harmless(board: pd.DataFrame) -> None:
    names = [f"kd+ka[beta={n}|{n}0]" for n in range(30)] + ["<img src=x onerror=alert(1)>\x1b[2J"]
    many = pd.concat([board.iloc[[0]]] * len(names), ignore_index=True).assign(method=names)
    found = figures.legend(many, figures.looks(many))
    assert all(name in found for name in names[:-1]) and found.count("●") == len(names)
    assert "<img" not in found and "\x1b" not in found


def test_what_is_empty_is_no_zero_when_sorted(board: pd.DataFrame) -> None:
    table = table_of(board).data
    empty = board["delta"].isna()
    assert np.isneginf(table.loc[empty, "Δ none [points]"]).all() and empty.any()
    assert table.sort_values("Δ none [points]")["method"].iloc[: empty.sum()].isin(["none", "teacher", "ka"]).all()


def test_columns_are_as_wide_as_their_longest_text(board: pd.DataFrame) -> None:
    long = board.assign(method=[f"kd+ka[beta={n}{'0' * 25}]" for n in range(len(board))])
    texts = tables.board_texts(long)
    found = tables.board_fit(texts)
    assert found.widths["method"] > 38 * 6.5 and found.row == tables.ROW
    for column, cells in texts.items():
        assert found.widths[column.title] >= 20 + 6.5 * max(map(len, [column.title, *cells]))
    assert set(tables.board_fit(tables.board_texts(board)).widths) == set(table_of(board).data.columns)


def test_very_long_names_take_several_lines_and_numbers_never(board: pd.DataFrame) -> None:
    long = board.assign(method=[f"kd+ka[beta={n}{'0' * 90}]" for n in range(len(board))])
    found, before = (tables.board_fit(tables.board_texts(b)) for b in (long, board))
    assert found.widths["method"] == tables.WRAPPED and found.widths["verdict"] == before.widths["verdict"]
    assert found.of({"method": ["ka"], "verdict": ["better"]}) == tables.Fit(found.widths, tables.ROW)
    assert found.of({"method": ["ka" * 20]}) == found
    assert found.row == tables.HIGH_ROW > 64 and found.height(100, 400) == 400 and found.height(0, 400) == 106


def test_rows_of_one_name_are_told_apart_beside_it(board: pd.DataFrame) -> None:
    again = pd.concat([board, board.assign(recipe="quick-longer")], ignore_index=True)
    names = [column.name for column in tables.board_columns(again)]
    assert names[names.index("stride") + 1] == "recipe" and names.count("recipe") == 1
    assert "recipe" not in [column.name for column in tables.board_columns(board)]


def test_one_row_alone_is_drawn(board: pd.DataFrame) -> None:
    assert len(data_of(figures.accuracy_against_cost(board.iloc[[1]]))[2]) == 1


def test_rows_without_a_cost_are_left_out(board: pd.DataFrame) -> None:
    bare = board.assign(macs=board["macs"].where(board["method"] != "kd"))
    assert len(data_of(figures.accuracy_against_cost(bare))[2]) == len(board) - 3


def test_class_bars(store: Store, board: pd.DataFrame) -> None:
    values = queries.per_class(store, board["keys"].iloc[0].split(","))
    bars, ticks = data_of(figures.class_bars(values, values))
    assert bars["percent"].tolist() == ticks["percent"].tolist() == pytest.approx((100 * values["iou"]).tolist())


def test_table_keeps_numbers_and_shows_intervals(board: pd.DataFrame) -> None:
    style = table_of(board)
    # Numbers in the unit of the heading, so that a heading sorts them and a download says what it is headed.
    assert style.data["mIoU [%]"].tolist() == pytest.approx((100 * board["miou"]).tolist())
    assert style.data["GMACs"].tolist() == pytest.approx((board["macs"] / 1e9).tolist())
    assert style.data["Δ none, low [points]"].replace(-np.inf, np.nan).dropna().tolist() == pytest.approx(
        (100 * board["delta_low"].dropna()).tolist()
    )
    for _ in range(2):  # rendering twice shows the same
        html = style.to_html()
        places = [html.index(text) for text in formats.cells(columns_of(board)["miou"], board)]
        assert places == sorted(places)
    assert "background-color: #d8f0df" in html
    assert "initial weights" not in style.data and "numerics" in style.data


def test_the_only_student_is_said_above_the_table(board: pd.DataFrame) -> None:
    student = board.loc[board["method"] == "none", "student"].iloc[0]
    assert tables.caption(board).startswith(f"student {student} · ")
    assert "student" not in table_of(board).data
    two = board.assign(student=board["student"].where(board["stride"] != 32, "another"))
    assert "student" in table_of(two).data and tables.caption(two) == formats.caption(board)


def test_summary(board: pd.DataFrame) -> None:
    found = tables.summary(board)
    assert found["rows"] == "11" and found["runs"] == "29" and found["clearly better than none"].endswith(" of 6")
    assert tables.summary(board[board["method"] == "teacher"])["best student"] == ""


def test_plain_words_fit_the_seeds(board: pd.DataFrame) -> None:
    assert "1 to 3 seeds" in tables.reading(board)[0]
    single = tables.reading(board[(board["seeds"] == 1) & (board["method"] != "teacher")])
    assert "1 seed:" in single[0] and not any("95 of 100" in said for said in single)


def test_runs_table(store: Store) -> None:
    runs = queries.runs(store)
    shown = tables.runs_table(runs)
    assert shown["mIoU [%]"].tolist() == pytest.approx((100 * runs["miou"]).tolist(), abs=0.006)
    key = runs["key"].iloc[0]
    assert len(tables.seeds_table(runs, [key])) == 1
