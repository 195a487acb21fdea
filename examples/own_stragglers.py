"""A straggler trace of your own: measured seconds become the delays of the workers.

    mpirun -n 8 python examples/own_stragglers.py

Any table of seconds (iterations, workers) will do; here it is made up. With ``unit`` and ``odds``
left out, delays are in seconds and nothing is promised about who is late.
"""

import numpy as np

import gcmpi


def measured(n, seed, slow=0.05):
    """Return delays in seconds (iterations, n); infinite where a worker never answered."""
    rng = np.random.default_rng(seed)
    seconds = rng.exponential(0.002, (50, n))
    seconds[:, 0] += slow  # worker 0 sits on a slow machine
    seconds[rng.random((50, n)) < 0.02] = np.inf
    return seconds


gcmpi.testing.check_stragglers(measured)
experiment = gcmpi.Experiment(
    assignment="projective-plane:order=2",
    encoding="harmonic",
    m=2,
    problem="softmax",
    iterations=60,
    stragglers=measured,
    wait="fastest:6",
)
run = gcmpi.launch(experiment)
if run:
    print(run)
    print("answers in time, by worker", run["survivors"].mean(axis=0).round(2))
