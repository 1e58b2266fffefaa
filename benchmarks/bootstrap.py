"""How long the paired bootstrap over seeds and images takes: `python benchmarks/bootstrap.py`.

One row of the board: 10 000 resamples of 500 images x 19 classes x 5 seeds, then its interval, then a difference.
"""

from __future__ import annotations

import time

import numpy as np

from results.compare import difference, estimate, resample


def main() -> None:
    """Print the seconds of each step."""
    rng = np.random.default_rng(0)
    rows = []
    for _ in range(2):
        hits = rng.integers(0, 5000, (5, 500, 19))
        states = {s: np.stack([h, h + rng.integers(0, 999, h.shape), h + 99], axis=1) for s, h in enumerate(hits)}
        begun = time.perf_counter()
        rows.append(resample(states))
        print(f"resample          {time.perf_counter() - begun:.2f} s")
    for name, call in (("estimate", lambda: estimate(rows[0])), ("difference", lambda: difference(*rows))):
        begun = time.perf_counter()
        call()
        print(f"{name:10}        {time.perf_counter() - begun:.3f} s")


if __name__ == "__main__":
    main()
