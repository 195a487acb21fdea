"""Look at gradient codes: ``python -m gcmpi.codes list|show|error|worst|compare|stability|find``.

No MPI.
"""
