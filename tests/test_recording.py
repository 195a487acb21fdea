"""Run files: their schema, that they are replaced as a whole, and the traces read from files."""

import dataclasses
import subprocess
import sys

import h5py
import numpy as np
import pytest

import gcmpi
from gcmpi import records as recording
from gcmpi.environment import SIMULATED
from gcmpi.experiments.building import assignment_matrix, build
from gcmpi.experiments.experiment import Experiment
from gcmpi.experiments.launch import conduct
from gcmpi.experiments.recorder import Output
from gcmpi.registry import STRAGGLERS
from gcmpi.training import Iteration
from tests.lazily import Lazily
from tests.simulated import SMALL, train

xr = Lazily("xarray")

ENVIRONMENT = {"command": "python mine.py", "mpi_library": SIMULATED}
REDRAWN, FIXED = "random-diagonal", "stacked"
GROUPS = ("code", "iterations", "final")


@pytest.fixture(scope="module")
def trained():
    return train()


@pytest.fixture(scope="module")
def path(trained, tmp_path_factory):
    return trained.save(tmp_path_factory.mktemp("run") / "run.h5")


def datasets(path):
    """Return (name, dtype, attributes, scales) of every data set of the file."""
    found = []

    def visit(name, item):
        if isinstance(item, h5py.Dataset):
            scales = [[scale.name for scale in dim.values()] for dim in item.dims]
            found.append((name, item.dtype, dict(item.attrs), scales, item.is_scale))

    with h5py.File(path, "r") as file:
        file.visititems(visit)
    return found


# the schema


def test_every_field_of_an_iteration_is_recorded_and_nothing_else():
    fields = {field.name for field in dataclasses.fields(Iteration)} - {"iteration", "late"}
    assert fields | {"late_seconds"} == set(recording.FIELDS)


def test_every_data_set_says_what_it_is_in_which_units(path):
    for name, _, attributes, _, _ in datasets(path):
        assert attributes["long_name"], name
        assert attributes["units"], name


def test_every_dimension_has_one_scale_in_its_group(path):
    for name, _, _, scales, is_scale in datasets(path):
        group = name.rpartition("/")[0]
        for on_axis in [] if is_scale else scales:
            assert len(on_axis) == 1, name
            assert on_axis[0].startswith(f"/{group}/"), name


def test_masks_are_bytes(path):
    types = {name: dtype for name, dtype, *_ in datasets(path)}
    for name in ("code/A", "iterations/survivors", "iterations/warmup", "iterations/check"):
        assert types[name] == np.uint8, name


@pytest.mark.parametrize("group", [None, "experiment", "environment", *GROUPS])
def test_xarray_opens_every_group_without_phony_dimensions(path, group):
    with xr.open_dataset(path, group=group, engine="h5netcdf") as opened:
        assert not [name for name in opened.dims if str(name).startswith("phony")]
        assert set(opened.dims) == set(opened.coords)


def test_iterations_in_xarray(path):
    with xr.open_dataset(path, group="iterations", engine="h5netcdf") as iterations:
        for name, field in recording.FIELDS.items():
            assert iterations[name].dtype == np.dtype(field.dtype), name
            dims = ("iteration", "worker") if field.by_worker else ("iteration",)
            assert iterations[name].dims == dims, name
            assert iterations[name].attrs == {"long_name": field.long_name, "units": field.units}
            # some versions of xarray take numbers in "seconds" for timedelta64, never in "s"
            byte = name.startswith("bytes")
            assert field.units == ("s" if "seconds" in name else "byte" if byte else "1"), name


@pytest.mark.parametrize("encoding", [REDRAWN, FIXED])
def test_the_code_is_stored_or_can_be_drawn_again(tmp_path, encoding):
    trained = train(encoding=encoding, seed=5, iterations=1)
    codes = trained.run.shared.codes
    path = trained.save(tmp_path / "run.h5")
    with xr.open_dataset(path, group="code", engine="h5netcdf") as code:
        assert code["A"].dims == ("subset", "worker")
        np.testing.assert_array_equal(code["A"], codes.A)
        assert code.attrs["redrawn"] == (encoding == REDRAWN)
        assert code.attrs["seed"] == "5"
        assert (code.attrs["assignment"], code.attrs["encoding"], code.attrs["m"]) == (
            "projective-plane:order=2",
            encoding,
            2,
        )
        if encoding == FIXED:
            assert code["B"].dims == ("coded_row", "worker")
            np.testing.assert_array_equal(code["B"], codes.fixed)
        else:
            assert "B" not in code


def test_alpha_is_the_mean_over_the_iterations_of_the_run(trained, path):
    stragglers = [int(np.sum(~row.survivors)) for row in trained.rows]
    with xr.open_dataset(path, group="code", engine="h5netcdf") as code:
        np.testing.assert_array_equal(code["alpha_by_straggler_count"], trained.run.alpha)
        assert code["alpha_by_straggler_count"].sizes == {"straggler_count": 8}
        expected = np.mean([trained.run.alpha[s] for s in stragglers])
        assert float(code["alpha"]) == pytest.approx(expected, rel=1e-12)


def test_attributes_tell_what_where_and_how_it_ended(trained, tmp_path):
    path = trained.save(tmp_path / "run.h5", status="interrupted", valid=False)
    with h5py.File(path, "r") as file:
        assert file.attrs["format"] == recording.FORMAT
        assert (file.attrs["status"], file.attrs["valid"]) == ("interrupted", 0)
        assert file.attrs["created"].endswith("+00:00")
        assert file["experiment"].attrs["hash"] == trained.experiment.digest
        assert Experiment.from_toml(file["experiment/toml"].asstr()[()]) == trained.experiment
        assert dict(file["environment"].attrs) == trained.description.environment
        assert file["final"].attrs["iteration"] == 8
        np.testing.assert_array_equal(file["final/theta"], trained.state.theta)


def test_a_run_that_ended_before_its_first_iteration_is_a_run_file(trained, tmp_path):
    empty = dataclasses.replace(trained, record=recording.Record(7))
    path = empty.save(tmp_path / "run.h5", status="failed")
    assert recording.read(path).columns["survivors"].shape == (0, 7)
    with xr.open_dataset(path, group="iterations", engine="h5netcdf") as iterations:
        assert iterations.sizes == {"iteration": 0, "worker": 7}


# what is read is what was recorded


def test_file_and_memory_agree(trained, path):
    columns, earlier = trained.record.columns, recording.read(path)
    assert set(earlier.columns) == set(columns) == {"iteration", *recording.FIELDS}
    for name, column in columns.items():
        np.testing.assert_array_equal(earlier.columns[name], column, err_msg=name, strict=True)


def test_columns_hold_the_rows(trained):
    columns = trained.record.columns
    assert len(trained.rows) == 8
    for name in {"iteration", *recording.FIELDS} - {"late_seconds"}:
        for t, row in enumerate(trained.rows):
            np.testing.assert_array_equal(columns[name][t], getattr(row, name), err_msg=name)


def test_times_are_missing_just_where_no_answer_came_in_time(trained):
    columns = trained.record.columns
    in_time = columns["survivors"] == 1
    assert in_time.any()
    assert not in_time.all()
    for name in ("arrival_seconds", "compute_seconds", "encode_seconds", "delay_seconds"):
        np.testing.assert_array_equal(np.isfinite(columns[name]), in_time, err_msg=name)
    for name in ("loss", "accuracy", "gradient_error"):
        np.testing.assert_array_equal(np.isfinite(columns[name]), columns["check"] != 255)


def test_state_comes_back(trained, path):
    earlier = recording.read(path)
    assert earlier.state.t == 8
    assert earlier.state.seconds == trained.state.seconds == earlier.columns["seconds"][-1]
    np.testing.assert_array_equal(earlier.state.theta, trained.state.theta, strict=True)
    arrays, before = dict(earlier.state.arrays()), dict(trained.state.arrays())
    assert set(arrays) == set(before) > {"optimizer_velocity", "exchange_owes", "exchange_now"}
    for name, value in before.items():
        np.testing.assert_array_equal(arrays[name], value, strict=True)
    assert earlier.status == "complete"
    assert Experiment.from_toml(earlier.experiment) == trained.experiment


# late answers and resumed runs


def test_a_late_answer_is_recorded_where_it_belongs(trained):
    columns = trained.record.columns
    late = [answer for row in trained.rows for answer in row.late]
    assert late
    known = np.isfinite(columns["late_seconds"])
    assert int(known.sum()) == len(late) == columns["stale_messages"].sum()
    for t, worker, seconds in late:
        assert columns["late_seconds"][t, worker] == seconds
    assert not (known & (columns["survivors"] == 1)).any()
    # an answer is late because it came after its own iteration was over
    assert (columns["late_seconds"] > columns["exchange_seconds"][:, None])[known].all()


def test_resumed_columns_go_on_where_the_first_part_ended(tmp_path):
    whole = train()
    first = train(stop_after=2)
    path = first.save(tmp_path / "run.h5", status="interrupted")
    earlier = recording.read(path)
    assert earlier.state.t == 3
    resumed = train(earlier)
    columns = resumed.record.columns
    assert columns["iteration"].tolist() == list(range(8))
    np.testing.assert_array_equal(columns["loss"][:3], first.record.columns["loss"])
    np.testing.assert_array_equal(columns["loss"][3:], [row.loss for row in resumed.rows])
    assert (np.diff(columns["seconds"]) > 0).all()
    for name, column in whole.record.columns.items():
        assert (columns[name].shape, columns[name].dtype) == (column.shape, column.dtype), name
    resumed.save(path)
    again = recording.read(path)
    np.testing.assert_array_equal(again.columns["seconds"], columns["seconds"])


def test_columns_that_an_older_version_did_not_write_are_unknown(tmp_path):
    path = train(stop_after=2).save(tmp_path / "run.h5", status="interrupted")
    with h5py.File(path, "a") as file:
        del file["iterations/encode_seconds"], file["iterations/bytes_up"]
    columns = train(recording.read(path)).record.columns
    assert np.isnan(columns["encode_seconds"][:3]).all()
    assert columns["encode_seconds"].shape == columns["compute_seconds"].shape
    assert columns["bytes_up"].dtype == np.int64
    assert columns["bytes_up"][:3].tolist() == [0, 0, 0]
    assert columns["bytes_up"][3:].all()


def test_a_late_answer_may_belong_to_the_earlier_part(trained):
    first, last = trained.rows[0], trained.rows[1]
    earlier = recording.Record(7)
    earlier.append(dataclasses.replace(first, late=[]))
    before = earlier.columns
    record = recording.Record(7, before)
    record.append(dataclasses.replace(last, late=[(0, 3, 0.5)]))
    assert record.columns["late_seconds"][0, 3] == 0.5
    assert np.isnan(before["late_seconds"]).all()


def test_resuming_without_stragglers_is_the_same_as_not_stopping(tmp_path):
    settings = {"stragglers": "none", "wait": "all", "dtype": "float64"}
    whole = train(**settings)
    path = train(stop_after=4, **settings).save(tmp_path / "run.h5", status="interrupted")
    resumed = train(recording.read(path), **settings)
    np.testing.assert_array_equal(resumed.state.theta, whole.state.theta)
    for name in ("loss", "accuracy", "gradient_error", "approximation_error", "bytes_up"):
        np.testing.assert_array_equal(
            resumed.record.columns[name], whole.record.columns[name], err_msg=name
        )


# writing


def test_a_file_is_replaced_only_by_a_complete_one(trained, path, tmp_path):
    target = tmp_path / "run.h5"
    target.write_bytes(path.read_bytes())
    # h5py has no type for such an array, which is met after all groups but the last are written
    with pytest.raises(TypeError):
        trained.save(target, optimizer={"velocity": np.array([object()])})
    assert target.read_bytes() == path.read_bytes()
    assert list(tmp_path.iterdir()) == [target]


def test_nothing_is_left_of_a_first_file_that_failed(trained, tmp_path):
    with pytest.raises(TypeError):
        trained.save(tmp_path / "run.h5", optimizer={"velocity": np.array([object()])})
    assert list(tmp_path.iterdir()) == []


def test_a_checkpoint_is_replaced_by_the_next(trained, tmp_path):
    path = tmp_path / "run.h5"
    trained.save(path, status="running", valid=False)
    before = path.read_bytes()
    with path.open("rb") as reader:
        trained.save(path)
        # who reads while it is replaced has all of the old file
        assert reader.read() == before
    assert recording.read(path).status == "complete"
    assert list(tmp_path.iterdir()) == [path]


def test_a_directory_that_does_not_exist_is_an_os_error(trained, tmp_path):
    with pytest.raises(OSError, match="No such file or directory"):
        trained.save(tmp_path / "no" / "run.h5")


# what is not a run file


def _other(path):
    with h5py.File(path, "w") as file:
        file["x"] = np.arange(3)


def _truncated(path):
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])


def _without_iterations(path):
    with h5py.File(path, "r+") as file:
        del file["iterations"]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: path.unlink(), "there is no run file"),
        (lambda path: path.write_text("loss, accuracy\n"), "cannot be read as HDF5"),
        (lambda path: path.write_bytes(b""), "cannot be read as HDF5"),
        (_other, "is an HDF5 file, but not a run file"),
        (_truncated, "truncated file"),
        (_without_iterations, "iterations"),
    ],
)
def test_what_is_not_a_run_file_is_refused(path, tmp_path, damage, message):
    broken = tmp_path / "broken.h5"
    broken.write_bytes(path.read_bytes())
    damage(broken)
    with pytest.raises(ValueError, match=message) as refused:
        recording.read(broken)
    assert str(broken) in str(refused.value)


def test_a_directory_is_not_a_run_file(tmp_path):
    with pytest.raises(ValueError, match="it is a directory"):
        recording.read(tmp_path)


# stragglers from files

SECONDS = np.array([[1.0, 3.0], [1.5, np.nan], [2.0, 1.0]])
LATE = np.array([[0.0, 2.0], [0.5, np.inf], [1.0, 0.0]])


def stragglers(spec, n):
    model = STRAGGLERS.build(spec, n=n, seed=0)
    return model, np.array([model.delays(t) for t in range(6)])


def hdf5_trace(path):
    with h5py.File(path, "w") as file:
        file["cluster/monday"] = SECONDS.astype("f4")
        file["cluster/hosts"] = np.array([["a", "b"]], dtype="S1")
        file["cluster/load"] = np.arange(3.0)
    return f"trace:path={path},dataset=cluster/monday"


@pytest.mark.parametrize(
    "text",
    [
        "1,3\n1.5,nan\n2,1\n",
        "# seconds, host a and b\n1.0, 3.0  # slow\n\n1.5,\n2,1",
        "\ufeff1,3\r\n1.5,NaN\r\n2,1\r\n",
    ],
)
def test_a_csv_trace(tmp_path, text):
    path = tmp_path / "trace.csv"
    path.write_text(text, encoding="utf-8", newline="")
    model, delays = stragglers(f"trace:{path}", 2)
    assert model.unit == "seconds"
    # after its last row the trace starts again
    np.testing.assert_allclose(delays, np.concatenate([LATE, LATE]), rtol=1e-12)


def test_a_csv_trace_of_one_worker_or_one_iteration(tmp_path):
    path = tmp_path / "trace.csv"
    path.write_text("1\n3\n2\n")
    assert stragglers(f"trace:{path}", 1)[1][:, 0].tolist() == [0, 2, 1, 0, 2, 1]
    path.write_text("1,3,2\n")
    assert (stragglers(f"trace:{path}", 3)[1] == [0, 2, 1]).all()


def test_an_hdf5_trace(tmp_path):
    spec = hdf5_trace(tmp_path / "trace.h5")
    np.testing.assert_allclose(stragglers(spec, 2)[1][:3], LATE, rtol=1e-6)


def test_a_trace_in_units_of_the_computation(tmp_path):
    path = tmp_path / "trace.csv"
    np.savetxt(path, 2 * SECONDS, delimiter=",")
    model, delays = stragglers(f"trace:path={path},unit=compute,scale=0.5,rates=1+2", 2)
    assert model.unit == "compute"
    # the fastest entry stands for a worker that is not late; worker 1 is twice as late
    expected = np.where(np.isnan(SECONDS), np.inf, 0.5 * (SECONDS - 1) * [1, 2])
    np.testing.assert_allclose(delays[:3], expected, rtol=1e-12)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("host a,host b\n1,2\n", "could not convert string to float: 'host a'"),
        ("1,2\n3,x\n", "could not convert string to float: 'x'"),
        ("1;2\n", "separated by commas"),
        ("1,2\n3\n", "same number of workers in every line"),
        ("", "must be a table"),
        ("# nothing\n", "must be a table"),
        ("nan,\n", "must hold positive seconds"),
        ("1,0\n", "must hold positive seconds"),
        ("1,-1\n", "must hold positive seconds"),
    ],
)
def test_a_csv_trace_that_is_none_is_refused(tmp_path, text, message):
    path = tmp_path / "trace.csv"
    path.write_text(text)
    with pytest.raises(ValueError, match=message) as refused:
        stragglers(f"trace:{path}", 2)
    assert "\n" not in str(refused.value)


def test_a_trace_that_cannot_be_read_is_refused(tmp_path):
    for path in (tmp_path, tmp_path / "no.csv"):
        with pytest.raises(ValueError, match="cannot read trace"):
            stragglers(f"trace:{path}", 2)
    binary = tmp_path / "binary.csv"
    binary.write_bytes(b"\xff\xfe1,2")
    with pytest.raises(ValueError, match="cannot read trace"):
        stragglers(f"trace:{binary}", 2)


@pytest.mark.parametrize("dataset", ["", ",dataset=tuesday", ",dataset=cluster/load"])
def test_a_table_that_is_not_in_the_file_is_refused(tmp_path, dataset):
    path = tmp_path / "trace.h5"
    hdf5_trace(path)
    with pytest.raises(ValueError, match=r"dataset= must be one of cluster/monday$"):
        stragglers(f"trace:path={path}{dataset}", 2)


def test_an_hdf5_file_without_a_table_is_refused(tmp_path):
    path = tmp_path / "trace.h5"
    _other(path)
    with pytest.raises(ValueError, match="has no table of numbers"):
        stragglers(f"trace:{path}", 2)


def test_replay_keeps_silent_who_did_not_answer(trained, path):
    delays = stragglers(f"replay:{path}", 7)[1]
    survivors = np.array([row.survivors for row in trained.rows[:6]])
    np.testing.assert_array_equal(delays, np.where(survivors, 0, np.inf))


def test_a_replay_has_the_survivors_of_its_run(trained, path):
    again = train(stragglers=f"replay:{path}", encoding=FIXED)
    for row, before in zip(again.rows, trained.rows, strict=True):
        np.testing.assert_array_equal(row.survivors, before.survivors)


def test_replay_refuses_another_number_of_workers_and_an_empty_run(trained, path, tmp_path):
    with pytest.raises(ValueError, match="has 7 workers and 8 iterations, but there are 13"):
        stragglers(f"replay:{path}", 13)
    empty = dataclasses.replace(trained, record=recording.Record(7)).save(tmp_path / "empty.h5")
    with pytest.raises(ValueError, match="0 iterations"):
        stragglers(f"replay:{empty}", 7)
    with pytest.raises(ValueError, match="there is no run file"):
        stragglers(f"replay:{tmp_path / 'no.h5'}", 7)


# one name, one run


def test_of_two_runs_that_save_under_one_name_the_second_is_refused(tmp_path):
    e = Experiment.from_settings(SMALL)
    first, second = gcmpi.simulate(e), gcmpi.simulate(e.change({"seed": 1}))
    path = first.save(tmp_path / "run.h5")
    before = path.read_bytes()
    with pytest.raises(ValueError, match=r"run\.h5 exists: give another name, or overwrite=True"):
        second.save(path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
    second.save(path, overwrite=True)
    assert Experiment.from_toml(recording.read(path).experiment).seed == 1


def test_the_second_of_two_runs_that_began_before_either_wrote_is_refused(tmp_path):
    """The first run's file is there from its start: the other ends before it trains."""
    e, path = Experiment.from_settings(SMALL), tmp_path / "run.h5"

    def second(row):
        if row.iteration == 1:
            assert recording.read(path).status == "running"
            run = build(e, assignment_matrix(e))
            with pytest.raises(recording.TakenError, match=r"run\.h5 exists"):
                conduct(run, run.simulate(), ENVIRONMENT, output=Output(path))

    run = gcmpi.simulate(e, output=path, observer=second)
    assert recording.read(path).status == "complete"
    np.testing.assert_array_equal(recording.read(path).state.theta, run.theta)
    assert list(tmp_path.iterdir()) == [path]


def test_a_name_that_the_run_chose_itself_gives_way(tmp_path):
    e, path = Experiment.from_settings(SMALL), tmp_path / "run.h5"
    path.write_text("in the meantime")
    run = build(e, assignment_matrix(e))
    done = conduct(run, run.simulate(), ENVIRONMENT, output=Output(path, "rename"))
    assert done.path == tmp_path / "run-2.h5"
    assert recording.read(done.path).status == "complete"
    assert path.read_text() == "in the meantime"


def test_a_run_whose_file_was_overwritten_keeps_its_result(tmp_path, capsys):
    """Both results are there, and the run says where the second one is."""
    e, path = Experiment.from_settings(SMALL), tmp_path / "run.h5"

    def overwrite(row):
        if row.iteration == 1:
            gcmpi.simulate(e.change({"seed": 1}), output=path, overwrite=True)

    run = gcmpi.simulate(e, output=path, observer=overwrite)
    assert run.path == tmp_path / "run-2.h5"
    assert "is another run's by now" in capsys.readouterr().err
    for file, seed in ((path, 1), (run.path, 0)):
        found = recording.read(file)
        assert (found.status, Experiment.from_toml(found.experiment).seed) == ("complete", seed)


@pytest.mark.parametrize("links", [True, False])
def test_of_many_processes_one_gets_the_name(tmp_path, links):
    """Four at the same moment, on file systems with and without hard links."""
    target = tmp_path / "run.h5"
    script = (
        "import sys, time, pathlib\n"
        "from gcmpi.records import TakenError, claim\n"
        "def none(self, other): raise OSError('no hard links')\n"
        f"if not {links}: pathlib.Path.hardlink_to = none\n"
        "mine = pathlib.Path(sys.argv[1]); mine.write_text(mine.name)\n"
        "sys.stdin.readline()\n"
        "try: claim(mine, mine.with_name('run.h5'))\n"
        "except TakenError: sys.exit(4)\n"
    )
    jobs = [
        subprocess.Popen(
            [sys.executable, "-c", script, tmp_path / str(i)], stdin=subprocess.PIPE, text=True
        )
        for i in range(4)
    ]
    for job in jobs:
        job.stdin.write("\n")
        job.stdin.flush()
    codes = []
    for job in jobs:
        job.communicate(timeout=60)
        codes.append(job.returncode)
    assert sorted(codes) == [0, 4, 4, 4]
    assert target.read_text() == str(codes.index(0))


# what a resume keeps of the start


def test_commands_of_start_and_resumes_stay(tmp_path):
    e = Experiment.from_settings(SMALL)
    path = tmp_path / "run.h5"
    whole = gcmpi.simulate(e)

    class Interrupt:
        asked = False

    stops = iter((2, 5, None))
    for number, stop in enumerate(stops):
        interrupt, run = Interrupt(), build(e, assignment_matrix(e))
        earlier = recording.read(path) if number else None

        def ask(row, interrupt=interrupt, stop=stop):
            interrupt.asked = row.iteration == stop

        done = conduct(
            run,
            run.simulate(),
            ENVIRONMENT | {"command": f"command {number}", "git_commit": str(number)},
            earlier=earlier,
            observer=ask,
            output=Output(path, "replace" if number else "refuse"),
            interrupt=interrupt,
        )
        assert done.status == ("interrupted" if stop else "complete")
    file = recording.read(path)
    assert (file.command, file.environment["git_commit"]) == ("command 0", "0")
    assert [(x["command"], x["git_commit"], x["iteration"]) for x in file.resumed] == [
        ("command 1", "1", "3"),
        ("command 2", "2", "6"),
    ]
    np.testing.assert_array_equal(file.state.theta, whole.theta)
    for name in file.columns.keys() - {"seconds", "decode_seconds", "update_seconds"}:
        np.testing.assert_array_equal(file.columns[name], whole[name], err_msg=name)
