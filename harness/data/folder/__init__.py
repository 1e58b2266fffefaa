"""Your own data, described by a `dataset.yaml`: layouts, class tables, splits, and guessing them."""
