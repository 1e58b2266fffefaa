"""The board: Streamlit pages over the database. Thin pages, pure functions for tables and figures beside them."""
