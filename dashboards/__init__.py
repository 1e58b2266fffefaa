"""The board: Streamlit pages over the database of records. Read-only, no torch."""
