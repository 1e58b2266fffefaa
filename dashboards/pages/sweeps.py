"""Every sweep of the workspace while it runs: what waits, runs, is done, failed or blocked, and why."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial

import pandas as pd
import streamlit as st

from dashboards import address, source, stages
from harness.workspace.status import SavedSweep, StageStatus, State, count_states
from results import sinks

TITLE = "Sweeps"
ICON = ":material/schedule:"
ORDER = 5
FIRST = "table"
EVERY_S = 3.0  # seconds between two looks while something runs
PROGRESS = st.column_config.ProgressColumn(format="%d %%", min_value=0, max_value=100)


def overview(sweeps: Sequence[SavedSweep]) -> None:
    """One row a sweep; a click chooses the one that is shown below."""
    rows = []
    for sweep in sweeps:
        counts = count_states(stages.states(sweep.stages))
        row = {"started": time.strftime("%Y-%m-%d %H:%M", time.localtime(sweep.saved)), "stages": len(sweep.stages)}
        row |= {str(state): counts.get(state, 0) for state in stages.ORDER if counts.get(state)}
        rows.append(row | {"command": sinks.visible(sweep.command)})
    columns = ["started", "stages", *(str(state) for state in stages.ORDER), "command"]
    frame = pd.DataFrame(rows)
    frame = frame[[name for name in columns if name in frame]]
    numbers = [str(name) for name in frame if name not in ("started", "command")]
    frame[numbers] = frame[numbers].fillna(0).astype(int)
    address.table("sweep", frame, [sweep.id for sweep in sweeps], hide_index=True, height=min(38 + 35 * len(rows), 220))


def details(sweep: SavedSweep) -> None:
    """All stages of one sweep, and what failed of it."""
    found = stages.states(sweep.stages)
    _bar(found)
    failures(sweep, [status for status in found if status.state in (State.FAILED, State.LOST, State.INTERRUPTED)])
    there = [str(state) for state in stages.ORDER if any(status.state is state for status in found)]
    shown = address.choices("States", "state", there, draw=st.pills, selection_mode="multi")
    place = {state: number for number, state in enumerate(stages.ORDER)}
    rows = sorted(
        (s for s in found if not shown or str(s.state) in shown), key=lambda status: place.get(status.state, 99)
    )
    if not rows:
        return
    frame = pd.DataFrame([_row(status) for status in rows])
    address.table(
        "run",
        frame,
        [status.key for status in rows],
        hide_index=True,
        height=min(38 + 35 * len(rows), 500),
        placeholder="",
        column_config={"progress": PROGRESS, "what": st.column_config.Column(width="medium")},
    )
    if chosen := address.get("run"):
        name = next((status.name for status in found if status.key == chosen), chosen[:20])
        address.link("run", f"Open {sinks.markdown(name)}", ":material/open_in_full:", run=chosen)


def _row(status: StageStatus) -> dict[str, str | int | float | None]:
    progress = status.progress or {}
    share = progress["iteration"] / max(1, progress["iterations"]) if progress else None
    left = f"{_minutes(progress['eta_s'])} left, loss {progress['loss']:.4g}" if progress else ""
    return {
        "state": str(status.state),
        "stage": sinks.visible(status.name),
        "progress": round(100 * share) if share is not None else 100 if status.state is State.DONE else None,
        "what": sinks.visible(status.reason or left),
        "attempts": status.attempts or None,
        "key": status.key[:10],
    }


def _minutes(seconds: float) -> str:
    return (
        f"{seconds:.0f} s"
        if seconds < 120
        else f"{seconds / 60:.0f} min"
        if seconds < 7200
        else f"{seconds / 3600:.1f} h"
    )


def _bar(found: Sequence[StageStatus]) -> None:
    """How far the sweep is, counting what running stages have done."""
    done = sum(status.state is State.DONE for status in found)
    parts = [s.progress["iteration"] / max(1, s.progress["iterations"]) for s in found if s.progress]
    left = [float(s.progress["eta_s"]) for s in found if s.progress]
    counts = count_states(found)
    said = ", ".join(f"{counts[state]} {state}" for state in stages.ORDER if counts.get(state))
    eta = f"; the longest that runs now has {_minutes(max(left))} left" if left else ""
    st.progress(min(1.0, (done + sum(parts)) / max(1, len(found))), f"{said}{eta}")


def failures(sweep: SavedSweep, failed: Sequence[StageStatus]) -> None:
    """What failed, by cause, with the last line of a log and the command that tries again."""
    for cause in stages.causes(failed, stages.retry_commands(sweep, failed)):
        count = f"{len(cause.stages)} stages" if len(cause.stages) > 1 else sinks.markdown(cause.stages[0].name)
        said = f"**{count}**: {sinks.markdown(cause.reason or 'no reason was given')}"
        if any(status.state is State.FAILED for status in cause.stages):
            st.error(said, icon=":material/error:")
        else:
            st.warning(said, icon=":material/pause_circle:")
        if len(cause.stages) > 1:
            st.caption(" · ".join(sinks.markdown(status.name) for status in cause.stages[:12]))
        if cause.line and cause.line not in cause.reason and cause.reason not in cause.line:
            st.code(sinks.visible(cause.line), language=None, wrap_lines=True)
        if cause.retry == sweep.command:
            st.caption("To try again: the sweep's own command, above. What is finished is not trained again.")
        elif cause.retry:
            st.caption("To try again:")
            st.code(cause.retry, language="bash", wrap_lines=True)


def look(sweeps: Sequence[SavedSweep], live: bool) -> None:
    """The page below its title; drawn again and again while something runs, or will by itself."""
    overview(sweeps)
    asked = address.get("sweep")
    chosen = next((sweep for sweep in sweeps if sweep.id == asked), sweeps[0])
    address.unknown("Sweep", [asked] if asked not in ("", chosen.id) else [])
    st.subheader(f"Sweep {chosen.id}")
    st.code(chosen.command, language="bash", wrap_lines=True)
    details(chosen)
    if chosen.skips:
        with st.expander(f"{len(chosen.skips)} cells were left out"):
            st.dataframe(pd.DataFrame(chosen.skips, columns=["cell", "why"]).map(sinks.visible), hide_index=True)
    if live and not moving(sweeps):
        st.rerun()


def moving(sweeps: Sequence[SavedSweep]) -> bool:
    """Something can still happen by itself: between two stages nothing runs, but something waits."""
    listed = {stage.key: stage for sweep in sweeps for stage in sweep.stages}
    return any(status.state in (State.RUNNING, *stages.TO_COME) for status in stages.states(listed.values()))


def watch(known: stages.Planned) -> None:
    """Draw the page anew when a sweep is started, or started again."""
    if stages.planned() != known:
        st.rerun()


st.title("Sweeps")
planned, found = stages.planned(), stages.sweeps()
st.fragment(partial(watch, planned), run_every=EVERY_S)()
if not found:
    st.info(f"**No sweep was started in `{source.workspace()}` yet.**", icon=":material/hourglass_empty:")
    st.code("harness sweep --methods none,kd,ka --strides 8,16,32", language="bash")
else:
    live = moving(found)
    st.caption(
        ("Looks again every few seconds. " if live else "Nothing runs now. ")
        + "States are those of the files in the workspace; `harness status` asks a cluster's scheduler too."
    )
    st.fragment(partial(look, found, live), run_every=EVERY_S if live else None)()
