"""Data of your own: what X and y may be, where they may lie, and what is said of the rest."""

from __future__ import annotations

import os
import pickle
import re
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from gcmpi import seeds
from gcmpi.experiments.building import assignment_matrix, build
from gcmpi.experiments.experiment import Experiment
from gcmpi.learning import Dataset, StoredRows, in_memory, load, prepared
from gcmpi.learning import checks as checks_module
from gcmpi.learning.datasets import canonical, from_value
from gcmpi.learning.rows import pieces
from gcmpi.learning.stored import Table
from gcmpi.training import shard
from tests.conftest import ROOT, Run
from tests.simulated import follow


def rng() -> np.random.Generator:
    return seeds.generator(0, seeds.DATA)


def images(count: int = 60) -> tuple[np.ndarray, np.ndarray]:
    X = np.random.default_rng(0).normal(size=(count, 4, 3))
    return X, (X[:, 0, 0] > 0).astype(int)


def refusal(text: str) -> str:
    """Return the sentence with which a data set is refused."""
    with pytest.raises(ValueError, match=r".") as caught:
        load(canonical(text), rng())
    assert "Errno" not in str(caught.value)
    return str(caught.value)


def write(place: Path, form: str, **content: np.ndarray) -> str:
    """Write arrays as .npz, as a folder of .npy files or as HDF5; returns the path."""
    path = place / {"npz": "data.npz", "folder": "data", "hdf5": "data.h5"}[form]
    if form == "npz":
        np.savez(path, **content)
    elif form == "folder":
        path.mkdir()
        for key, array in content.items():
            np.save(path / f"{key}.npy", array)
    else:
        with h5py.File(path, "w") as file:
            file.update(content)
    return str(path)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("digits.npz", "file:path=digits.npz"),
        ("digits.npz:by_label=true", "file:path=digits.npz,by_label=true"),
        ("digits.npz,by_label=true", "file:path=digits.npz,by_label=true"),
        ("x.csv", "file:path=x.csv"),
        ("data.h5:where=worker", "file:path=data.h5,where=worker"),
        ("/a/b:c.npz", "file:path=/a/b:c.npz"),
        ("images-idx3-ubyte", "file:path=images-idx3-ubyte"),
        ("here", "file:path=here"),
        ("here:where=worker", "file:path=here,where=worker"),
        ("here.too", "file:path=here.too"),
        ("mydata.digits", "mydata.digits"),
        ("mydata.digits:rows=100", "mydata.digits:rows=100"),
        ("mydata.digits:path=/a/x.npz", "mydata.digits:path=/a/x.npz"),
        ("mixture", "mixture"),
        ("mixture:rows=100", "mixture:rows=100"),
        ("file:path=a.npz", "file:path=a.npz"),
        ("nothing", "nothing"),
    ],
)
def test_what_names_a_file(tmp_path, monkeypatch, text, expected):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "here").mkdir()
    (tmp_path / "here.too").touch()
    (tmp_path / "mixture").touch()  # a name of the registry is never a file
    assert canonical(text) == expected


@pytest.mark.parametrize("form", ["npz", "folder", "hdf5"])
def test_rows_keep_their_shape(tmp_path, form):
    X, y = images()
    data = load(canonical(write(tmp_path, form, X=X, y=y)), rng())
    assert (data.X.shape, data.X_test.shape) == ((48, 4, 3), (12, 4, 3))
    assert (data.shape, data.features, data.classes) == ((4, 3), 12, 2)
    assert ((data.X[:, 0, 0] > 0) == data.y).all()


@pytest.mark.parametrize(
    ("X", "y"),
    [("data", "labels"), ("data", "target"), ("Images", "Labels"), ("features", "labels")],
)
def test_other_names_of_the_arrays(tmp_path, X, y):
    rows, labels = images()
    data = load(
        canonical(write(tmp_path, "npz", **{X: rows, y: labels, "more": labels[:3]})), rng()
    )
    assert data.classes == 2
    assert ((data.X[:, 0, 0] > 0) == data.y).all()


def test_given_test_rows_stay_in_their_order(tmp_path):
    X, y = images()
    path = write(tmp_path, "npz", X_train=X[:50], Y_train=y[:50], x_test=X[50:], y_test=y[50:])
    data = load(canonical(path), rng())
    assert (data.X_test == X[50:]).all()
    assert (data.y_test == y[50:]).all()
    assert sorted(data.X[:, 0, 0]) == sorted(X[:50, 0, 0])


LABELS = np.arange(60) % 3
NUMBERS = np.linspace(-1.5, 2.25, 60)


@pytest.mark.parametrize(
    ("y", "classes", "shape"),
    [
        (LABELS, 3, ()),
        (LABELS.astype(float), 3, ()),
        (LABELS[:, None], 3, ()),
        (LABELS > 0, 2, ()),
        (np.eye(3)[LABELS], 3, ()),
        (np.eye(3, dtype=bool)[LABELS], 3, ()),
        (np.eye(4, dtype=int)[LABELS], 4, ()),
        (NUMBERS, 0, ()),
        (NUMBERS[:, None], 0, (1,)),
        (np.stack([NUMBERS, LABELS]).T, 0, (2,)),
    ],
)
def test_what_targets_are(tmp_path, y, classes, shape):
    """Each row holds its own number, so that rows and targets can be told to belong together."""
    X = np.arange(60)[:, None] / 60
    path = canonical(write(tmp_path, "folder", X=X, y=y))
    for text in (path, f"{path},where=worker"):
        data = load(text, rng())
        got, rows = in_memory(data.y), in_memory(data.X)
        assert (data.classes, got.shape, data.y.shape) == (classes, (48, *shape), (48, *shape))
        original = y[np.rint(60 * rows[:, 0]).astype(int)]
        expected = original if not classes else LABELS[np.rint(60 * rows[:, 0]).astype(int)]
        if classes == 2:
            expected = expected > 0
        assert got.dtype.kind == ("i" if classes else "f")
        np.testing.assert_array_equal(got, expected)


def test_whole_numbers_may_be_targets_of_a_regression(tmp_path):
    X, _ = images()
    path = write(tmp_path, "npz", X=X, y=1000 * np.arange(60))
    assert "give regression=true if they are quantities" in refusal(path)
    data = load(canonical(f"{path},regression=true"), rng())
    assert data.classes == 0
    assert data.y.dtype == np.float64


X, y = np.zeros((60, 3)), LABELS
REFUSED = {
    "lengths": ((X, y[:59]), r"X \(60, 3\), y \(59,\): X and y must have the same number of rows"),
    "scalar X": ((np.float64(3), y), r"X \(\).*X must have a row for each element of y"),
    "scalar y": ((X, np.int64(3)), r"y \(\).*y must have an element for each row of X"),
    "flat X": ((X[:, 0], y), r"X \(60,\).*\(rows, features\)"),
    "no rows": ((X[:0], y[:0]), r"X \(0, 3\).*there must be rows"),
    "no features": ((X[:, :0], y), r"X \(60, 0\).*features"),
    "complex X": ((X + 1j, y), "X holds complex numbers.*real and imaginary"),
    "dates": ((X.astype("datetime64[s]"), y), "X holds dates"),
    "durations": ((X.astype("timedelta64[s]"), y), "X holds durations"),
    "texts": ((X.astype(str), y), "X holds texts"),
    "labels that are texts": ((X, y.astype(str)), r"y holds texts.*numpy.unique"),
    "labels that are bytes": ((X, y.astype("S3")), r"y holds texts.*numpy.unique"),
    "records": ((np.zeros(60, "i4,f8"), y), "X holds records.*recfunctions"),
    "NaN": ((np.where(X == 0, np.nan, X), y), "X must be finite"),
    "infinity": ((X + np.inf, y), "X must be finite"),
    "NaN in y": ((X, np.where(y, 0.5, np.nan)), "y must be finite"),
    "one class": ((X, 0 * y), "at least two classes"),
    "negative labels": ((X, y - 1), r"labels must be 0, 1, .* not -1 to 1: .*numpy.unique"),
    "many labels": ((X, y + 1000), "not 1000 to 1002"),
    "neither labels nor one-hot": ((X, np.ones((60, 2))), r"y \(60, 2\): whole numbers y must be"),
    "four rows": ((X[:4], y[:4]), "test must be 1 to 3 rows, not 0"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refusals_show_what_the_arrays_are(tmp_path, case):
    (rows, targets), pattern = REFUSED[case]
    sentence = refusal(write(tmp_path, "npz", X=rows, y=targets))
    assert pytest.raises(ValueError, match=pattern).matches(ValueError(sentence)), sentence
    assert f"X {rows.shape}, y {targets.shape}" in sentence
    assert "\n" not in sentence
    # a user's own function is refused in the same words
    with pytest.raises(ValueError, match=pattern):
        from_value("mydata.digits", (rows, targets), rng())


def test_test_rows_must_look_like_training_rows(tmp_path):
    path = write(tmp_path, "npz", x_train=X, y_train=y, x_test=X[:, :2], y_test=y)
    assert "rows of x_train and x_test must have the same shape" in refusal(path)


def converted(sentence: str, target: Path) -> Dataset:
    """Run the two lines of a refusal as a user would, and load what they make."""
    lines = [line.strip() for line in sentence.splitlines()[1:]]
    assert len(lines) == 2
    exec("\n".join(lines), {})
    return load(canonical(str(target)), rng())


@pytest.mark.parametrize("name", ["data.pkl", "data.pickle"])
@pytest.mark.filterwarnings(
    "ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
)
def test_the_two_lines_convert_a_pickle(tmp_path, name):
    rows, labels = images()
    (tmp_path / name).write_bytes(pickle.dumps({"X": rows, "y": labels.tolist()}))
    sentence = refusal(str(tmp_path / name))
    assert "pickle" in sentence.splitlines()[0]
    assert converted(sentence, tmp_path / "data.npz").shape == (4, 3)


def test_the_two_lines_convert_objects(tmp_path):
    rows, labels = images()
    objects = np.empty(60, dtype=object)
    objects[:] = list(rows)
    np.savez(tmp_path / "data.npz", X=objects, y=labels)
    sentence = refusal(str(tmp_path / "data.npz"))
    assert "Python objects" in sentence
    assert converted(sentence, tmp_path / "data-numbers.npz").shape == (4, 3)
    folder = tmp_path / "folder"
    folder.mkdir()
    np.save(folder / "X.npy", objects)
    np.save(folder / "y.npy", labels)
    assert converted(refusal(str(folder)), folder).shape == (4, 3)


def test_the_two_lines_convert_a_text(tmp_path):
    table = np.column_stack([np.random.default_rng(0).normal(size=(60, 4)), LABELS])
    np.savetxt(tmp_path / "x.csv", table, delimiter=",", header="a,b,c,d,label")
    data = converted(refusal(str(tmp_path / "x.csv")), tmp_path / "x.npz")
    assert (data.shape, data.classes) == ((4,), 3)


def test_other_files_are_refused_in_a_sentence(tmp_path):
    np.save(tmp_path / "X.npy", X)
    assert "holds one array" in refusal(str(tmp_path / "X.npy"))
    (tmp_path / "x.parquet").touch()
    assert "a .parquet file, which is not read" in refusal(str(tmp_path / "x.parquet"))
    assert f"there is no file {tmp_path / 'missing.npz'}" in refusal(f"{tmp_path}/missing.npz")
    assert "there is no file" in refusal(f"{tmp_path}/X.npy/missing.npz")
    (tmp_path / "folder.npz").mkdir()
    assert ["must hold arrays X and y", "; it has nothing"][0] in refusal(f"{tmp_path}/folder.npz")
    (tmp_path / "junk.h5").write_bytes(b"junk")
    assert "cannot read dataset" in refusal(f"{tmp_path}/junk.h5")
    (tmp_path / "folder.npz" / "X.npy").write_bytes(b"junk")
    assert "as a .npy file" in refusal(f"{tmp_path}/folder.npz")
    with h5py.File(tmp_path / "names.h5", "w") as file:
        file["rows"] = X
        file.create_group("group")
    assert "must hold arrays X and y" in refusal(f"{tmp_path}/names.h5")
    assert "it has rows (60, 3)" in refusal(f"{tmp_path}/names.h5")


@pytest.mark.parametrize("damage", ["cut", "bits"])
def test_a_damaged_npz_is_refused(tmp_path, damage):
    np.savez_compressed(tmp_path / "a.npz", X=np.random.default_rng(0).normal(size=X.shape), y=y)
    content = bytearray((tmp_path / "a.npz").read_bytes())
    if damage == "cut":
        del content[len(content) // 2 :]
    else:
        content[200:300] = bytes(100)
    (tmp_path / "a.npz").write_bytes(content)
    assert "cannot read dataset" in refusal(f"{tmp_path}/a.npz")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs a system with named pipes")
@pytest.mark.parametrize("name", ["pipe.npz", "pipe.h5", "pipe-images-idx3-ubyte"])
def test_only_regular_files_are_opened(tmp_path, name):
    """A pipe that nobody writes to would be read for ever."""
    os.mkfifo(tmp_path / name)
    assert "is no regular file" in refusal(str(tmp_path / name))


@pytest.mark.parametrize(
    ("X", "odd"),
    [
        (np.linspace(0, 255, 180).reshape(60, 3), True),
        (np.arange(180.0).reshape(60, 3) % 17, True),
        (np.arange(180).reshape(60, 3) % 256, False),
        (np.linspace(-1, 200, 180).reshape(60, 3), False),
        (np.linspace(0, 1, 180).reshape(60, 3), False),
        (np.linspace(0, 9, 180).reshape(60, 3), False),
    ],
)
def test_floats_that_look_like_pixels_bring_one_warning(tmp_path, capsys, X, odd):
    path = canonical(write(tmp_path, "npz", X=X, y=LABELS))
    load(path, rng())
    load(path, rng())
    said = capsys.readouterr().err
    assert said.count("\n") == odd
    assert ("divide X by 255" in said) == odd
    assert ("standardise=true" in said) == odd
    load(f"{path},standardise=true", rng())
    assert capsys.readouterr().err == ""


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    X=arrays(
        np.float64,
        st.tuples(st.integers(2, 30), st.integers(1, 4)),
        elements=st.floats(-1e3, 1e3).map(lambda x: round(x, 3)),
    ),
    block=st.sampled_from([8, 100, 1 << 20]),
)
def test_standardised_features(X, block, monkeypatch):
    """Mean 0 and standard deviation 1 over the training rows, and one map for the test rows."""
    monkeypatch.setattr(checks_module, "BLOCK", block)
    ours, test = checks_module.standardised(X, np.concatenate([X, X + 1]))
    constant = X.min(axis=0) == X.max(axis=0)
    assert (ours[:, constant] == 0).all()
    np.testing.assert_allclose(ours.mean(axis=0), 0, atol=1e-9)
    np.testing.assert_allclose(ours.std(axis=0)[~constant], 1, rtol=1e-9)
    np.testing.assert_array_equal(test[: len(X)], ours)
    deviation = np.where(constant, np.inf, X.std(axis=0))
    np.testing.assert_allclose(
        test[len(X) :] - ours, np.broadcast_to(1 / deviation, X.shape), rtol=1e-6, atol=1e-9
    )


def test_standardise_is_an_option(tmp_path):
    X, y = images()
    path = canonical(write(tmp_path, "npz", X=(1 + X).astype(np.float32), y=y))
    for text, dtype in (
        (f"{path},standardise=true", np.float32),
        ("mnist-10k:standardise=true", np.float32),
        ("mixture:rows=200,features=5,standardise=true", np.float64),
    ):
        data = load(text, rng())
        assert data.X.dtype == dtype
        varies = data.X.std(axis=0) > 0
        np.testing.assert_allclose(data.X.mean(axis=0, dtype=float), 0, atol=1e-4)
        np.testing.assert_allclose(data.X.std(axis=0, dtype=float)[varies], 1, rtol=1e-4)
    assert load(text, rng()).y.tolist() == load(text.partition(",stand")[0], rng()).y.tolist()


def test_what_a_function_of_ones_own_may_return():
    X, y = images()
    pair = from_value("mydata.digits", (X, y), rng())
    assert pair.X.shape == (48, 4, 3)
    lists = from_value("mydata.digits", [X.tolist(), y.tolist()], rng())
    np.testing.assert_array_equal(lists.X, pair.X)
    four = from_value("mydata.digits", (X[:40], y[:40], X[40:], y[40:]), rng())
    np.testing.assert_array_equal(four.X_test, X[40:])
    assert sorted(four.y) == sorted(y[:40])
    data = from_value("mydata.digits", Dataset(X[:40], y[:40], X[40:], y[40:], 5), rng())
    np.testing.assert_array_equal(data.X, X[:40])  # a Dataset keeps its order and its classes
    assert data.classes == 5
    numbers = from_value("mydata.digits", Dataset(X[:40], y[:40], X[40:], y[40:], 0), rng())
    assert numbers.y.dtype.kind == "f"
    with pytest.raises(ValueError, match=r"dataset mydata.digits has .*classes=0 is for targets"):
        from_value("mydata.digits", Dataset(X, y + 1, X, y, 2), rng())
    with pytest.raises(ValueError, match=r"return a gcmpi.learning.Dataset with classes=0"):
        from_value("mydata.digits", (X, -y), rng())


@pytest.mark.parametrize(
    ("value", "pattern"),
    [
        (None, "dataset mydata.digits must return .* not a NoneType"),
        ((X,), "must return .* not a tuple of 1"),
        (X, "must return .* not a ndarray"),
        (([[1, 2], [3]], [0, 1]), "returned a list of 2 as X, which cannot be made an array"),
    ],
)
def test_other_values_are_refused(value, pattern):
    with pytest.raises(ValueError, match=pattern):
        from_value("mydata.digits", value, rng())


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), form=st.sampled_from(["folder", "hdf5"]))
def test_stored_rows_are_the_rows_asked_for(tmp_path_factory, monkeypatch, data, form):
    """Whatever the order, and however small the blocks in which the file is read."""
    X = np.random.default_rng(1).normal(size=(23, 2, 3))
    path = write(tmp_path_factory.mktemp("rows"), form, X=X)
    monkeypatch.setattr(checks_module, "BLOCK", data.draw(st.sampled_from([1, 100, 500, 1 << 24])))
    name = "" if form == "folder" else "X"
    stored = StoredRows.all_of(
        Table(f"{path}/X.npy" if form == "folder" else path, name, X.shape, X.dtype)
    )
    index = np.array(data.draw(st.lists(st.integers(0, 22), max_size=40)), dtype=int)
    some = stored[index]
    assert some.shape == (len(index), 2, 3)
    np.testing.assert_array_equal(some.read(), X[index])
    a, b = sorted(data.draw(st.tuples(st.integers(0, 40), st.integers(0, 40))))
    np.testing.assert_array_equal(some[a:b].read(), X[index][a:b])
    np.testing.assert_array_equal(prepared(some, np.float32)[a:b], X[index][a:b].astype(np.float32))


@pytest.mark.parametrize("form", ["folder", "hdf5"])
@pytest.mark.parametrize("option", ["", ",by_label=true"])
@pytest.mark.parametrize("split", [False, True])
def test_where_rows_are_read_changes_no_row(tmp_path, form, option, split):
    X, y = images()
    content = (
        {"x_train": X[:50], "y_train": y[:50], "x_test": X[50:], "y_test": y[50:]}
        if split
        else {"X": X, "y": np.eye(2)[y]}
    )
    path = canonical(write(tmp_path, form, **content))
    server, worker = (load(f"{path}{option},where={w}", rng()) for w in ("server", "worker"))
    assert worker.stored
    assert not server.stored
    assert (worker.shape, worker.features, worker.classes) == ((4, 3), 12, 2)
    for name in ("X", "y", "X_test", "y_test"):
        rows = getattr(worker, name)
        assert isinstance(rows, StoredRows)
        assert rows.shape == getattr(server, name).shape
        np.testing.assert_array_equal(in_memory(rows), getattr(server, name))


def test_a_worker_is_sent_where_its_rows_are(tmp_path):
    """Row numbers of four bytes each in place of rows of 8 kB."""
    X = np.random.default_rng(0).normal(size=(1000, 1024))
    path = canonical(write(tmp_path, "folder", X=X, y=np.arange(1000) % 2))
    server, worker = (load(f"{path},where={w}", rng()) for w in ("server", "worker"))
    whole, reference = (shard(data, np.array([3, 0]), 10) for data in (server, worker))
    assert len(pickle.dumps(whole)) > 160 * 8192
    assert len(pickle.dumps(reference)) < 160 * 8 + 2000
    arrived = pickle.loads(pickle.dumps(reference))
    np.testing.assert_array_equal(in_memory(arrived.X), whole.X)
    np.testing.assert_array_equal(in_memory(arrived.y), whole.y)
    assert len(pickle.dumps(worker)) < 10_000 + 2000  # the server's data set, too


@pytest.mark.parametrize("form", ["folder", "hdf5"])
def test_a_worker_says_what_is_wrong_with_its_file(tmp_path, form):
    X, y = images()
    path = write(tmp_path, form, X=X, y=y)
    data = load(canonical(f"{path},where=worker"), rng())
    file = Path(path) / "X.npy" if form == "folder" else Path(path)
    content = file.read_bytes()
    file.unlink()
    with pytest.raises(ValueError, match=rf"cannot read .*{file}: no file is there; .* every host"):
        data.X.read()
    file.write_bytes(content[:100])
    with pytest.raises(ValueError, match="under this path on every host"):
        data.X.read()
    file.unlink()
    if form == "folder":
        np.save(file, X[:30])
    else:
        write(tmp_path, form, X=X[:30], y=y[:30])
    with pytest.raises(
        ValueError, match=r"it holds float64 \(30, 4, 3\), not float64 \(60, 4, 3\)"
    ):
        data.X.read()


def test_rows_in_a_file_are_checked_where_they_are_read(tmp_path):
    X, y = images()
    X[0] = np.nan
    path = canonical(write(tmp_path, "folder", X=X, y=y))
    data = load(f"{path},where=worker", rng())
    with pytest.raises(ValueError, match="NaN or infinity: X must be finite"):
        in_memory(data.X if (data.X.order == 0).any() else data.X_test)
    with pytest.raises(ValueError, match="X must be finite"):
        load(path, rng())


def test_what_cannot_stay_in_its_file(tmp_path):
    X, y = images()
    sentence = refusal(write(tmp_path, "npz", X=X, y=y) + ",where=worker")
    assert "python -m zipfile -e data.npz data" in sentence
    sentence = refusal(write(tmp_path, "folder", X=X, y=y) + ",where=worker,standardise=true")
    assert "standardise=true needs the rows in memory" in sentence


def test_an_audit_has_few_rows_of_a_file_in_memory(tmp_path):
    X, y = images()
    data = load(canonical(write(tmp_path, "folder", X=X, y=y) + ",where=worker"), rng())
    assert pieces(data.X) == [slice(0, 48)]
    assert pieces(in_memory(data.X)) == [slice(0, 48)]
    huge = StoredRows(Table("x.npy", "", (100, 1 << 24), np.dtype(np.float64)), np.arange(100))
    cut = pieces(huge)
    assert cut[0] == slice(0, 2)
    assert cut[-1].stop == 100


SAME = {
    "assignment": "projective-plane:order=2",
    "problem": "mlp:hidden=5",
    "dtype": "float64",
    "wire": "float64",
    "iterations": 12,
    "audit_every": 3,
    "stragglers": "none",
    "wait": "all",
}


@pytest.mark.parametrize("encoding", ["random-diagonal", "partial-stragglers"])
@pytest.mark.parametrize(
    "more", [{}, {"batch": "rows:5"}, {"problem": "least-squares"}], ids=["all", "batch", "numbers"]
)
def test_a_simulated_run_is_the_same_wherever_rows_are_read(tmp_path, encoding, more):
    X, y = images(200)
    y = X.sum(axis=(1, 2)) if "problem" in more else y
    path = write(tmp_path, "folder", X=X, y=y)
    found = []
    for where in ("server", "worker"):
        e = Experiment.from_settings(
            {**SAME, **more, "encoding": encoding, "dataset": f"{path},where={where}"}
        )
        run = build(e, assignment_matrix(e))
        state, rows = follow(run)
        found.append((state.theta, rows))
    (theta, rows), (other, others) = found
    np.testing.assert_array_equal(theta, other)
    for name in ("loss", "accuracy", "gradient_error", "check"):
        np.testing.assert_allclose(
            [getattr(row, name) for row in others], [getattr(row, name) for row in rows], rtol=1e-12
        )


@pytest.mark.parametrize("form", ["folder", "hdf5"])
def test_workers_read_their_rows_over_mpi(train: Run, tmp_path, form):
    """The same parameters and losses, up to the order in which messages are added."""
    X, y = images(200)
    path = Path(write(tmp_path, form, X=X, y=y)).name  # relative: ranks share a directory
    options = [f"--{key.replace('_', '-')}={value}" for key, value in SAME.items()]
    found = []
    for where in ("server", "worker"):
        done = train(8, *options, f"--dataset=file:{path},where={where}", f"--output={where}.h5")
        assert done.returncode == 0, done.stderr
        with h5py.File(tmp_path / f"{where}.h5") as file:
            columns = ("final/theta", "iterations/loss", "iterations/accuracy", "iterations/check")
            found.append({name: file[name][()] for name in columns})
    for name, column in found[0].items():
        np.testing.assert_allclose(found[1][name], column, rtol=1e-10, atol=1e-14)


def test_the_page_on_data_says_what_works(tmp_path, monkeypatch):
    """Its programs run one after the other, and every data set of its commands loads."""
    page = (ROOT / "docs" / "data.md").read_text()
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    *programs, module = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    (tmp_path / "mydata.py").write_text(module)
    names: dict = {}
    for program in programs:
        exec(program, names)
    texts = re.findall(r"^mpirun.* --dataset (\S+)$", page, re.MULTILINE)
    assert len(texts) == 6
    for text in texts:
        data = load(canonical(text), rng())
        assert (data.classes == 0) == ("regression" in text)
        assert data.stored == ("where=worker" in text)


def test_a_worker_that_cannot_use_its_rows_ends_the_run(train: Run, tmp_path):
    """In a sentence with what to do, and without a hang."""
    X, y = images(200)
    X[100] = np.nan
    path = Path(write(tmp_path, "folder", X=X, y=y)).name
    options = [f"--{key.replace('_', '-')}={value}" for key, value in SAME.items()]
    done = train(8, *options, f"--dataset={path},where=worker")
    assert done.returncode == 2
    assert "rows of data/X.npy hold NaN or infinity: X must be finite" in done.stderr
