"""The mathematics of gradient codes: it never hears of time, data or MPI."""
