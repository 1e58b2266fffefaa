"""The board's entrance: `harness dashboard` runs this file with Streamlit. HARNESS_DB names the database."""

from __future__ import annotations

import streamlit as st

st.set_page_config(page_title="Segmentation distillation", page_icon=":material/leaderboard:", layout="wide")
st.markdown(
    "<style>.block-container{padding-top:2.6rem;padding-bottom:3rem;padding-left:2.5rem;padding-right:2.5rem;max-width:1600px}"
    "[data-testid='stMetricValue']{font-size:1.6rem}</style>",
    unsafe_allow_html=True,
)
st.navigation(
    [
        st.Page("pages/leaderboard.py", title="Leaderboard", icon=":material/leaderboard:", default=True),
        st.Page("pages/reported.py", title="Reported", icon=":material/menu_book:"),
        st.Page("pages/runs.py", title="Runs", icon=":material/list_alt:"),
    ]
).run()
