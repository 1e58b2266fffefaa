"""Two to six runs or rows beside one another: what differs in how they were made, how well they do, and where."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import streamlit as st

from dashboards import address, asking, compare_view, comparison, figures, run_view, source, stages
from dashboards.source import Comparison
from results import pictures, sinks
from results.columns import metric_column
from results.differences import MOST_SIDES, Side

TITLE = "Compare"
ICON = ":material/compare_arrows:"
ORDER = 6
FIRST = "table"


def asked() -> list[str]:
    """The runs and rows in the address; more can be added, and each taken off."""
    with st.sidebar:
        there = address.get_all("side")
        if there:
            address.choices("Compared", "side", there, format_func=source.label)
        st.text_input(
            "Add a run or a row", key="added", on_change=_add, placeholder="ka @16, or the beginning of a key"
        )
    return address.get_all("side")


def _add() -> None:
    if words := st.session_state["added"].strip():
        address.put(side=[*address.get_all("side"), words][:MOST_SIDES])
    st.session_state["added"] = ""


def example() -> None:
    """A link to the best student beside its `none`."""
    wanted, _ = asking.data_set()
    board = source.board(wanted)
    best = board[board["method"].ne("teacher") & board["delta"].notna()].head(1)
    none = asking.none_of(board, best.iloc[0]) if len(best) else None
    if none:
        row = best.iloc[0]
        said = f"{sinks.markdown(row['method'])} @{row['stride']} beside its `none`"
        address.step(f"For example: {said}", ":material/compare_arrows:", side=[none, row["row"]])


def classes(found: Comparison, shades: Mapping[str, str]) -> None:
    """IoU by class, and its differences from the first side."""
    if not len(found.classes):
        return
    st.subheader("IoU by class")
    left, right = st.columns(2, gap="large")
    left.altair_chart(comparison.class_chart(found.classes, shades), width="stretch", theme="streamlit")
    right.altair_chart(comparison.class_gap_chart(found.classes, shades), width="stretch", theme="streamlit")


def seed_of(sides: list[Side]) -> int:
    """The seed whose curves and pictures are shown."""
    seeds = sorted({seed for side in sides for seed in side.records})
    if len(seeds) < 2:
        return seeds[0]
    common = [seed for seed in seeds if all(seed in side.records for side in sides)]
    return address.choice("Curves and pictures of seed", "seed", seeds, (common or seeds)[0], draw=st.segmented_control)


def key_at(side: Side, seed: int) -> str:
    """The run of a side that has the seed; else its first."""
    return side.records.get(seed, next(iter(side.records.values()))).key


def curves(sides: list[Side], shades: Mapping[str, str], seed: int) -> None:
    """Every term of every side in one picture each."""
    keys = {side.label: key_at(side, seed) for side in sides}
    found = {label: frame for label, key in keys.items() if len(frame := stages.curves_of(key))}
    if not found:
        st.caption("No curves: the workspace holds no events of these runs.")
        return
    st.subheader("Curves")
    run_view.grid(found, lambda label: run_view.weights_of(keys[label], source.run(keys[label])), shades)


def images(found: Comparison, words: list[str], metric: str, seed: int) -> None:
    """The images on which two sides differ most, both ways: by score, and as pictures where both keep them."""
    labels = [side.label for side in found.sides]
    st.subheader("Images on which they differ most")
    pairs = [(b, a) for a in range(len(labels)) for b in range(a + 1, len(labels))]
    names = {f"{b}-{a}": f"{labels[b]} minus {labels[a]}" for b, a in pairs}
    pair = next(iter(names))
    if len(names) > 1:
        pair = address.choice("Pair", "pair", list(names), format_func=names.__getitem__)
    ours, theirs = (int(place) for place in pair.split("-"))
    gaps = source.image_gaps(words, metric, ours, theirs)
    if not len(gaps):
        st.caption("Their images were not kept, or are not the same.")
        return
    column = metric_column(source.metrics()[metric])
    shown = gaps.assign(image=gaps["image"].map(sinks.visible))
    for name in ("ours", "theirs", "gap"):
        shown[name] = (column.factor * shown[name]).round((column.digits or 0) + 1)
    brief = comparison.short(labels)
    ours_name, theirs_name = (sinks.visible(brief[place]) for place in (ours, theirs))
    shown = shown.rename(columns={"ours": ours_name, "theirs": theirs_name, "gap": "difference"})
    st.dataframe(shown, hide_index=True, height=38 + 35 * min(len(shown), 6))
    st.caption(f"{sinks.markdown(column.title)} of each image alone, means over seeds; largest difference first.")
    side_by_side(found.sides, ours, theirs, dict(zip(gaps["image"], gaps["gap"], strict=True)), seed)


def side_by_side(sides: list[Side], ours: int, theirs: int, gaps: dict[str, float], seed: int) -> None:
    """Pictures of the images that all sides keep: image, labels, teacher, each side, and who is right where."""
    root = source.workspace()
    kept = {side.label: pictures.pictures(root, key_at(side, seed)) for side in sides}
    common = [name for name in gaps if all(name in found for found in kept.values())]
    if not common:
        st.caption("No image is kept by all of them: see --samples of harness sweep.")
        return
    teacher = pictures.pictures(root, _teacher(sides))
    ahead, behind = comparison.both_ways({name: gaps[name] for name in common}, 3)
    labels = comparison.short([side.label for side in sides])
    kept = dict(zip(labels, kept.values(), strict=True))
    for title, names in ((f"{labels[ours]} ahead", ahead), (f"{labels[theirs]} ahead", behind)):
        if names:
            st.markdown(f"**{sinks.markdown(title)}**")
        for name in names:
            _strip(name, gaps[name], kept, teacher, labels[ours], labels[theirs])
    right, wrong = sinks.markdown(labels[ours]), sinks.markdown(labels[theirs])
    st.caption(
        f"Last picture: blue where {right} alone is right, orange where {wrong} alone is, grey where neither is."
    )


def _teacher(sides: list[Side]) -> str:
    """The key of the first teacher that a side has."""
    found = (record.parents.get("teacher", "") for side in sides for record in side.records.values())
    return next((key for key in found if key), "")


def _strip(
    name: str, gap: float, kept: Mapping[str, pictures.Kept], teacher: pictures.Kept, ours: str, theirs: str
) -> None:
    folder, one = kept[ours][name]
    shown: list[tuple[str, Any]] = [("image", str(folder / one.image)), ("labels", str(folder / one.label))]
    if name in teacher:
        shown.append(("teacher", str(teacher[name][0] / teacher[name][1].prediction)))
    shown += [(label, str(found[name][0] / found[name][1].prediction)) for label, found in kept.items()]
    try:
        a, b = (pictures.classes_at(kept[label][name][0] / kept[label][name][1].prediction) for label in (ours, theirs))
        who = pictures.coloured(pictures.difference_map(pictures.classes_at(folder / one.label), a, b))
        shown.append(("who is right", who))
    except ValueError as error:
        st.caption(sinks.markdown(error))
    st.caption(f"{sinks.markdown(name)} · {100 * gap:+.1f} points")
    for column, (what, picture) in zip(st.columns(len(shown)), shown, strict=True):
        column.image(picture, caption=sinks.markdown(what), width="stretch")


st.title("Compare")
if source.ready():
    words = asked()
    if len(words) < 2:
        st.info("Tick two to six rows on the page Leaderboard, or runs on the page Runs; or name them at the side.")
        example()
    else:
        known = source.metrics()
        with st.sidebar:
            metric = address.choice("Metric", "metric", list(known), format_func=lambda name: known[name].heading)
        try:
            found = source.comparison(words, metric)
        except ValueError as error:
            st.warning(sinks.markdown(error))
        else:
            shades = comparison.colours(found.sides, asking.looks())
            st.html(figures.swatches(shades))
            compare_view.accuracy(found, metric)
            compare_view.over_settings(found, metric)
            compare_view.made(found)
            classes(found, shades)
            seed = seed_of(found.sides)
            images(found, words, metric, seed)
            curves(found.sides, shades, seed)
