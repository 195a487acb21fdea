"""A torch network of your own on the shipped digits: each worker sends half a gradient.

    mpirun -n 8 python examples/own_torch_model.py

The network is a recipe: every rank builds its own, on its GPU if it has one. Torch is not a
dependency: pip install torch==2.13.0 where pip finds a CPU build.
"""

from torch import nn

import gcmpi


def build():
    """Return a new network for rows of 784 pixels."""
    return nn.Sequential(
        nn.Unflatten(1, (1, 28, 28)),
        nn.Conv2d(1, 8, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(8, 16, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(16 * 7 * 7, 10),
    )


net = gcmpi.learning.torch.problem(build, nn.CrossEntropyLoss(reduction="sum"))
experiment = gcmpi.Experiment(
    assignment="projective-plane:order=2",
    encoding="harmonic",
    m=2,
    problem=net,
    dataset="mnist-10k",
    batch=0.1,
    optimizer="adam:rate=0.005",
    iterations=60,
    audit_every=20,
    stragglers="bernoulli:q=0.1",
)
run = gcmpi.launch(experiment)
if run:
    trained = net.module(run.theta)  # the torch network with the trained parameters
    print(f"{run}\n{sum(p.numel() for p in trained.parameters())} parameters")
