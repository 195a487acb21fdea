"""Running experiments from a program: `launch` over MPI, `simulate` in this process."""
