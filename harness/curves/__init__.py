"""Curves mirrored to other people's boards on demand, read from the events; never instead of them."""
