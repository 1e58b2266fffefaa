"""What each term of a method contributes, from the runs that there are."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from dashboards import address, answers, asking, source, stages
from results import formats, sinks
from results.ablation import PLACE, Ablation, bracketed
from results.columns import Column, metric_column
from results.figures.ablation import term_gains

TITLE = "Ablation"
ICON = ":material/playlist_remove:"
ORDER = 1.8
FIRST = "chart"


def setting(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of one setting and teacher; those with most rows first."""
    table = table.assign(stride="@" + table["stride"].astype(str))
    texts = table[list(PLACE)].astype(str).agg(" · ".join, axis=1)
    varying = [name for name in PLACE if table[name].nunique() > 1] or ["dataset"]
    shown = dict(zip(texts, table[varying].astype(str).agg(" · ".join, axis=1), strict=True))
    order = list(texts.value_counts(sort=True).index)
    chosen = address.choice("Setting", "setting", order, format_func=lambda text: sinks.visible(shown[text]))
    return table[texts == chosen].reset_index(drop=True)


def shown(rows: pd.DataFrame, ablation: Ablation, metric: Column) -> pd.DataFrame:
    """A row of the ablation, with a mark for every term that is on."""
    marks = {
        sinks.visible(term): ["●" if term in ablation.on[name] else "○" for name in rows["expression"]]
        for term in ablation.terms
    }

    def said(name: str, sign: bool = False) -> list[str]:
        ends = zip(rows[name], rows[f"{name}_low"], rows[f"{name}_high"], strict=True)
        return [bracketed(*three, sign, metric.factor, metric.digits or 0) for three in ends]

    return pd.DataFrame(
        {
            "row": rows["row"].map(sinks.visible),
            **marks,
            "seeds": rows["seeds"],
            metric.title: said(metric.name),
            "gain over none": said("gain", True),
            "verdict": rows["gain_verdict"],
            "lost from full": said("cost", True),
            "method": rows["expression"].map(sinks.visible),
        }
    )


st.title("Ablation")
if source.ready():
    known = {one.method: one for one in answers.ablations()}
    if not known:
        st.info("No method was trained without one of its terms yet. To do that:")
        st.code("harness ablate ka --strides 16 --seeds 0,1,2", language="bash")
        st.stop()
    metric = metric_column(source.metrics()[asking.metric(source.rows_in_brief())])
    asking.reads()
    left, right = st.columns([1, 2])
    with left:
        chosen = known[address.choice("Method", "method", list(known), format_func=sinks.visible)]
    everything = answers.contributions(chosen.rows, metric.name, tuple(sorted(stages.hidden())))
    if not len(everything):
        st.info("None of its runs was evaluated.")
        st.stop()
    with right:
        rows = setting(everything)
    looks = asking.looks()
    chart = term_gains(rows, looks, looks.colours[chosen.method], metric)
    if chart is None:
        st.info("There is no `none` of this setting to compare with.")
    else:
        st.altair_chart(chart, width="stretch", theme=None)
    st.dataframe(shown(rows, chosen, metric), hide_index=True)
    bases = "; ".join(sorted({text for text in [*rows["gain_basis"], *rows["cost_basis"]] if text}))
    unit = f" in points of {sinks.markdown(metric.heading)}" if metric.unit == "%" else ""
    st.caption(
        f"●: the term is on. Differences{unit} with 95 % intervals ({bases or 'none'}). "
        "*Lost from full*: the full method minus this row. One seed gives no verdict on a method."
    )
    st.download_button(
        "Download as CSV", formats.csv_text(rows), "ablation.csv", "text/csv", icon=":material/download:"
    )
