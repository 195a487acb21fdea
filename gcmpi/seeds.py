"""Independent random streams from one seed, so that changing the code keeps the straggler trace.

Every random choice of a run is drawn from ``generator(seed, STREAM, ...)``. The streams never
share state: two runs with the same seed and different codes see the same data split, the same
initial parameters and the same stragglers.
"""

from __future__ import annotations

import numpy as np

DATA, CODE, STRAGGLERS, INITIAL, MONTE_CARLO, COMPRESSION, MODEL, BATCH = range(8)


def generator(seed: int, stream: int, *key: int) -> np.random.Generator:
    """Return the generator of one stream, further split by `key` (an iteration, a repetition)."""
    sequence = np.random.SeedSequence(seed, spawn_key=(stream, *key))
    return np.random.Generator(np.random.PCG64(sequence))
