"""Data of your own: a function that returns rows and targets, here of a regression.

    mpirun -n 8 python examples/own_dataset.py

Float targets make it a regression: the accuracy that a run prints is then R2.
"""

import gcmpi


def houses(rng, rows=2000):
    """Return X (rows, 6) and prices y (rows,); one fifth of the rows is kept for testing."""
    X = rng.normal(size=(rows, 6))
    return X, X @ [3.0, -2.0, 1.0, 0.5, 0.0, 0.0] + 0.1 * rng.normal(size=rows)


experiment = gcmpi.Experiment(
    assignment="projective-plane:order=2",
    encoding="harmonic",
    m=2,
    problem="least-squares",
    dataset=houses,
    optimizer="sgd:rate=0.3",
    iterations=40,
    stragglers="bernoulli:q=0.1",
)
run = gcmpi.launch(experiment)
if run:
    print(run)
    print("weights", run.theta.round(2))
