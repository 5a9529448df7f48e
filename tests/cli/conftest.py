"""Makes the servers and the layouts of other rooms' tests importable for those of commands."""

from __future__ import annotations

import sys
from pathlib import Path

for _room in ("teacher", "data"):
    sys.path.append(str(Path(__file__).parents[1] / _room))
sys.path.append(str(Path(__file__).parents[1]))
