"""Make the encoding matrices that come with the package.

``python -m gcmpi.codes.encodings.search.ship`` does it.

Trained codes for the projective planes of order 2, 3, 4, 5, 7, 8, 9 with m = 1, 2, 3, in
``data`` beside this file, so that a run with 32 ranks starts without training. Those that are
there are kept, ``--again`` makes all anew: about nine minutes on one core.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

from threadpoolctl import threadpool_limits

from gcmpi.codes.encodings.search import store
from gcmpi.codes.encodings.trained import exact_trained
from gcmpi.registry import ASSIGNMENTS

ORDERS, MS = (2, 3, 4, 5, 7, 8, 9), (1, 2, 3)


def main(argv: list[str] | None = None) -> int:
    """Make the files; returns the exit status."""
    description = __doc__.partition("\n")[0] if __doc__ else None
    parser = argparse.ArgumentParser(
        prog="python -m gcmpi.codes.encodings.search.ship", description=description
    )
    parser.add_argument("--again", action="store_true", help="make all files anew")
    again = parser.parse_args(argv).again

    if again:
        shutil.rmtree(store.SHIPPED, ignore_errors=True)
    store.SHIPPED.mkdir(exist_ok=True)
    with threadpool_limits(1):  # the matrices are small
        for order in ORDERS:
            for m in MS:
                with tempfile.TemporaryDirectory() as scratch:
                    os.environ["XDG_CACHE_HOME"] = (
                        scratch  # what is not shipped yet is stored there
                    )
                    before = time.process_time()
                    exact_trained(ASSIGNMENTS.build(f"projective-plane:order={order}"), m)
                    for made in Path(scratch).glob("gcmpi/*.npz"):
                        shutil.move(made, store.SHIPPED / made.name)
                        seconds = time.process_time() - before
                        print(
                            f"plane of order {order}, m={m}: {made.name}, {seconds:.0f} s",
                            flush=True,
                        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
