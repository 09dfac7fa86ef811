"""For all tests."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import botocore.loaders
import botocore.session
import pytest

IN_MEMORY = Path("/dev/shm")  # a file system
ROOM = 1 << 30
TEMP_ROOT = "PYTEST_DEBUG_TEMPROOT"


def pytest_configure() -> None:
    """Temporary folders lie in memory where there is room: SQLite waits for the disk at every commit, and
    together these waits took longer than all tests. Whoever names a place gets that."""
    if TEMP_ROOT in os.environ or not os.access(IN_MEMORY, os.W_OK):
        return
    if shutil.disk_usage(IN_MEMORY).free >= ROOM:
        os.environ[TEMP_ROOT] = str(IN_MEMORY)


@pytest.fixture(scope="session", autouse=True)
def _one_loader() -> Iterator[None]:
    """botocore reads its descriptions of services (megabytes of JSON) anew for each session: here once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(botocore.session, "create_loader", cache(botocore.loaders.create_loader))
        yield
