"""Transports: `gcmpi.comm.mpi` between ranks, `gcmpi.comm.simulated` in one process."""
