"""What the labels teach, one file a loss; `base.py` is the contract."""
