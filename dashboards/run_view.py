"""All that is known of one run, finished or not: what the pages Runs and Run show of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import pandas as pd
import streamlit as st

from dashboards import address, asking, curves, figures, samples, source, stages
from harness.workspace.status import StageStatus, State
from results import sinks
from results.queries import Run

EVERY_S = 3.0
"""Seconds between two looks at a run that is being trained."""
LIVE = (State.RUNNING,)
ONE = {"this run": figures.PALETTE[0]}


def draw(key: str) -> None:
    """A run, by its key, whether it is in the database or only in the workspace."""
    run, status = _collected(key), stages.state_of(key)
    if run is None and status is None:
        st.warning(f"Neither the database nor the workspace knows a run `{sinks.markdown(key)}`.")
        return
    name = run.record.name if run else status.name if status else key
    st.header(sinks.markdown(name))
    _said(key, run, status)
    reproduce = run.record.reproduce if run else str(stages.job(key).get("reproduce", ""))
    if reproduce:
        st.markdown("Make it again:")
        st.code(reproduce, language="bash", wrap_lines=True)
    live = status is not None and status.state in LIVE and run is None
    st.fragment(partial(_curves, key, live), run_every=EVERY_S if live else None)()
    left, right = st.columns(2, gap="large")
    with left:
        _attempts(key, run)
        _cost(run)
        _dependants(key)
    with right:
        _classes(key, run)
        _environment(run)
    if run:
        samples.draw([key])
    _log(key, live)
    spec = run.record.spec if run else stages.spec(key)
    if spec:
        with st.expander("The specification"):
            st.json(spec, expanded=2)
    if run:
        with st.expander("The record"):
            st.json(run.record.model_dump(mode="json"), expanded=1)


def _collected(key: str) -> Run | None:
    """The run as the database has it; None where it does not."""
    try:
        return source.run(key)
    except ValueError:
        return None


def _said(key: str, run: Run | None, status: StageStatus | None) -> None:
    """Key, state and warnings."""
    state = "done" if run else str(status.state) if status else ""
    st.caption(f"`{sinks.markdown(key)}` · {state}")
    if status and not run and status.reason:
        st.warning(f"{state}: {sinks.markdown(status.reason)}")
    if tags := stages.tags().get(key):
        st.caption(f"Tags: {sinks.markdown(', '.join(tags))}")
    if entry := stages.hidden().get(key):
        st.warning(f"Hidden since {sinks.markdown(entry.since[:10])}: {sinks.markdown(entry.reason)}")
    if run and run.row["problem"]:
        st.warning(f"confusion.npz: {sinks.markdown(run.row['problem'])}")
    if run and run.record.training.numerics:
        st.warning(f"Numerics: {sinks.markdown(run.record.training.numerics)}")


def weights_of(key: str, run: Run | None = None) -> dict[str, float]:
    """Term -> weight."""
    if run and run.record.training.terms:
        return {name: float(term.weight) for name, term in run.record.training.terms.items()}
    return curves.term_weights(stages.spec(key))


def _curves(key: str, live: bool) -> None:
    """Every curve of the run; while it trains, with how far it is."""
    if live:
        now = stages.state_of(key)
        if now is None or now.state not in LIVE:
            st.rerun()
        progress = (now.progress if now else None) or {}
        if progress:
            done, total = int(progress["iteration"]), max(1, int(progress["iterations"]))
            st.progress(min(1.0, done / total), f"{done} of {total} iterations, {progress['eta_s']:.0f} s left")
        else:
            st.caption("It has started; no iteration is done yet.")
    found = stages.curves_of(key)
    if not len(found):
        st.caption("No curves: the workspace holds no events of this run.")
        return
    st.subheader("Curves")
    grid(dict.fromkeys(ONE, found), lambda label: weights_of(key, None if live else _collected(key)))


def grid(
    found: Mapping[str, pd.DataFrame],
    weights: Callable[[str], dict[str, float]],
    shades: Mapping[str, str] = ONE,
) -> None:
    """Charts of all curves of one or more runs, with the options that they share.

    Args:
        found: label -> curves.
        weights: label -> weights of the terms.
        shades: label -> colour.
    """
    left, middle, right = st.columns([3, 2, 2], vertical_alignment="bottom")
    percent = address.number(
        "Smoothing", "smooth", 0, 99, 0, draw=left.slider, help="0: every point as it was written."
    )
    apply = address.switch("terms times their weights", "weighted", draw=middle.toggle)
    log = address.switch("logarithmic", "log", draw=right.toggle)
    frames = {label: curves.weighted(frame, weights(label)) if apply else frame for label, frame in found.items()}
    data = pd.concat([frame.assign(run=label) for label, frame in frames.items()], ignore_index=True)
    data = curves.prepared(data, percent)
    names = curves.order(list(data["curve"]))
    for start in range(0, len(names), 3):
        for column, name in zip(st.columns(3), names[start : start + 3], strict=False):
            column.altair_chart(curves.chart(data, name, shades, log), width="stretch", theme="streamlit")


def _attempts(key: str, run: Run | None) -> None:
    found = pd.DataFrame([a.model_dump() for a in run.record.attempts]) if run else stages.attempts(key)
    if len(found):
        for name in ("started", "ended"):
            found[name] = found[name].str[:19].str.replace("T", " ")
        order = ("number", "outcome", "started", "ended", "reason")
        shown = found[[*order, *(name for name in found if name not in order)]]
        st.subheader("Attempts")
        st.dataframe(shown.map(_visible), hide_index=True)


def _visible(value: Any) -> Any:
    return sinks.visible(value) if isinstance(value, str) else value


def _cost(run: Run | None) -> None:
    if run is None or run.record.cost is None:
        return
    cost = run.record.cost
    st.subheader("Multiply-adds by operator")
    macs = pd.Series(cost.macs_by_operator, name="GMACs").div(1e9).sort_values(ascending=False)
    st.dataframe(macs.round(4))
    if cost.uncounted:
        names = ", ".join(f"{sinks.markdown(n)} × {c}" for n, c in cost.uncounted.items())
        st.caption(f"Not counted: {names}")


def _dependants(key: str) -> None:
    """What was, or will be, trained with it."""
    names = dict(source.children(key))
    planned = stages.dependants(key)
    rows = [{"stage": name, "state": "done", "key": child} for child, name in names.items()]
    rows += [
        {"stage": status.name, "state": str(status.state), "key": status.key}
        for status in stages.states([stage for stage in planned if stage.key not in names])
    ]
    st.subheader("What depends on it")
    if rows:
        st.dataframe(pd.DataFrame(rows).map(_visible), hide_index=True, height=min(38 + 35 * len(rows), 300))
    else:
        st.caption("No stage learns from it.")


def _classes(key: str, run: Run | None) -> None:
    if run and run.record.metrics:
        st.subheader("IoU by class")
        st.altair_chart(figures.class_bars(source.per_class([key]), look=asking.looks()), width="stretch", theme=None)
    if run and run.record.training.terms:
        st.subheader("Terms, unweighted")
        st.dataframe(pd.DataFrame({sinks.visible(n): t.model_dump() for n, t in run.record.training.terms.items()}).T)


def _environment(run: Run | None) -> None:
    if run:
        st.subheader("Environment")
        st.json(run.record.environment.model_dump(), expanded=1)


def _log(key: str, live: bool) -> None:
    """The end of what its latest attempt printed."""
    with st.expander("The end of its log", expanded=False):
        st.fragment(partial(_log_lines, key), run_every=EVERY_S if live else None)()


def _log_lines(key: str) -> None:
    lines = stages.log_tail(key)
    st.code("\n".join(map(sinks.visible, lines)) or "Nothing was printed.", language=None, height=320)
