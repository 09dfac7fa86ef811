"""The fault program (`make chaos`) for some seconds: a handful of points, one kill at each."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from support.process import clean_environment


def test_killed_at_a_handful_of_points_no_rule_is_broken(tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "chaos.run", "--quick", "--seeds", "1"],
        env=clean_environment() | {"TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "inputs submitted more than once              0\n" in ended.stdout
