"""Randomness that depends on what is drawn for, never on who draws or in which order.

One seed per run; each sample's generator is derived from the seed and the sample's own name (epoch, case, slice,
repeat), so results do not depend on the number of workers or processes, and a resumed run draws what it would have.
"""

from __future__ import annotations

import hashlib
import json

import numpy as np


def derived_seed(seed: int, *parts: str | int) -> int:
    """A 64-bit seed for one purpose: SHA-256 of the run's seed and the parts."""
    text = json.dumps([seed, *parts])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")


def derived_generator(seed: int, *parts: str | int) -> np.random.Generator:
    """A generator for one purpose, independent of all others."""
    return np.random.default_rng(derived_seed(seed, *parts))
