"""The main job as a ReFrame test: ``reframe --checkpath jobs/reframe_train.py --run``.

For ReFrame 4 (``pip install reframe-hpc``) with the configuration file of your site, whose launcher
has to suit the MPI library: with srun and MPICH, ``export SLURM_MPI_TYPE=pmi2`` before. For another
number of ranks add ``-S ranks=14 -S assignment=projective-plane:order=3``.
"""

import json
from typing import Any

import reframe
from reframe.core.builtins import performance_function, run_after, sanity_function, variable
from reframe.utility import sanity


@reframe.simple_test
class TrainTest(reframe.RunOnlyRegressionTest):
    """Train, and read the figures of the last line, ``RESULT {json}``."""

    descr = "Coded training over MPI: valid, and how fast"
    ranks = variable(int, value=32)
    assignment = variable(str, value="projective-plane:order=5")
    executable = "python"
    num_cpus_per_task = 1
    time_limit = "30m"

    @run_after("init")
    def set_command(self) -> None:
        """Run anywhere, on so many ranks, with this command line."""
        self.valid_systems, self.valid_prog_environs = ["*"], ["*"]
        self.num_tasks = self.ranks
        self.executable_opts = ["-m", "gcmpi.train", "--assignment", self.assignment]

    def figure(self, name: str) -> Any:
        """Return a figure of the result, when the job has run."""
        return sanity.extractsingle(r"^RESULT (.+)$", self.stdout, 1, json.loads)[name]

    @sanity_function
    def is_valid(self) -> Any:
        """Check the verdict that the run gives of itself."""
        return sanity.assert_true(self.figure("valid"), msg="the run is not valid")

    @performance_function("ms")
    def iteration(self) -> Any:
        """Return the median time of an iteration."""
        return self.figure("iteration_p50_ms")

    @performance_function("s")
    def training(self) -> Any:
        """Return the time of all iterations."""
        return self.figure("seconds")

    @performance_function("1")
    def accuracy(self) -> Any:
        """Return the test accuracy at the end."""
        return self.figure("accuracy")
