"""Randomness as a function of (seed, purpose, iteration): a resumed run draws what the uninterrupted one would.

Every generator is seeded anew for each iteration and purpose, so the student's draws do not depend on whether, or how
much, a method draws: `none` and any method see the same data, the same initial weights and the same dropout masks.
"""

from __future__ import annotations

import hashlib
import random

import numpy as np
import torch


def derive_seed(seed: int, purpose: str, iteration: int = 0) -> int:
    """A 63-bit seed out of a run's seed, a purpose and an iteration."""
    digest = hashlib.sha256(f"{seed}/{purpose}/{iteration}".encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1


def seed_all(seed: int, purpose: str, iteration: int = 0) -> None:
    """Seed Python's, NumPy's and torch's generators, on every device."""
    value = derive_seed(seed, purpose, iteration)
    random.seed(value)
    np.random.seed(value & 0xFFFFFFFF)
    torch.manual_seed(value)
