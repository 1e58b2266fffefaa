"""One run: how it was made and how it went, while it trains and afterwards."""

from __future__ import annotations

import streamlit as st

from dashboards import address, run_view, source, stages
from harness.workspace.status import State
from results import sinks

TITLE = "Run"
ICON = ":material/monitoring:"
ORDER = 4
FIRST = "chart"

st.title("Run")
with st.sidebar:
    asked = address.text("Run", "run", placeholder="beginning of a key, or ka @16 seed=0")


def found(words: str) -> str | None:
    """The key that is meant; None, with a sentence on the page, where there is no such run."""
    if stages.folder(words) is not None:
        return words
    try:
        return str(source.run(*words.split()).record.key)
    except ValueError as error:
        st.info(sinks.markdown(error))
        return None


def choice() -> None:
    """What to look at, where nothing is asked for: what is being trained, and what was finished last."""
    listed = {stage.key: stage for sweep in stages.sweeps() for stage in sweep.stages}
    live = [status for status in stages.states(listed.values()) if status.state is State.RUNNING]
    st.info("Choose a run on the page Runs, or type the beginning of its key at the side.")
    for status in live[:20]:
        address.step(f"training now: {sinks.markdown(status.name)}", ":material/play_circle:", run=status.key)
    try:
        latest = source.runs_page([], "", 1).head(10)
    except ValueError:  # there is no database yet
        return
    for key, name in zip(latest["key"], latest["name"], strict=True):
        address.step(sinks.markdown(name), ":material/check_circle:", run=key)


if asked:
    key = found(asked)
    if key:
        run_view.draw(key)
else:
    choice()
