"""What all commands share: their table, their command lines, what they say, completion in shells.

This package imports no numpy: ``--help`` and refusals are quick.
"""
