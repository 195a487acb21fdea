"""A code of your own: how much it loses, the laws it has to keep, and a training run with it.

    mpirun -n 8 python examples/own_code.py

Workers hold three subsets of seven. The code multiplies every column of the stacked code by a
random number, drawn anew in every iteration, and promises so in one line.
"""

import gcmpi


@gcmpi.encoding(redrawn=True)
def jittered(A, m, rng, epsilon=0.1):
    """Return B (m k, n): row u*k + j is part u of subset j."""
    return gcmpi.encodings.random_diagonal(A, m, rng) * rng.normal(1, epsilon, A.shape[1])


code = gcmpi.Ensemble(gcmpi.assignments.projective_plane(2), m=2, encoding=jittered)
experiment = gcmpi.Experiment(
    code=code,
    problem="softmax",
    iterations=60,
    stragglers="bernoulli:q=0.1",
    wait="deadline:auto",
)
run = gcmpi.launch(experiment)  # rank 0 gets the run, the workers get None
if run:
    gcmpi.testing.check_encoding(jittered, code.A, m=2)
    print(code)
    print(gcmpi.errors.curve(code, stragglers=range(4), draws=20, sets=50))
    print(run)
    print("gradient errors", run["gradient_error"][::20].round(3))
    print("saved", run.save("runs/own_code.h5", overwrite=True))
