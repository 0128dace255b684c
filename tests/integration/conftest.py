# SPDX-License-Identifier: Apache-2.0
"""Other systems' daemons run here as other users, too."""
import pathlib
import shutil
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "scenario"))
from instance import reachable_directory  # noqa: E402


@pytest.fixture
def tmp_path():
    path = reachable_directory()
    yield path
    shutil.rmtree(path, ignore_errors=True)
