"""Randomness as a function of (seed, purpose, iteration): a resumed run draws the same numbers as an uninterrupted one.

Every generator is re-seeded for each iteration and purpose, so the student's random numbers do not depend on those of a
method: `none` and any method see the same data, initial weights and dropout masks.
"""

from __future__ import annotations

import hashlib
import random

import numpy as np
import torch


def derive_seed(seed: int, purpose: str, iteration: int = 0) -> int:
    """A 63-bit seed derived from a run's seed, a purpose and an iteration."""
    digest = hashlib.sha256(f"{seed}/{purpose}/{iteration}".encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1


def seed_all(seed: int, purpose: str, iteration: int = 0) -> None:
    """Seed Python's, NumPy's and torch's generators, on every device.

    Where there is no accelerator, only the CPU's generator is seeded: `torch.manual_seed` would format the stack for
    each kind of device that is absent, at up to a millisecond.
    """
    value = derive_seed(seed, purpose, iteration)
    random.seed(value)
    np.random.seed(value & 0xFFFFFFFF)
    if torch.accelerator.is_available():
        torch.manual_seed(value)
    else:
        torch.default_generator.manual_seed(value)
