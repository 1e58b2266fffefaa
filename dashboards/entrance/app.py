"""The board's entrance: `harness dashboard` runs this file with Streamlit. HARNESS_DB names the database.

It has a folder of its own: beside a folder `pages/`, Streamlit would run a page that a link leads to without it.
"""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from dashboards.discovery import pages

# Drawn here: Streamlit would ask another host for one of its own names.
ICON = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 24 24" fill="#2563eb">'
    '<path d="M2 11h5v11H2zM9.5 2h5v20h-5zM17 14h5v8h-5z"/></svg>'
)

st.set_page_config(page_title="Segmentation distillation", page_icon=ICON, layout="wide")
st.markdown(
    "<style>.block-container{padding-top:2.6rem;padding-bottom:3rem;padding-left:2.5rem;padding-right:2.5rem;max-width:1600px}"
    "[data-testid='stMetricValue']{font-size:1.6rem}"
    # On a narrow window charts, switches and numbers go below one another before they or their names are cut.
    "[data-testid='stColumn']:has([data-testid='stVegaLiteChart'],[data-testid='stCheckbox'],[data-testid='stMetric'])"
    "{min-width:min(100%,220px)}"
    # The pages' own button gives every column; the tables' own gives minus infinity for what is empty.
    "[data-testid='stElementToolbar'] button[aria-label='Download as CSV']{display:none}</style>",
    unsafe_allow_html=True,
)
st.navigation(
    [
        st.Page(page.file, title=page.title, icon=page.icon, default=place == 0)
        for place, page in enumerate(pages(Path(__file__).parents[1] / "pages"))
    ]
).run()
