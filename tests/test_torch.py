"""torch networks as problems: laws, dropout, what is refused, and a run over MPI."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from gcmpi import records as recording
from gcmpi.learning.gradients import check
from gcmpi.learning.problem import complete
from gcmpi.learning.torch import problem
from gcmpi.training import Worker
from tests.every import every
from tests.lazily import Lazily, needs
from tests.own_models import with_net
from tests.test_training import make, train

torch, nn = Lazily("torch"), Lazily("torch.nn")
pytestmark = needs("torch", "torch==2.13.0")


def classes(outputs, y):
    return nn.CrossEntropyLoss(reduction="sum")(outputs, y)


def mlp():
    return nn.Sequential(nn.Flatten(), nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 2))


def cnn():
    """For rows of shape (1, 8, 8)."""
    return nn.Sequential(
        nn.Conv2d(1, 3, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(27, 4)
    )


def normed():
    return nn.Sequential(nn.Linear(6, 5), nn.LayerNorm(5), nn.ReLU(), nn.Linear(5, 2))


def dropping():
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 2))


def functional():
    """Drop out with a function, which no list of the network's modules shows."""

    class Functional(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.last = nn.Linear(6, 8), nn.Linear(8, 2)

        def forward(self, X):
            return self.last(nn.functional.dropout(self.first(X), 0.5, self.training))

    return Functional()


def images(count=12, classes=4):
    rng = np.random.default_rng(0)
    return rng.random((count, 1, 8, 8)), np.arange(count) % classes


@pytest.mark.parametrize(("build", "X"), [
    (mlp, np.random.default_rng(0).normal(size=(12, 6))), (cnn, images()[0]),
])  # fmt: skip
@pytest.mark.parametrize("loss", [classes, lambda out, y: ((out[:, 0] - y) ** 2).sum()])
def test_gradient_is_the_derivative_of_the_loss(build, X, loss):
    net = problem(build, loss).astype("float64")
    rng = np.random.default_rng(1)
    y = np.arange(12) % 2
    theta = net.initial(rng)
    assert theta.dtype == np.float64
    assert theta.shape == (net.d,)
    Y = net.targets(y)
    net.load(theta)
    gradient = net.host(net.gradient(net.rows(X, y), rng))
    direction = rng.normal(size=net.d)
    step = 1e-6
    ahead, behind = (net.loss(theta + s * step * direction, X, Y) for s in (1, -1))
    assert gradient @ direction == pytest.approx((ahead - behind) / (2 * step), rel=1e-5, abs=1e-5)


def test_all_randomness_is_the_generators():
    """Initial parameters follow from rng, and torch's own generator is left as it was."""
    net = problem(mlp, classes)
    torch.manual_seed(1)
    before = torch.get_rng_state()
    a, b, c = (net.initial(np.random.default_rng(s)) for s in (0, 0, 1))
    _ = net.d
    assert torch.equal(torch.get_rng_state(), before)
    np.testing.assert_array_equal(a, b)
    assert (a != c).any()
    assert a.dtype == np.float32


def test_it_travels_as_a_recipe():
    net = problem(mlp, nn.CrossEntropyLoss(reduction="sum"))
    theta = net.initial(np.random.default_rng(0))
    X, y = np.ones((3, 6), np.float32), np.array([0, 1, 0])
    expected = net.loss(theta, X, net.targets(y))
    sent = pickle.dumps(net)
    assert len(sent) < 1000
    twin = pickle.loads(sent)
    assert twin.loss(theta, X, twin.targets(y)) == expected
    assert "mlp" in repr(net)


def test_the_trained_network_comes_back():
    net = problem(cnn, classes)
    theta = net.initial(np.random.default_rng(0))
    X, y = images()
    module = net.module(theta)
    assert isinstance(module, nn.Module)
    assert not module.training
    with torch.no_grad():
        outputs = module(torch.tensor(X, dtype=torch.float32))
    accuracy = float((outputs.argmax(1).numpy() == y).mean())
    assert net.accuracy(theta, X.astype(np.float32), y) == accuracy
    theta[:] = 0
    assert float(outputs.abs().max()) > 0
    assert any(bool((p != 0).any()) for p in module.parameters())


@pytest.mark.parametrize(("settings", "gradients"), [
    ({"encoding": "stacked", "m": 1}, 1), ({"encoding": "random-diagonal", "m": 2}, 1),
    ({"encoding": "exact-trained", "m": 2}, 3),
    ({"assignment": "cyclic:n=6,delta=3", "encoding": "partial-stragglers", "m": 2}, 3),
])  # fmt: skip
@pytest.mark.parametrize("build", [mlp, normed, dropping, functional])
@pytest.mark.parametrize("batch", ["1", "rows:8"])
def test_training_passes_audits(settings, gradients, build, batch):
    """Dropout too: holders of a subset and the audit draw the same."""
    run = make(**settings, iterations=4, stragglers="bernoulli:q=0.2", batch=batch)
    run = with_net(run, problem(build, classes))
    state, rows = train(run)
    assert [row.check for row in rows] == [1] * 4
    assert rows[-1].loss < rows[0].loss * 1.2
    assert 0 <= rows[-1].accuracy <= 1
    assert (state.theta != run.theta).any()


def test_exact_code_follows_torch_itself():
    """Coded training equals torch's own loop of gradient descent, to 1e-10 in float64."""
    run = make(encoding="exact-trained", m=2, optimizer="sgd:rate=0.1", iterations=10)
    net = problem(mlp, classes)
    run = with_net(run, net)
    state, _ = train(run)
    module = net.astype("float64").module(run.theta).train()
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
    X = torch.from_numpy(np.array(run.dataset.X))
    y = torch.from_numpy(np.array(run.dataset.y, dtype=np.int64))
    for _ in range(10):
        optimizer.zero_grad()
        nn.CrossEntropyLoss()(module(X), y).backward()
        optimizer.step()
    expected = torch.cat([p.detach().reshape(-1) for p in module.parameters()]).numpy()
    np.testing.assert_allclose(state.theta, expected, rtol=1e-10, atol=1e-12)


def test_dropout_is_found_and_costs_a_gradient_a_subset():
    for build, draws in ((mlp, False), (dropping, True), (functional, True)):
        seen = []

        def counted(outputs, y, seen=seen):
            seen.append(len(y))
            return classes(outputs, y)

        run = with_net(make(encoding="stacked", m=1), problem(build, counted))
        worker = Worker(0, run.shared.problem, next(run.shards()), run.shared.schemes)
        assert run.shared.problem.own.draws is draws
        seen.clear()
        worker.answer(0, 1, run.theta)
        assert len(seen) == (3 if draws else 1)
        before = torch.get_rng_state()
        worker.answer(1, 1, run.theta)
        assert torch.equal(torch.get_rng_state(), before)


def test_regression_on_floats():
    def line():
        return nn.Linear(3, 1)

    rng = np.random.default_rng(0)
    X = rng.normal(size=(40, 3))
    y = X @ [1.0, -2.0, 0.5] + 0.25
    net = problem(line, lambda out, y: nn.MSELoss(reduction="sum")(out[:, 0], y)).astype("float64")
    own = complete(net, "float64")
    check(own, X, y)
    theta = np.array([1.0, -2.0, 0.5, 0.25])
    assert own.targets(y).dtype == np.float64
    assert own.metric == "R2"
    assert own.accuracy(theta, X, y) == pytest.approx(1)
    assert own.loss(theta, X, own.targets(y)) == pytest.approx(0, abs=1e-12)
    assert np.isnan(own.accuracy(theta, X, np.ones((40, 2))))


def test_one_output_speaks_for_two_classes():
    def one():
        return nn.Linear(2, 1)

    net = problem(one, lambda out, y: (out[:, 0] * (1 - 2 * y)).sum())
    theta = np.array([1.0, 0.0, 0.0], np.float32)
    X = np.array([[1.0, 0.0], [-1.0, 0.0], [2.0, 5.0]], np.float32)
    assert net.accuracy(theta, X, np.array([1, 0, 0])) == pytest.approx(2 / 3)


@every("build, loss, pattern", lambda: [
    (mlp, nn.CrossEntropyLoss(), 'must be the SUM over the rows.*reduction="sum"'),
    (mlp, nn.CrossEntropyLoss(reduction="none"), r'one number, not shape \(2,\) .*="sum"'),
    (lambda: nn.Sequential(nn.Linear(6, 4), nn.BatchNorm1d(4), nn.Linear(4, 2)), classes,
     r"BatchNorm \(1\), which mixes the rows.*GroupNorm or LayerNorm"),
    (lambda: nn.Sequential(nn.Linear(6, 4), nn.BatchNorm1d(4, track_running_stats=False)), classes,
     "BatchNorm"),
    (lambda: "a network", classes, r"build\(\) must return a torch.nn.Module, not str"),
    (nn.ReLU, classes, "with parameters to train"),
])  # fmt: skip
def test_what_does_not_fit_is_refused(build, loss, pattern):
    with pytest.raises(ValueError, match=pattern):
        check(complete(problem(build, loss), "float32"), np.ones((4, 6)), np.arange(4) % 2)


def test_buffers_are_refused():
    class Buffered(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(6, 2)
            self.register_buffer("seen", torch.zeros(1))

        def forward(self, X):
            return self.layer(X)

    with pytest.raises(ValueError, match=r"buffers \(seen\), .* parameter with requires_grad=Fal"):
        _ = problem(Buffered, classes).d


def test_frozen_parameters_are_not_trained():
    def frozen():
        net = mlp()
        net[1].requires_grad_(requires_grad=False)
        return net

    net = problem(frozen, classes)
    assert net.d == 12
    first, second = (net.module(np.zeros(12, np.float32))[1].weight for _ in range(2))
    assert torch.equal(first, second), "every rank builds the same ones"


def test_nothing_of_torch_is_imported_before_it_is_used(alone):
    script = (
        "import sys, pickle, gcmpi.learning.torch as t, gcmpi.learning\n"
        "assert gcmpi.learning.torch is t\n"
        "net = t.problem(print, print)\n"
        "pickle.dumps(net)\n"
        "assert 'torch' not in sys.modules\n"
        "sys.modules['torch'] = None\n"
        "try:\n    net.d\n"
        "except ValueError as error:\n    print(error)\n"
    )
    done = alone("-c", script)
    assert done.returncode == 0, done.stderr
    assert "a torch problem needs torch, and it cannot be imported" in done.stdout
    assert "pip install torch==2.13.0" in done.stdout


def test_one_thread_a_rank():
    _ = problem(mlp, classes).d
    assert torch.get_num_threads() == 1


SCRIPT = """
import sys
from torch import nn
from gcmpi import train
from gcmpi.learning.torch import problem
from gcmpi.registry import PROBLEMS

def build():
    return nn.Sequential(
        nn.Flatten(), nn.Unflatten(1, (1, 28, 28)), nn.Conv2d(1, 4, 5, stride=3), nn.ReLU(),
        nn.Flatten(), nn.Dropout(0.2), nn.Linear(256, 10),
    )

@PROBLEMS.register("net")
def net(dtype):
    return problem(build, nn.CrossEntropyLoss(reduction="sum"))

if __name__ == "__main__":
    sys.exit(train.main())
"""


def test_a_run_over_mpi(mpi, tmp_path):
    """Each worker builds its own network; the server's audits find what the workers sent."""
    (tmp_path / "mine.py").write_text(SCRIPT)
    done = mpi(
        4, "mine.py", "--problem", "net", "--assignment", "cyclic:n=3,delta=2", "--encoding",
        "random-diagonal", "--batch", "rows:64", "--stragglers", "none", "--wait", "all",
        "--iterations", "12", "--audit-every", "4", "--output", "out.h5",
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    columns = recording.read(tmp_path / "out.h5").columns
    assert columns["check"][[0, 4, 8, 11]].tolist() == [1] * 4
    assert columns["loss"][11] < columns["loss"][0]
    assert columns["accuracy"][11] > 0.3
