"""Makes the servers of the teacher's tests importable for the tests of doctor."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "teacher"))
