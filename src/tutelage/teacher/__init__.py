"""Whoever answers: servers, local models, recordings; and the ledger that keeps what they said."""

from __future__ import annotations

from tutelage.teacher.annotate import Annotation, Progress, annotate
from tutelage.teacher.base import QuestionFailedError, Teacher, TeacherSettings, open_teacher
from tutelage.teacher.ledger import Ledger

__all__ = [
    "Annotation",
    "Ledger",
    "Progress",
    "QuestionFailedError",
    "Teacher",
    "TeacherSettings",
    "annotate",
    "open_teacher",
]
