"""Processes rationales between the teacher and the student."""
