"""What reads and draws run files."""

import dataclasses
import subprocess
import sys
import tomllib
from itertools import combinations

import h5py
import numpy as np
import pytest

from gcmpi import records as recording
from tests.conftest import ROOT
from tests.lazily import Lazily
from tests.simulated import train

panels, show_run, loading = map(Lazily, ("analysis.panels", "analysis.show_run", "analysis.load"))
mpl, xr = Lazily("matplotlib"), Lazily("xarray")


@pytest.fixture(scope="module")
def trained():
    return train()


@pytest.fixture(scope="module")
def path(trained, tmp_path_factory):
    return trained.save(tmp_path_factory.mktemp("run") / "run.h5")


# load


def test_load_gives_what_was_recorded(trained, path):
    run = loading.load(path)
    for name, column in trained.record.columns.items():
        np.testing.assert_array_equal(run[name].values, column, err_msg=name, strict=True)
    assert run["arrival_seconds"].dims == ("iteration", "worker")
    assert run["arrival_seconds"].attrs["units"] == "s"
    np.testing.assert_array_equal(run["A"], trained.run.A)
    np.testing.assert_array_equal(run["alpha_by_straggler_count"], trained.run.alpha)
    assert "B" not in run
    assert run["alpha"].dims == ()


def test_load_gives_what_is_known_about_the_run(trained, path):
    attributes = loading.load(str(path)).attrs
    settings = tomllib.loads(trained.experiment.toml)
    for part in (settings, trained.description.environment):
        assert part.items() <= attributes.items()
    assert (attributes["status"], attributes["valid"]) == ("complete", 1)
    assert attributes["hash"] == trained.experiment.digest
    assert attributes["redrawn"] == 1


def test_load_gives_the_encoding_matrix_of_a_fixed_code(tmp_path):
    trained = train(encoding="stacked", iterations=1)
    run = loading.load(trained.save(tmp_path / "run.h5"))
    assert run["B"].dims == ("coded_row", "worker")
    np.testing.assert_array_equal(run["B"], trained.run.shared.codes.fixed)


def test_a_loaded_run_leaves_its_file_free(trained, tmp_path):
    path = trained.save(tmp_path / "run.h5")
    run = loading.load(path)
    path.unlink()
    assert np.isfinite(run["seconds"].values).all()


def test_load_refuses_what_is_no_run_file(tmp_path):
    text = tmp_path / "text.h5"
    text.write_text("loss\n")
    other = tmp_path / "other.h5"
    xr.Dataset({"x": ("t", [1.0, 2.0])}).to_netcdf(other, engine="h5netcdf")
    for path, message in (
        (tmp_path / "no.h5", "there is no run file"),
        (text, "cannot be read as HDF5"),
        (other, "not a run file"),
    ):
        with pytest.raises(ValueError, match=message):
            loading.load(path)


@pytest.mark.parametrize("resumed", [False, True])
def test_m_and_divisor_are_known_where_an_older_version_did_not_record_them(
    trained, tmp_path, resumed
):
    path = trained.save(tmp_path / "old.h5")
    with h5py.File(path, "r+") as file:
        if resumed:  # the first iterations were the older version's
            file["iterations/m"][:3], file["iterations/divisor"][:3] = 0, np.nan
        else:
            del file["iterations/m"], file["iterations/divisor"]
    run = loading.load(path)
    for name in ("m", "divisor"):
        np.testing.assert_array_equal(run[name], trained.record.columns[name])
    assert show_run.main([str(path), "--output", str(tmp_path / "old.png")]) == 0


# the matrix error


@pytest.mark.parametrize(
    "settings",
    [{}, {"rescale": "none"}, {"encoding": "stacked"}, {"encoding": "partial-stragglers"}],
)
def test_matrix_error_is_that_of_the_matrices(tmp_path, settings):
    trained = train(stragglers="bernoulli:q=0.4", seed=3, **settings)
    expected = []
    for row in trained.rows:
        codes = trained.run.shared.codes
        code = codes.at(row.iteration, row.finished if codes.partial else None)
        alpha = trained.run.alpha[np.sum(~row.survivors)]
        R = code.decode(row.survivors) / alpha
        expected.append(np.linalg.norm(code.B @ R - code.target) / np.sqrt(code.m * code.k))
    found = panels.matrix_error(loading.load(trained.save(tmp_path / "run.h5")))
    assert np.ptp(expected) > 0.01
    np.testing.assert_allclose(found, expected, rtol=1e-9)


@pytest.mark.parametrize("decoder", ["ridge:eps=0.1", "one-step"])
def test_matrix_error_leaves_alpha_out_where_its_effect_is_not_known(tmp_path, decoder):
    settings = {"assignment": "cyclic:n=7,delta=3", "encoding": "bgc", "m": 1}
    trained = train(stragglers="bernoulli:q=0.4", seed=3, decoder=decoder, **settings)
    path = trained.save(tmp_path / "run.h5")
    expected, decode = [], trained.run.schemes[1].decoder
    for row in trained.rows:
        code = trained.run.shared.codes.at(row.iteration)
        R = decode(code, row.survivors)
        expected.append(np.linalg.norm(code.B @ R - code.target) / np.sqrt(code.k))
    run = loading.load(path)
    np.testing.assert_allclose(panels.matrix_error(run), expected, rtol=1e-9)
    assert (run["divisor"] != 1).any()
    assert not panels.divided(run)
    output = path.with_suffix(".svg")
    assert show_run.main([str(path), "--output", str(output)]) == 0
    assert "not divided by alpha" in output.read_text()


def test_matrix_error_is_the_gradient_error_for_orthogonal_subset_gradients():
    """The line of the figure: ||Z B R / alpha - Z F|| / ||Z F|| for orthonormal columns of Z."""
    code = train(iterations=1).run.shared.codes.at(0)
    survivors = np.array([1, 1, 0, 1, 1, 0, 1], dtype=bool)
    R = code.decode(survivors) / 0.7
    Z = np.linalg.qr(np.random.default_rng(0).standard_normal((20, code.m * code.k)))[0]
    relative = np.linalg.norm(Z @ (code.B @ R - code.target)) / np.linalg.norm(Z @ code.target)
    run = xr.Dataset(
        {
            "A": (("subset", "worker"), code.A),
            "survivors": (("iteration", "worker"), survivors[None].astype("u1")),
            "approximation_error": ("iteration", [code.error(survivors)]),
            "divisor": ("iteration", [0.7]),
            "m": ("iteration", [code.m]),
        },
    )
    assert panels.matrix_error(run) == pytest.approx([relative], rel=1e-9)


def test_matrix_error_of_an_exact_decoding_is_as_small_as_its_residual():
    """No cancellation: 1 - (1 - e) would leave 1e-8."""
    run = xr.Dataset(
        {
            "A": (("subset", "worker"), np.eye(4)),
            "survivors": (("iteration", "worker"), np.ones((1, 4), "u1")),
            "approximation_error": ("iteration", [4e-30]),
            "divisor": ("iteration", [1.0]),
            "m": ("iteration", [1]),
        },
    )
    assert panels.matrix_error(run) == pytest.approx([1e-15], rel=1e-9, abs=0)


# the figure


def repeated(run, iterations):
    """Return a run of so many iterations, made of those of `run`."""
    longer = run.isel(iteration=np.arange(iterations) % run.sizes["iteration"])
    seconds = np.linspace(0.1, 10, iterations)
    return longer.assign_coords(iteration=np.arange(iterations)).assign(
        seconds=("iteration", seconds)
    )


def without_audits(run):
    """Return a run that was audited in its first and last iteration only."""
    inside = slice(1, -1)
    run = run.copy(deep=True)
    run["check"][inside] = 255
    for name in ("loss", "accuracy", "gradient_error"):
        run[name][inside] = np.nan
    return run


def mpi(run):
    environment = {"mpi_library": "MPICH Version:      5.0.2", "ranks": "8", "hosts": "a,b"}
    return run.assign_attrs(**environment, cores="4")


NOBODY = {"stragglers": "bernoulli:q=1", "iterations": 2}
UNCODED = {"encoding": "uncoded", "m": 1, "stragglers": "none", "wait": "all"}
SHAPES = {
    "as it is": ({}, lambda run: run),
    "over MPI": ({}, mpi),
    "1 worker": ({"assignment": "uncoded:n=1", **UNCODED}, lambda run: run),
    "1 iteration": ({"iterations": 1}, lambda run: run),
    "91 workers": (
        {"assignment": "projective-plane:order=9", "dataset": "mixture:rows=400,features=5"},
        lambda run: run,
    ),
    "5000 iterations": ({}, lambda run: repeated(run, 5000)),
    "1001 iterations, no audits": ({}, lambda run: without_audits(repeated(run, 1001))),
    "nobody late": ({"assignment": "uncoded:n=7", **UNCODED}, lambda run: run),
    "nobody answered": (NOBODY, lambda run: run),
    "exact": ({"assignment": "uncoded:n=7", **UNCODED, "dtype": "float64"}, lambda run: run),
    "loss over one decade": (
        {},
        lambda run: run.assign(loss=0 * run["loss"] + np.geomspace(4.6, 0.25, 8)),
    ),
    "target": ({"target_accuracy": 0.99}, lambda run: run),
    "invalid": ({}, lambda run: run.assign_attrs(valid=0, status="failed")),
    "long names": (
        {"stragglers": "bernoulli:q=0.25,rates=" + "+".join(["1.25"] * 7)},
        lambda run: run.assign_attrs(
            assignment="coset:k=27,m=2,generators=" + "+".join(map(str, range(40))),
            command="python -m gcmpi.train " + "--set seed=$1 " * 40,
        ),
    ),
}


@pytest.fixture(scope="module", params=SHAPES)
def figure(request, tmp_path_factory):
    settings, change = SHAPES[request.param]
    path = train(**settings).save(tmp_path_factory.mktemp("shape") / "run.h5")
    with mpl.rc_context(show_run.STYLE):
        figure = show_run.draw(change(loading.load(path)), "runs/run.h5")
        figure.savefig(path.with_suffix(".png"), dpi=100)
    return request.param, figure, path.with_suffix(".png")


def axes(figure, title):
    return next(ax for ax in figure.findobj(mpl.axes.Axes) if title in ax.get_title(loc="left"))


def panels_of(figure):
    return [ax for ax in figure.findobj(mpl.axes.Axes) if ax.get_label() != "<colorbar>"]


def shown_texts(figure):
    """Return the texts that are drawn: all but the labels of ticks outside the limits."""
    hidden = set()
    for ax in figure.findobj(mpl.axes.Axes):
        for axis in (ax.xaxis, ax.yaxis):
            low, high = sorted(axis.get_view_interval())
            for tick in (*axis.get_major_ticks(), *axis.get_minor_ticks()):
                if not low <= tick.get_loc() <= high:
                    hidden |= {tick.label1, tick.label2}
    return [
        text
        for text in figure.findobj(mpl.text.Text)
        if text.get_visible() and text.get_text().strip() and text not in hidden
    ]


def test_no_texts_overlap_and_none_is_cut_off(figure):
    _, figure, _ = figure
    boxes = [(t.get_text(), t.get_window_extent()) for t in shown_texts(figure)]
    assert len(boxes) > 40
    page = figure.bbox
    for text, box in boxes:
        inside = box.x0 >= 0 and box.y0 >= 0 and box.x1 <= page.x1 and box.y1 <= page.y1
        assert inside, f"{text!r} is cut off"
    for (text, box), (other, beside) in combinations(boxes, 2):
        # boxes include the line spacing: touching by a pixel is no overlap
        width = min(box.x1, beside.x1) - max(box.x0, beside.x0)
        height = min(box.y1, beside.y1) - max(box.y0, beside.y0)
        assert min(width, height) <= 1.5, f"{text!r} and {other!r} overlap"


def test_every_axis_says_its_quantity(figure):
    _, figure, _ = figure
    drawn = panels_of(figure)
    assert len(drawn) == 9
    said = {ax.get_xlabel() for ax in drawn} | {ax.get_ylabel() for ax in drawn}
    for needed in (
        "training time [s]",
        "iteration",
        "mean loss",
        "accuracy [%]",
        "relative error",
        "worker",
        "time [ms]",
        "median time [ms]",
    ):
        assert any(label.startswith(needed) for label in said), needed


def labels(axis):
    """Return the labels of an axis that are drawn."""
    low, high = sorted(axis.get_view_interval())
    ticks = (*axis.get_major_ticks(), *axis.get_minor_ticks())
    inside = [tick.label1 for tick in ticks if low <= tick.get_loc() <= high]
    return [label.get_text() for label in inside if label.get_visible() and label.get_text()]


def test_axes_can_be_read(figure):
    name, figure, _ = figure
    for ax in panels_of(figure):
        if ax.get_ylabel() not in ("", "worker"):
            assert len(labels(ax.yaxis)) >= 2, (ax.get_ylabel(), labels(ax.yaxis))
        for axis in (ax.xaxis, ax.yaxis):
            if axis.get_label_text().startswith(("worker", "iteration")) and labels(axis):
                assert all(label.isdecimal() for label in labels(axis)), labels(axis)
    if name == "1 worker":
        assert labels(axes(figure, "Arrival").yaxis) == ["0"]


def test_the_picture_is_not_empty(figure):
    name, _, png = figure
    pixels = mpl.image.imread(png)
    assert pixels.shape[:2] == (1100, 1200)
    quiet = name in ("nobody answered", "1 iteration")
    assert np.mean(pixels[..., :3].min(axis=2) < 0.9) > (0.02 if quiet else 0.05)


def test_words_say_what_was_run(figure):
    name, figure, _ = figure
    words = "\n".join(text.get_text() for text in shown_texts(figure))
    told = [text for text in shown_texts(figure) if "It was run as" in text.get_text()]
    # a dollar in a command is no mathematics
    assert [text.get_parse_math() for text in told] == [False]
    for part in ("stragglers", "wait", "seed 0", "of training", "Run this again:"):
        assert part in words
    assert ("8 ranks on 2 hosts (4 cores), MPICH 5.0.2" in words) == (name == "over MPI")
    if name == "over MPI":
        assert "mpirun -n 8 python -m gcmpi.train --config runs/run.h5" in words
    else:
        assert "python -m gcmpi.train --simulate --config runs/run.h5" in words
    assert ("failed, INVALID" in words) == (name == "invalid")
    assert ("(target 99%, dashed)" in words) == (name == "target")
    if name == "1 worker":
        assert "1 worker, 1 subset," in words


def drawn(run):
    with mpl.rc_context(show_run.STYLE):
        return show_run.draw(run, "run.h5")


def image_of(figure):
    return np.asarray(axes(figure, "Arrival").images[0].get_array())


def test_the_heat_map_tells_three_kinds_of_answers_apart(path):
    run = loading.load(path)
    figure = drawn(run)
    image = image_of(figure)
    in_time = run["survivors"].values.T == 1
    late = np.isfinite(run["late_seconds"].values.T)
    silent = ~in_time & ~late
    for kind in (in_time, late, silent):
        assert kind.any()
    assert image.shape == (7, 8, 3)
    np.testing.assert_allclose(image[late], [mpl.colors.to_rgb(panels.LATE)] * late.sum())
    np.testing.assert_allclose(image[silent], [mpl.colors.to_rgb(panels.SILENT)] * silent.sum())
    # blue in all shades: less red than blue, unlike the other two
    assert (image[in_time][:, 2] > image[in_time][:, 0] + 0.05).all()
    legend = [text.get_text() for text in axes(figure, "Arrival").get_legend().get_texts()]
    shares = [f"{kind.mean():.1%}" for kind in (in_time, late, silent)]
    assert [text.rsplit(" ", 1)[1] for text in legend] == shares


def test_darker_is_later(path):
    run = loading.load(path)
    rng = np.random.default_rng(0)
    arrival = rng.permutation(np.arange(1.0, 57.0)).reshape(8, 7)
    run["survivors"][:] = 1
    run["arrival_seconds"][:] = arrival
    image = image_of(drawn(run)).mean(axis=2).T
    brightness = image.ravel()[np.argsort(arrival.ravel())]
    assert (np.diff(brightness) <= 1e-12).all()
    assert brightness[0] > brightness[-1] + 0.5


def test_many_iterations_share_columns_and_none_is_left_out(path):
    run = repeated(loading.load(path), 2500)
    run["survivors"][:], run["late_seconds"][:] = 0, np.nan
    run["late_seconds"][2499, 3] = 1.0
    image = image_of(drawn(run))
    assert image.shape == (7, 834, 3)
    # three iterations a column, and one that is left
    np.testing.assert_allclose(image[3, -1], mpl.colors.to_rgb(panels.LATE))
    assert (np.delete(image.reshape(-1, 3), 3 * 834 + 833, axis=0) == 1).all()


def test_time_bars_are_medians_of_the_iterations_after_the_warm_up(path):
    run = loading.load(path)
    for name in ("compute", "encode", "delay"):
        missing = np.isnan(run["arrival_seconds"].values)
        drawn_seconds = np.random.default_rng(len(name)).random((8, 7))
        run[f"{name}_seconds"][:] = np.where(missing, np.nan, drawn_seconds)
    ax = axes(drawn(run), "Time of a worker")
    for bars, name in zip(ax.containers, ("compute", "encode", "delay"), strict=True):
        seconds = run[f"{name}_seconds"].where(run["survivors"] == 1)[2:]
        expected = 1e3 * seconds.median("iteration").values
        np.testing.assert_allclose([bar.get_height() for bar in bars], expected)


# the command


def test_the_command_writes_a_figure_for_each_run(trained, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for name in ("one.h5", "two.h5"):
        trained.save(tmp_path / name)
    assert show_run.main(["one.h5", "two.h5"]) == 0
    assert capsys.readouterr().out.split() == ["figures/one.png", "figures/two.png"]
    assert mpl.image.imread("figures/two.png").shape[:2] == (1650, 1800)


def test_svg_keeps_its_text(path, tmp_path):
    output = tmp_path / "deep" / "run.svg"
    assert show_run.main([str(path), "--output", str(output)]) == 0
    text = output.read_text()
    assert text.startswith("<?xml")
    assert "random-diagonal on projective-plane:order=2, m = 2</text>" in text


@pytest.mark.parametrize("how", [["analysis/show_run.py"], ["-m", "analysis.show_run"]])
def test_both_ways_to_start_it(path, tmp_path, how):
    output = tmp_path / "run.svg"
    done = subprocess.run(
        [sys.executable, "-W", "error", *how, str(path), "--output", str(output)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{output}\n", "")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "RUN"),
        (["no.h5"], "there is no run file no.h5"),
        (["text.h5"], "text.h5 is not a run file"),
        (["empty.h5"], "ended before its first iteration"),
        (["run.h5", "--output", "x.pdf"], "must end in .png or .svg, not x.pdf"),
        (["run.h5", "run.h5", "--output", "x.png"], "takes the figure of one run, but there are 2"),
        (["run.h5", "again/run.h5"], "the same name"),
        (["run.h5", "--output", "text.h5/x.png"], "cannot write text.h5/x.png"),
        (["run.h5", "--colour"], "--colour"),
    ],
)
def test_bad_input_is_one_line(trained, tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    trained.save(tmp_path / "run.h5")
    (tmp_path / "text.h5").write_text("loss\n")
    dataclasses.replace(trained, record=recording.Record(7)).save(tmp_path / "empty.h5")
    assert show_run.main(arguments) == 2
    said = capsys.readouterr()
    assert message in said.err
    assert said.err.startswith("show_run.py: ")
    assert (said.err.count("\n"), said.out) == (1, "")
    assert sorted(p.name for p in tmp_path.iterdir() if p.name != "figures") == [
        "empty.h5",
        "run.h5",
        "text.h5",
    ]
