"""Models of your own for tests: a network of gcmpi behind the seams that users have."""

from __future__ import annotations

import dataclasses

import numpy as np

from gcmpi.experiments.run import Run
from gcmpi.learning.gradients import check
from gcmpi.learning.problem import complete


class Four:
    """The four members that are needed, of a network; counts its gradients."""

    def __init__(self, network):
        self.network, self.d = network, network.d
        self.initial = network.initial
        self.rows_seen = []

    def targets(self, y):
        return self.network.targets(y)

    def loss(self, theta, X, Y):
        return self.network.loss(theta, X, Y)

    def gradient(self, theta, X, Y, scale):
        self.rows_seen.append(len(X))
        return self.network.gradient(theta, X, Y, scale)


class Dropping(Four):
    """Leaves out entries of the gradient at random."""

    def gradient(self, theta, X, Y, scale, rng):
        return super().gradient(theta, X, Y, scale) * (rng.random(self.d) < 0.5)


class Guarded:
    """An array that can be sliced, multiplied by a float and added, and nothing else."""

    def __init__(self, values):
        self._values = values

    def __getitem__(self, key):
        assert type(key) is slice
        return Guarded(self._values[key])

    def __mul__(self, factor):
        assert type(factor) is float
        return Guarded(self._values * factor)

    def __add__(self, other):
        return Guarded(self._values + other._values)

    def __array__(self, *args, **kwargs):
        raise TypeError("this array stays on its device")

    def __len__(self):
        raise TypeError("this array stays on its device")

    __iter__ = __len__


class OnDevice:
    """The same network behind the seam of a device; counts what is called and what leaves."""

    def __init__(self, network):
        self.network, self.d = network, network.d
        self.initial, self.loss, self.targets = network.initial, network.loss, network.targets
        self.puts, self.loads, self.gradients, self.left = [], 0, 0, []
        self._theta = None

    def rows(self, X, y):
        self.puts.append(len(X))
        return X, self.network.targets(y)

    def load(self, theta):
        self.loads += 1
        self._theta = theta

    def gradient(self, rows):
        self.gradients += 1
        return Guarded(self.network.gradient(self._theta, *rows))

    def host(self, array):
        self.left.append(len(array._values))
        return array._values


class Taking(OnDevice):
    """Takes batches from rows that are on the device."""

    def take(self, rows, indices):
        return rows[0][indices], rows[1][indices]


class Adding(OnDevice):
    """Adds the parts of gradients to messages itself."""

    def add(self, total, g, weights):
        length = -(-self.d // len(weights))
        padded = np.zeros(length * len(weights))
        padded[: self.d] = g._values
        added = weights @ padded.reshape(-1, length)
        return Guarded(added if total is None else total._values + added)


def with_own(run: Run, kind, *arguments) -> Run:
    """Return a run whose network is behind another seam."""
    network = run.shared.problem
    problem = complete(kind(network, *arguments), network.dtype)
    return dataclasses.replace(run, shared=dataclasses.replace(run.shared, problem=problem))


def with_net(run, net):
    """Return a run that trains another network."""
    own = complete(net, run.experiment.dtype)
    check(own, run.dataset.X, run.dataset.y)
    shared = dataclasses.replace(run.shared, problem=own)
    for m, scheme in shared.schemes.items():
        wire = dataclasses.replace(scheme.wire, length=-(-own.d // m))
        shared.schemes[m] = dataclasses.replace(scheme, wire=wire)
    return dataclasses.replace(run, shared=shared)
