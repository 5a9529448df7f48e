"""What is done with rationales between the teacher and the student."""

from __future__ import annotations

from tutelage.rationales.controls import filler, label_echo, shuffled

__all__ = ["filler", "label_echo", "shuffled"]
