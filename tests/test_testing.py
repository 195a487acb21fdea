"""Every law of `gcmpi.testing` catches a part that breaks it: which law, where, by how much."""

from __future__ import annotations

import functools
import re
import sys

import numpy as np
import pytest

import gcmpi
from gcmpi import Code, assignments, encodings, testing
from gcmpi.registry import PROBLEMS
from gcmpi.testing.stragglers import plausible
from tests.conftest import ROOT


def broken(check, part, law, **options):
    """Return the message of the law that a part breaks."""
    with pytest.raises(AssertionError) as raised:
        check(part, **options)
    message = str(raised.value)
    assert f'breaks the law "{law}"' in message, message
    return message


# ---------------------------------------------------------------- encodings


def signs(A, m, rng):
    """A random diagonal, written by a user."""
    return np.vstack([A * rng.choice([-1.0, 1.0], A.shape[1]) for _ in range(m)])


def test_an_encoding_that_keeps_every_law_passes_with_its_promises():
    assert testing.check_encoding(signs) is None
    testing.check_encoding(
        gcmpi.encoding(redrawn=True, unbiased=True)(functools.partial(signs)), m=2
    )
    testing.check_encoding("random-diagonal:epsilon=0.3", "cyclic:n=5,delta=2", m=2)
    testing.check_encoding(encodings.cyclic_repetition)  # keeps its registered promises
    testing.check_encoding(lambda A, m: np.tile(A, (m, 1)), [assignments.petersen()], m=[2])


def test_shape():
    message = broken(testing.check_encoding, lambda A, m: A, "shape")
    assert "encoding <lambda>" in message
    assert "with cyclic:n=7,delta=3, m=2, seed=0" in message
    assert "(m*k, n) = (14, 7) numbers, not uint8 of shape (7, 7)" in message
    assert "row u*k + j of B is part u of subset j" in message
    assert "not <U1" in broken(testing.check_encoding, lambda A, m: np.array([["a"]]), "shape")


def test_support_and_the_other_layout():
    def outside(A, m):
        B = np.tile(A, (m, 1)).astype(float)
        B[-1, 0] = 0.5
        return B

    message = broken(testing.check_encoding, outside, "support", m=2)
    assert "B[13, 0] = 0.5, but worker 0 does not hold subset 6 (1 such entries)" in message

    def rows_of_a_subset_together(A, m):
        return np.repeat(A, m, axis=0)

    message = broken(testing.check_encoding, rows_of_a_subset_together, "support", m=2)
    assert "this B has row j*m + u: B.reshape(7, 2, 7).swapaxes(0, 1) fits" in message


def test_finite():
    def infinite(A, m):
        return np.where(np.tile(A, (m, 1)) > 0, np.inf, 0)

    assert "B[0, 0] = inf, and 21 of 49" in broken(testing.check_encoding, infinite, "finite")


def test_seed():
    stream = np.random.default_rng(0)

    def unseeded(A, m, rng):
        return np.tile(A, (m, 1)) * stream.normal(size=A.shape[1])

    message = broken(testing.check_encoding, unseeded, "seed")
    assert "differ in 21 of 49 entries; all randomness must come from rng" in message


def test_inputs_of_an_encoding():
    def greedy(A, m):
        A[A == 0] = 1
        return np.tile(A, (m, 1))

    assert "changes 28 entries of A" in broken(testing.check_encoding, greedy, "inputs")


def test_false_promises_of_an_encoding():
    def stacked(A, m):
        return np.tile(A, (m, 1))

    def check(**promises):
        return broken(
            testing.check_encoding,
            gcmpi.encoding(**promises)(functools.partial(stacked)),
            next(iter(promises)),
            assignments="projective-plane:order=2",
            m=2,
        )

    assert "another generator gives the same B" in check(redrawn=True)
    # half of what the two parts hold is lost, whoever answers
    assert "Err_S = 7 when nobody straggles, more than 1.4e-08" in check(exact=True)
    assert "without the workers [" in check(tolerant=True)
    message = check(unbiased=True)
    assert "with s = 0 stragglers part " in message
    assert "counts 0.5 in part" in message
    assert "of the decoded gradient, not 0 (mean over all 1 sets" in message


def test_weights_without_signs_and_signs_that_stay_are_biased():
    biased = gcmpi.encoding(redrawn=True, unbiased=True)(
        lambda A, m, rng: np.vstack([A * rng.normal(1, 0.1, A.shape[1]) for _ in range(m)])
    )
    message = broken(testing.check_encoding, biased, "unbiased", m=2)
    assert "mean over 600 draws; allowed are" in message
    once = gcmpi.encoding(unbiased=True)(functools.partial(signs))
    assert "mean over all" in broken(testing.check_encoding, once, "unbiased", m=2)


def test_a_declared_theorem():
    def too_good(A, m, s):
        if len(A) != 7:
            raise ValueError("only for seven subsets")
        return 0.5 * s

    own = gcmpi.encoding(theorem=too_good)
    message = broken(testing.check_encoding, own(functools.partial(signs)), "theorem", m=2)
    assert "too good says at most 0" in message
    testing.check_encoding(gcmpi.encoding(theorem="Theorem 1")(functools.partial(signs)), m=1)


def test_an_encoding_may_refuse_some_assignments_but_not_all():
    def only_pairs(A, m):
        if (A.sum(axis=0) != 2).any():
            raise ValueError("two subsets on every worker")
        return np.tile(A, (m, 1))

    testing.check_encoding(only_pairs)
    with pytest.raises(ValueError, match=r"refuses every .*two subsets.*assignments=\['cyclic"):
        testing.check_encoding(only_pairs, "projective-plane:order=2")


def test_an_error_in_the_users_code_breaks_the_first_law():
    def wrong(A, m):
        return A.no_such_thing

    with pytest.raises(AssertionError, match=r'wrong breaks the law "runs".*no_such_thing'):
        testing.check_encoding(wrong)


# ---------------------------------------------------------------- assignments


def test_an_assignment_that_keeps_every_law_passes():
    testing.check_assignment("petersen")
    testing.check_assignment(assignments.petersen())
    testing.check_assignment(lambda: [[1, 1, 0], [0, 1, 1]])  # makes no promise


def test_laws_of_assignments():
    stream = np.random.default_rng(0)
    cases = {
        "matrix": (lambda: [[2, 1], [1, 1]], "A[0, 0] = 2, and 1 of 4 entries are not 0 or 1"),
        "subsets": (lambda: [[1, 1], [0, 0]], "subset 1 is on no worker"),
        "workers": (lambda: [[1, 0], [1, 0]], "worker 1 holds nothing"),
        "seed": (lambda: np.maximum(np.eye(9), stream.random((9, 9)) < 0.5), "two calls differ"),
    }
    for law, (function, says) in cases.items():
        assert says in broken(testing.check_assignment, function, law)
    assert "of (3,)" in broken(testing.check_assignment, lambda: [1, 1, 1], "matrix")


def test_promises_of_assignments():
    path = np.array([[1, 0, 0], [1, 1, 0], [0, 1, 1], [0, 0, 1]], dtype=np.uint8)
    regular = gcmpi.assignment()(lambda: path)
    message = broken(testing.check_assignment, regular, "regular")
    assert "workers hold 2 to 2 subsets and subsets are on 1 to 2 workers" in message
    promised = gcmpi.assignment(irregular=True, vertex_transitive=True)(lambda: path)
    assert "no permutations" in broken(testing.check_assignment, promised, "transitive")


# ---------------------------------------------------------------- decoders


def solve(code, survivors):
    """Least squares, written by a user."""
    R = np.zeros((code.n, code.m))
    if survivors.any():
        R[survivors] = np.linalg.lstsq(code.B[:, survivors], code.target, rcond=None)[0]
    return R


def test_a_decoder_that_keeps_every_law_passes():
    testing.check_decoder(solve, optimal=True, exact=True)
    testing.check_decoder("first-of-group:rescale=true")
    testing.check_decoder(solve, Code(np.eye(3), np.eye(3), 1))


def test_laws_of_decoders():
    def all_of_them(code, survivors):
        return solve(code, np.ones(code.n, dtype=bool))

    message = broken(testing.check_decoder, all_of_them, "stragglers")
    assert "m=1, seed=0, stragglers [" in message
    assert "its message did not come" in message

    def flat(code, survivors):
        return solve(code, survivors)[:, 0]

    assert "(n, m) = (7, 1) numbers" in broken(testing.check_decoder, flat, "shape")

    def infinite(code, survivors):
        return np.where(survivors[:, None], np.inf, 0) * np.ones((1, code.m))

    assert "R[0, 0] = inf" in broken(testing.check_decoder, infinite, "shape")

    def changes(code, survivors):
        R = solve(code, survivors)
        survivors[:] = True
        return R

    assert "changes the survivors" in broken(testing.check_decoder, changes, "inputs")

    calls = []

    def remembers(code, survivors):
        calls.append(1)
        return solve(code, survivors) * len(calls)

    assert "when the same survivors" in broken(testing.check_decoder, remembers, "same")

    def half(code, survivors):
        return solve(code, survivors) / 2

    assert "is more than Err_S" in broken(testing.check_decoder, half, "optimal", optimal=True)
    message = broken(testing.check_decoder, half, "exact", exact=True)
    assert "although Err_S = 0" in message


def test_a_decoder_cannot_be_better_than_least_squares():
    """The residual is computed from R and the code: only a code that lies could break this law."""

    class Lies(Code):
        def error(self, survivors):
            return super().error(survivors) + 1

    A = assignments.petersen()
    message = broken(testing.check_decoder, solve, "error", codes=[("a lie", Lies(A, A, 1))])
    assert "is less than Err_S = " in message


def test_a_decoder_that_is_not_unbiased():
    @gcmpi.decoder(unbiased=True)
    def first(code, survivors):
        R = np.zeros((code.n, code.m))
        R[np.flatnonzero(survivors)[:1]] = 1
        return R

    message = broken(testing.check_decoder, first, "unbiased")
    assert "with s = 0 stragglers part 0 of subset" in message
    assert "mean over all 1 sets" in message


def test_a_decoder_that_refuses_every_code():
    def never(code, survivors):
        raise ValueError("not this one")

    with pytest.raises(ValueError, match=r"refuses every code .*not this one.*codes=\["):
        testing.check_decoder(never)
    with pytest.raises(TypeError, match="Code objects"):
        testing.check_decoder(solve, codes=3)


# ---------------------------------------------------------------- models


class Regression:
    """Half the squared distance, linear in the rows; all four members and no more."""

    def __init__(self, features, dtype=np.float64):
        self.d = features

    def initial(self, rng):
        return rng.normal(size=self.d)

    def loss(self, theta, X, Y):
        return 0.5 * np.sum((X @ theta - Y) ** 2)

    def gradient(self, theta, X, Y, scale):
        return scale * X.T @ (X @ theta - Y)


def test_models_that_keep_every_law_pass():
    testing.check_problem(Regression, classes=0)
    testing.check_problem(Regression(5), classes=0)
    testing.check_problem("mlp:hidden=8", shape=6, classes=4)
    testing.check_problem(PROBLEMS["softmax"].function)
    X, y = np.random.default_rng(0).normal(size=(7, 2)), np.arange(7) / 7
    testing.check_problem(Regression, rows=(X, y), classes=0)


def test_a_float32_model_passes_with_the_precision_it_has():
    class Single(Regression):
        dtype = np.float32

        def gradient(self, theta, X, Y, scale):
            return super().gradient(theta, X, Y, np.float32(scale)).astype(np.float32)

    testing.check_problem(Single, classes=0)


def variant(law, *says, check=testing.check_problem, base=Regression, classes=0, **members):
    """Check a model with some of its members replaced, and return what the law says."""
    model = type("Mine", (base,), members)
    message = broken(check, model, law, classes=classes)
    assert message.startswith("problem Mine breaks the law")
    for text in says:
        assert text in message, message
    return message


def gradient(change):
    """Return a gradient that is right but for a change (theta, X, Y, scale, g) -> g."""

    def wrong(self, theta, X, Y, scale):
        return change(theta, X, Y, scale, Regression.gradient(self, theta, X, Y, scale))

    return wrong


def test_members_and_initial_parameters():
    class Lacks:
        d = 3

        def initial(self, rng): ...

        def loss(self, theta, X, Y): ...

    assert "has no gradient" in broken(testing.check_problem, Lacks, "members")
    variant("members", "d must be a whole number from 1, not 0", __init__=lambda s: None, d=0)
    variant("initial", "d = 5 finite numbers", initial=lambda s, rng: np.zeros(4))
    variant("initial", "finite", initial=lambda s, rng: np.full(5, np.nan))
    stream = np.random.default_rng(0)
    message = variant("initial", initial=lambda s, rng: stream.normal(size=5))
    assert "differ in 5 of 5 places; all randomness must come from rng" in message


def test_a_mean_is_no_sum():
    def mean(self, theta, X, Y):
        return Regression.loss(self, theta, X, Y) / len(X)

    variant("sum", "the loss of 12 rows is", "this loss is the mean over rows", loss=mean)
    variant(
        "sum",
        "gradients of two batches add up to",
        gradient=gradient(lambda theta, X, Y, scale, g: g / len(X)),
    )
    variant("sum", "must be one number", loss=lambda s, theta, X, Y: (X @ theta - Y) ** 2)
    variant("sum", "must be finite", loss=lambda s, theta, X, Y: np.nan)


def test_a_gradient_that_is_wrong_in_one_place():
    def one_place(theta, X, Y, scale, g):
        g[3] *= 1.001
        return g

    message = variant("gradient", gradient=gradient(one_place))
    assert "wrong are 1 of the first 5 parameters, gradient[3] = " in message
    assert "off by" in message


def test_a_gradient_that_is_wrong_in_a_small_place_of_many():
    """A random direction hardly sees it: single parameters are compared too."""

    class Scaled(Regression):
        def gradient(self, theta, X, Y, scale):
            g = super().gradient(theta, X, Y, scale)
            g[7] += 1e-3 * scale * len(X)
            return g

    message = broken(testing.check_problem, Scaled, "gradient", shape=150, classes=0)
    assert "gradient[7] = " in message


def test_a_gradient_of_the_wrong_sign_shape_or_scale():
    variant("gradient", "random direction", gradient=gradient(lambda *a: -a[-1]))
    variant("gradient", "must be d = 5 numbers", gradient=gradient(lambda *a: a[-1][:, None]))
    ignores = gradient(lambda theta, X, Y, scale, g: X.T @ (X @ theta - Y))
    variant("scale", "scale=0.25 times the gradient is", gradient=ignores)


def test_models_leave_their_arguments_alone():
    def in_place(theta, X, Y, scale, g):
        theta += 0.0
        X[0] = 0
        return g

    variant("inputs", "entries of X", gradient=gradient(in_place))

    class Keeps(Regression):
        theta = None

        def gradient(self, theta, X, Y, scale):
            if self.theta is None:
                self.theta = theta
            return super().gradient(self.theta if len(X) == 12 else theta, X, Y, scale)

    # the first theta is kept for ever: the gradient is right until that array changes
    message = broken(testing.check_problem, Keeps, "inputs", classes=0)
    assert "another gradient or loss for the same theta" in message or "entries" in message

    class Reuses(Regression):
        def gradient(self, theta, X, Y, scale):
            self.buffer = getattr(self, "buffer", np.zeros(self.d))
            self.buffer[:] = super().gradient(theta, X, Y, scale)
            return self.buffer

    assert "return a new array" in broken(testing.check_problem, Reuses, "result", classes=0)


def test_optional_members_of_models():
    variant("targets", "must have 12 rows", targets=lambda s, y: y[:3])
    variant("targets", "is not targets(y)[some]", targets=lambda s, y: y - y.mean())
    variant("accuracy", "-3, not within 0 and 1", accuracy=lambda s, theta, X, y: -3)
    testing.check_problem(
        type("Fine", (Regression,), {"accuracy": lambda *a: -3, "metric": "R2"}), classes=0
    )

    def parts(self, theta, X, Y, weights):
        whole = np.stack([X.T @ (w * (X @ theta - Y)) for w in weights])
        length = -(-self.d // len(weights))
        padded = np.pad(whole, ((0, 0), (0, len(weights) * length - self.d)))
        return np.stack([padded[u, u * length :][:length] for u in range(len(weights))])

    testing.check_problem(type("Parts", (Regression,), {"weighted_parts": parts}), classes=0)

    def shifted(self, theta, X, Y, weights):
        return np.roll(parts(self, theta, X, Y, weights), 1, axis=0)

    variant("parts", "part 0 of 2 of weighted_parts is", weighted_parts=shifted)


def test_float32_that_does_not_follow():
    class Rough(Regression):
        def __init__(self, features, dtype):
            super().__init__(features)
            self.dtype = np.dtype(dtype)

        def gradient(self, theta, X, Y, scale):
            wrong = 1.01 if self.dtype == np.float32 else 1.0
            return (wrong * super().gradient(theta, X, Y, scale)).astype(self.dtype)

    assert "in float32," in broken(testing.check_problem, Rough, "float32", classes=0)


class Numbers:
    """An array of a device: numpy cannot convert it."""

    def __init__(self, values):
        self.values = values

    def __array__(self, *arguments, **options):
        raise TypeError("this array is on a device")

    def __mul__(self, factor):
        return Numbers(self.values * factor)


class OnDevice(Regression):
    """The device seam."""

    def rows(self, X, y):
        return Numbers(X), Numbers(y)

    def load(self, theta):
        self.theta = Numbers(theta.copy())

    def gradient(self, rows):
        X, y = (array.values for array in rows)
        return Numbers(Regression.gradient(self, self.theta.values, X, y, 1.0))

    def host(self, array):
        return array.values


def test_models_on_a_device():
    testing.check_problem(OnDevice, classes=0)
    wrong = type("Wrong", (OnDevice,), {"host": lambda self, array: 2 * array.values})
    assert "random direction" in broken(testing.check_problem, wrong, "gradient", classes=0)


# ---------------------------------------------------------------- straggler models


class Late:
    """Silent with probability q, by seed and iteration."""

    def __init__(self, n, seed, q=0.25):
        self.n, self.seed, self.q = n, seed, q

    @property
    def odds(self):
        return np.full(self.n, self.q)

    def delays(self, t):
        return np.where(np.random.default_rng([self.seed, t]).random(self.n) < self.q, np.inf, 0)


def test_straggler_models_that_keep_every_law_pass():
    testing.check_stragglers(Late)
    testing.check_stragglers(Late(5, 0))
    testing.check_stragglers("markov:q=0.2,stay=0.9")
    testing.check_stragglers(lambda n, seed, t: np.random.default_rng([seed, t]).random(n))
    testing.check_stragglers(np.array([[0, 1.5, np.inf], [1, 0, 0]]))
    testing.check_stragglers(lambda n: np.zeros((2, n)))


def late(law, *says, **members):
    message = broken(testing.check_stragglers, type("Mine", (Late,), members), law)
    assert "straggler model Mine" in message
    assert "with n=12, seed=0" in message
    for text in says:
        assert text in message, message


def test_laws_of_straggler_models():
    late("shape", "(12,), not (3,)", delays=lambda s, t: np.zeros(3))
    late("shape", "no numbers", delays=lambda s, t: ["late"] * 12)
    late("delays", "worker 0 has the delay nan", delays=lambda s, t: np.full(12, np.nan))
    late("delays", "the delay -1 in iteration 0", delays=lambda s, t: np.full(12, -1))
    late("unit", "the unit is 'minutes'", unit="minutes")
    late("seed", "seed=1 gives the same delays", delays=lambda s, t: np.arange(12.0) * t)


def test_delays_that_depend_on_the_order_of_the_calls():
    def stream(self, t):
        self.rng = getattr(self, "rng", np.random.default_rng(self.seed))
        return self.rng.random(self.n)

    late("pure", "that is asked for the last iteration first", delays=stream)

    def counts(self, t):
        self.calls = getattr(self, "calls", 0) + 1
        return np.full(self.n, float(self.calls > 40))

    late("pure", "when the same model is asked again", delays=counts)


def test_odds_that_are_not_those_of_the_delays():
    late("odds", "worker 0 has the odds 0.4, but is late with", odds=np.full(12, 0.4))
    late("odds", "worker 0 has the odds 1.5", odds=np.full(12, 1.5))
    late("odds", "n=12 probabilities, not of shape (3,)", odds=np.zeros(3))
    late("odds", "worker 0 has the odds 0.25, but is late with 0 of 2000 seeds (0) in iteration 4; "
         "odds are over seeds, the same in every iteration",
         delays=lambda s, t: Late(s.n, s.seed).delays(t) if t % 2 else np.zeros(s.n))  # fmt: skip
    late("odds", "worker 4 has the odds 0", odds=np.where(np.arange(12) == 4, 0, 0.25))


def test_the_confidence_of_odds():
    assert plausible(500, 0.25, 12)
    assert plausible(0, 0.0, 12)
    assert plausible(2000, 1.0, 12)
    assert not plausible(1, 0.0, 12)
    assert not plausible(1999, 1.0, 12)
    blamed = [c for c in range(2001) if not plausible(c, 0.25, 12)]
    # beyond five to seven standard errors, 19.4 each
    assert all(5 < abs(c - 500) / 19.4 for c in blamed)
    assert {c for c in range(2001) if abs(c - 500) / 19.4 > 7} <= set(blamed)


# ---------------------------------------------------------------- calls that cannot be understood


@pytest.mark.parametrize(
    ("check", "kind"),
    [
        (testing.check_encoding, "encoding"),
        (testing.check_assignment, "assignment"),
        (testing.check_decoder, "decoder"),
        (testing.check_problem, "problem"),
        (testing.check_stragglers, "straggler model"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_bad_calls(check, kind):
    with pytest.raises(ValueError, match=f"unknown {kind} 'nothing-like-this'"):
        check("nothing-like-this")
    with pytest.raises(TypeError, match=f"'{kind}' needs a function, a class, an object"):
        check(7)
    with pytest.raises(ValueError, match=r"needs a value for 'size', .*functools.partial"):
        check(lambda size: size)


def test_options_that_are_out_of_range():
    with pytest.raises(ValueError, match="at least 100 draws"):
        testing.check_encoding(signs, draws=2)
    with pytest.raises(ValueError, match="nothing can be tried on this"):
        testing.check_encoding(signs, np.array([[1, 0], [0, 2]]))
    with pytest.raises(TypeError, match="assignments must be"):
        testing.check_encoding(signs, 4)
    with pytest.raises(ValueError, match="a table of delays must be"):
        testing.check_stragglers(np.zeros(3))
    with pytest.raises(TypeError, match=r"must have delays\(t\)"):
        testing.check_stragglers(lambda n: 3)


def test_checks_need_no_pytest(alone):
    script = (
        "import sys\nfrom gcmpi import testing\ntesting.check_assignment('petersen')\n"
        "assert not {'pytest', '_pytest', 'networkx', 'mpi4py', 'h5py'} & set(sys.modules)\n"
    )
    done = alone("-c", script)
    assert done.returncode == 0, done.stderr
    assert "pytest" in sys.modules  # so that the line above can fail


@pytest.fixture
def mine(tmp_path, monkeypatch):
    """A module of the user's, for the names with a dot."""
    (tmp_path / "my_parts.py").write_text(
        "import numpy as np\n"
        "import gcmpi\n"
        "def gaussian(A, m, rng, epsilon=0.1):\n"
        "    return np.tile(A, (m, 1)) * rng.normal(1, epsilon, A.shape[1])\n"
        "@gcmpi.encoding(exact=True)\n"
        "def boastful(A, m):\n"
        "    return np.tile(A, (m, 1))\n"
        "def ring():\n"
        "    return np.eye(4, dtype=int) + np.roll(np.eye(4, dtype=int), 1, axis=0)\n"
        "def ignores(code, survivors, scale=1.0):\n"
        "    return np.full((code.n, code.m), scale)\n"
        "table = np.array([[0.0, 1.0], [2.0, 0.0]])\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    yield
    sys.modules.pop("my_parts", None)


def test_names_with_a_dot(mine):
    testing.check_encoding("my_parts.gaussian:epsilon=0.5", ["my_parts.ring", "petersen"], m=2)
    testing.check_assignment("my_parts.ring")
    testing.check_stragglers("my_parts.table")
    message = broken(testing.check_encoding, "my_parts.boastful", "exact")
    assert message.startswith("encoding my_parts.boastful breaks")
    message = broken(testing.check_decoder, "my_parts.ignores:scale=2", "stragglers")
    assert "decoder my_parts.ignores:scale=2.0" in message
    with pytest.raises(ValueError, match="no option 'eps'"):
        testing.check_encoding("my_parts.gaussian:eps=0.5")
    with pytest.raises(ValueError, match="not_there"):
        testing.check_decoder("my_parts.not_there")


def test_networks_of_torch_keep_the_laws():
    torch = pytest.importorskip("torch", reason="torch is not installed")

    def build(*between):
        return torch.nn.Sequential(torch.nn.Linear(5, 4), *between, torch.nn.Linear(4, 3))

    loss = torch.nn.CrossEntropyLoss(reduction="sum")
    for between in ([torch.nn.Tanh()], [torch.nn.ReLU(), torch.nn.Dropout(0.5)]):
        problem = gcmpi.learning.torch.problem(functools.partial(build, *between), loss)
        testing.check_problem(problem)


def test_the_example_of_the_page():
    page = (ROOT / "docs" / "testing.md").read_text()
    code, rest = page.split("```python\n")[1].split("```\n", 1)
    shown = re.search(r"    AssertionError: (.*?)\n\n", rest, re.DOTALL).group(1)
    with pytest.raises(AssertionError) as raised:
        exec(code, {"__name__": "a page"})
    assert " ".join(shown.split()) == str(raised.value)
