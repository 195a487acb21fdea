"""Strongly regular graphs: the defining identity, the spectrum, and networkx as an oracle."""

import numpy as np
import pytest

from gcmpi import assignments
from gcmpi.registry import ASSIGNMENTS
from tests.every import every
from tests.lazily import Lazily

nx = Lazily("networkx")

# name and options: (n, delta, lambda, mu), from the tables of strongly regular graphs
GRAPHS = {
    "paley:q=5": (5, 2, 0, 1),
    "paley:q=9": (9, 4, 1, 2),
    "paley:q=13": (13, 6, 2, 3),
    "paley:q=25": (25, 12, 5, 6),
    "paley:q=29": (29, 14, 6, 7),
    "paley:q=49": (49, 24, 11, 12),
    "paley:q=81": (81, 40, 19, 20),
    "triangular:v=4": (6, 4, 2, 4),
    "triangular:v=5": (10, 6, 3, 4),
    "triangular:v=8": (28, 12, 6, 4),
    "kneser:v=5": (10, 3, 0, 1),
    "kneser:v=6": (15, 6, 1, 3),
    "kneser:v=7": (21, 10, 3, 6),
    "petersen": (10, 3, 0, 1),
    "lattice:v=2": (4, 2, 0, 2),
    "lattice:v=4": (16, 6, 2, 2),
    "lattice:v=6": (36, 10, 4, 2),
    "lattice:v=6,complement=true": (36, 25, 16, 20),
    "latin-square:v=3": (9, 6, 3, 6),
    "latin-square:v=4": (16, 9, 4, 6),
    "latin-square:v=6": (36, 15, 6, 6),
    "latin-square:v=6,squares=1,complement=true": (36, 20, 10, 12),
    "latin-square:v=7,squares=3": (49, 30, 17, 20),
    "latin-square:v=8,squares=2": (64, 28, 12, 12),
    "latin-square:v=9,squares=4": (81, 48, 27, 30),
    "clebsch": (16, 5, 0, 2),
    "clebsch:complement=true": (16, 10, 6, 6),
    "shrikhande": (16, 6, 2, 2),
    "shrikhande:complement=true": (16, 9, 4, 6),
    "schlaefli": (27, 16, 10, 8),
    "schlaefli:complement=true": (27, 10, 1, 5),
    "hoffman-singleton": (50, 7, 0, 1),
    "hoffman-singleton:complement=true": (50, 42, 35, 36),
    "higman-sims": (100, 22, 0, 6),
    "higman-sims:complement=true": (100, 77, 60, 56),
}


@every("text, expected", GRAPHS.items())
def test_strongly_regular(text, expected):
    n, delta, lam, mu = expected
    A = ASSIGNMENTS.build(text).astype(np.intp)
    identity = np.eye(n, dtype=np.intp)
    assert (A == A.T).all()
    assert not A.diagonal().any()
    assert (A @ A == delta * identity + lam * A + mu * (1 - identity - A)).all()
    p = assignments.parameters(A)
    assert p.srg
    assert (p.n, p.k, p.delta, p.gamma, p.lam, p.mu) == (n, n, delta, delta, lam, mu)
    assert p.bibd == (lam == mu)


@every("text, expected", GRAPHS.items())
def test_spectrum(text, expected):
    n, delta, lam, mu = expected
    root = np.sqrt((lam - mu) ** 2 + 4 * (delta - mu))
    high, low = (lam - mu + root) / 2, (lam - mu - root) / 2
    # multiplicities: the trace is zero and all n eigenvalues are there
    times_high = (-delta - (n - 1) * low) / (high - low)
    spectrum = np.sort([delta, *[high] * round(times_high), *[low] * (n - 1 - round(times_high))])
    assert np.allclose(np.linalg.eigvalsh(ASSIGNMENTS.build(text).astype(float)), spectrum)


ORACLES = {
    "paley:q=5": lambda: nx.cycle_graph(5),
    "paley:q=9": lambda: nx.line_graph(nx.complete_bipartite_graph(3, 3)),
    "paley:q=13": lambda: nx.paley_graph(13).to_undirected(),
    "paley:q=17": lambda: nx.paley_graph(17).to_undirected(),
    "triangular:v=5": lambda: nx.line_graph(nx.complete_graph(5)),
    "triangular:v=7": lambda: nx.line_graph(nx.complete_graph(7)),
    "kneser:v=6": lambda: nx.kneser_graph(6, 2),
    "petersen": lambda: nx.Graph(nx.petersen_graph()),
    "lattice:v=4": lambda: nx.line_graph(nx.complete_bipartite_graph(4, 4)),
    "lattice:v=4,complement=true": lambda: nx.tensor_product(*[nx.complete_graph(4)] * 2),
    "latin-square:v=3": lambda: nx.complete_multipartite_graph(3, 3, 3),
    "latin-square:v=4,squares=2": lambda: nx.complete_multipartite_graph(4, 4, 4, 4),
    "hoffman-singleton": lambda: nx.Graph(nx.hoffman_singleton_graph()),
}


@every("text, oracle", ORACLES.items())
def test_isomorphic_to_the_graph_of_networkx(text, oracle):
    graph = nx.from_numpy_array(ASSIGNMENTS.build(text))
    assert nx.vf2pp_is_isomorphic(graph, oracle())


def test_clebsch_is_the_folded_cube():
    cube = nx.hypercube_graph(5)
    antipode = lambda x: tuple(1 - bit for bit in x)  # noqa: E731
    folded = nx.quotient_graph(cube, lambda x, y: y in (x, antipode(x)))
    assert nx.vf2pp_is_isomorphic(nx.from_numpy_array(assignments.clebsch()), nx.Graph(folded))


def test_shrikhande_is_not_the_lattice():
    """Same parameters; the six neighbours form a hexagon, not two triangles."""
    neighbours = [
        nx.from_numpy_array(A[np.ix_(A[0] == 1, A[0] == 1)])
        for A in (assignments.shrikhande(), assignments.lattice(4))
    ]
    assert nx.is_isomorphic(neighbours[0], nx.cycle_graph(6))
    assert nx.number_connected_components(neighbours[1]) == 2


@pytest.mark.parametrize("name", ["clebsch", "hoffman-singleton", "higman-sims", "petersen"])
def test_triangle_free(name):
    assert sum(nx.triangles(nx.from_numpy_array(ASSIGNMENTS.build(name))).values()) == 0


REFUSALS = {
    "paley:q=7": "paley needs q a prime power that is 1 modulo 4, not q=7; "
    "nearest possible: q=5 or 9",
    "paley:q=21": "nearest possible: q=17 or 25",
    "triangular:v=3": "triangular needs v at least 4, not v=3",
    "kneser:v=4": "kneser needs v at least 5, not v=4",
    "lattice:v=1": "lattice needs v at least 2, not v=1",
    "latin-square:v=2": "latin-square needs v at least 3, not v=2",
    "latin-square:v=6,squares=2": (
        "latin-square with v=6 needs squares in 1..1, not squares=2; nearest possible: v=5 or 7"
    ),
    "latin-square:v=5,squares=4": "needs squares in 1..3, not squares=4; nearest possible: v=7",
}


@every("text, message", REFUSALS.items())
def test_refusals_say_what_is_possible(text, message):
    with pytest.raises(ValueError) as error:  # noqa: PT011
        ASSIGNMENTS.build(text)
    assert message in str(error.value)
