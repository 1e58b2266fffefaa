"""What the pages Compare and Runs show of two to six runs or rows: scores, differences, and how they were made."""

from __future__ import annotations

import streamlit as st

from dashboards import answers, comparison, source
from dashboards.source import Comparison
from results import sinks
from results.columns import metric_column


def over_settings(found: Comparison, metric: str) -> None:
    """Their methods over every setting that both have, where there are several."""
    names = comparison.methods(found.sides)
    if len(names) < 2:
        return
    try:
        gaps = answers.over_settings(names, metric)
    except ValueError:  # nothing but the rows above
        return
    if max(gap.settings for gap in gaps) < 2:
        return
    st.subheader("Their methods over all settings")
    st.dataframe(comparison.over_settings(gaps, metric_column(source.metrics()[metric])), hide_index=True)
    st.caption(
        "Every data set, student, stride and recipe in which both have two seeds or more. A is better or worse where "
        "the 95 % interval of the share leaves out one half. IQM: the mean of the middle half of all runs of A, "
        "counted from the mean of B in the same setting, so that no single setting decides (Agarwal et al., "
        "NeurIPS 2021)."
    )


def made(found: Comparison) -> None:
    """Only what is not the same on all sides."""
    st.subheader("What differs")
    table = comparison.differing(found.differing, [side.label for side in found.sides])
    if len(table):
        st.dataframe(table, hide_index=True, height=min(38 + 35 * len(table), 420))
    else:
        st.caption("Nothing in specification, recipe, environment, plan or training.")


def accuracy(found: Comparison, metric: str) -> None:
    """Scores, and the difference of every pair."""
    column = metric_column(source.metrics()[metric])
    st.dataframe(comparison.scores(found.sides, column), hide_index=True)
    if said := comparison.costs(found.sides):
        st.markdown(said)
    st.subheader(f"Differences of {sinks.markdown(column.heading)}")
    st.dataframe(comparison.gaps(found.gaps, column), hide_index=True)
    if said := comparison.more_seeds(found.gaps):
        st.markdown(said)
    several = " “A is” is said of the pair alone; p, Holm counts all pairs shown." if len(found.gaps) > 1 else ""
    st.caption(f"Paired by seed where both have it, on the same images.{several}")
