"""Data of one's own, described by a `dataset.yaml`: layouts, class tables, splits, and a first guess at all of them."""
