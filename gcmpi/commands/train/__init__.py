"""``gcmpi train``: the command line, what a run prints, and the exit status."""
