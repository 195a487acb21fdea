"""Reads run files and draws figures and tables: scripts to run from the root of the repository."""
