"""Figures of results as Altair charts: pure functions, the same for the board's pages and for `harness plot`."""
