"""Makes the process that imports it ignore Ctrl-C.

For the process that workers are forked from, which imports it before anything else: Ctrl-C reaches
all processes of a terminal, and the parent decides. A worker has it so from its first moment.
"""

from __future__ import annotations

import signal

signal.signal(signal.SIGINT, signal.SIG_IGN)
