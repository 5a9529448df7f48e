"""Tests of commands talk to the servers that the teacher's tests have."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "teacher"))
