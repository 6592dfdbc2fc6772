from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def new_directory() -> Iterator[Path]:
    """Create a temporary directory and remove it afterwards.

    As root, the engines run as another user. They cannot use pytest's own directories, because
    each start of pytest makes the common parent inaccessible to other users.
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
    """One directory for all tests of a module."""
    with new_directory() as path:
        yield path
