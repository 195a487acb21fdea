"""Searching for good coefficients: descent, objectives, straggler sets, and what is kept of it."""
