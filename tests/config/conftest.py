from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def new_directory() -> Iterator[Path]:
    """A directory that is gone afterwards.

    As root the engines run as another user. pytest's own directories are no place for them: each
    start of pytest closes the common parent to all others.
    """
    path = Path(tempfile.mkdtemp(prefix="alterna-test-")).resolve()
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    with new_directory() as path:
        yield path


@pytest.fixture(scope="module")
def directory() -> Iterator[Path]:
    """One for all tests of a module."""
    with new_directory() as path:
        yield path
