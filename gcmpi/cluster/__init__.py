"""Who is late, how long the server waits, and how messages travel: over MPI, or in one process."""
