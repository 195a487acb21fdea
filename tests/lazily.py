"""Frameworks that tests need, imported when a test first uses them, not while pytest collects."""

from __future__ import annotations

import importlib
import importlib.util
from typing import Any

import pytest


class Lazily:
    """A module that is imported when one of its names is first used."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __getattr__(self, name: str) -> Any:
        """Return what the module calls so; pytest asks all that it collects for private names."""
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(importlib.import_module(self.name), name)


def needs(name: str, install: str) -> pytest.MarkDecorator:
    """Return a mark that skips tests where a module is not installed."""
    missing = importlib.util.find_spec(name) is None
    return pytest.mark.skipif(missing, reason=f"{name} is not installed: pip install {install}")
