"""Your own training loop in torch, with a gradient code and stragglers: each worker sends half.

    mpirun -n 8 python examples/coded_loop_torch.py

The server has parameters and optimizer and never imports torch; the workers keep net, loss and
loop. Torch is not a dependency: pip install torch==2.13.0 where pip finds a CPU build.
"""

import numpy as np

import gcmpi
from gcmpi.learning import load

loop = gcmpi.CodedLoop(
    rows=8000,
    initial=lambda: flat(p.detach() for p in net.parameters()),  # worker 0 is asked
    code=gcmpi.Ensemble("projective-plane:order=2", m=2, encoding="harmonic"),
    optimizer="momentum:rate=0.1",
    stragglers="bernoulli:q=0.1",
    iterations=40,
)
if loop.server:
    print(loop.serve())
else:
    import torch
    from torch import nn

    digits = load("mnist-10k", np.random.default_rng(0))
    X, X_test = (torch.from_numpy(x / np.float32(255)) for x in (digits.X, digits.X_test))
    y, y_test = torch.from_numpy(digits.y), torch.from_numpy(digits.y_test)
    net = nn.Sequential(nn.Linear(784, 64), nn.ReLU(), nn.Linear(64, 10))
    loss = nn.CrossEntropyLoss(reduction="sum")

    def flat(tensors):
        """Return the numbers of tensors, one tensor after the other."""
        return nn.utils.parameters_to_vector(tensors).numpy()


for step in loop:
    nn.utils.vector_to_parameters(torch.from_numpy(step.theta), net.parameters())
    for j in step.subsets:
        rows = step.rng(j).choice(loop.rows[j], 32, replace=False)  # the same on every holder
        net.zero_grad()
        loss(net(X[rows]), y[rows]).backward()
        step.add(j, flat(p.grad for p in net.parameters()), step.scale(j, len(rows)))
    if step.audit:
        with torch.no_grad():
            right = (net(X_test).argmax(1) == y_test).float().mean()
            step.report(loss=loss(net(X[step.rows]), y[step.rows]), accuracy=right)
