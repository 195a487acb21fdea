"""Tests that run inside the ranks of an MPI job."""
