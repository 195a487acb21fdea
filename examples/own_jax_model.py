"""A JAX model of your own: parameters as a tree, a loss, and nothing else.

    mpirun -n 8 python examples/own_jax_model.py

JAX is not a dependency: pip install jax.
"""

import jax
import jax.numpy as jnp
import numpy as np

import gcmpi


def initial(rng):
    """Return the parameters of a network with one hidden layer, drawn from a numpy generator."""
    W = rng.normal(0, np.sqrt(2 / 784), (784, 32))
    return {"W": W, "b": np.zeros(32), "V": rng.normal(0, 0.2, (32, 10)), "c": np.zeros(10)}


def loss(p, X, y):
    """Return the SUM of the cross-entropies of the rows."""
    scores = jnp.maximum(X @ p["W"] + p["b"], 0) @ p["V"] + p["c"]
    return -jnp.sum(jax.nn.log_softmax(scores)[jnp.arange(len(y)), y])


net = gcmpi.learning.jax.problem(initial, loss)
experiment = gcmpi.Experiment(
    assignment="projective-plane:order=2",
    encoding="random-diagonal",
    m=2,
    problem=net,
    dataset="mnist-10k",
    iterations=40,
    stragglers="bernoulli:q=0.1",
)
run = gcmpi.launch(experiment)
if run:
    print(run)
    print("loss", run["loss"][np.isfinite(run["loss"])].round(3))
