"""Every family of docs/students.md: trained, saved, loaded, scored, compared with transformers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.student.bare import Bare
from tests.student.families import REFUSED, STUDENTS, Family, make_folder
from tutelage.config.training_settings import TrainSettings
from tutelage.core.errors import StudentError
from tutelage.core.task import NLI
from tutelage.core.types import Example, Rationale
from tutelage.data.synthetic import generate as synthetic
from tutelage.student.encoding.batching import collate
from tutelage.student.encoding.targets import build_training_examples
from tutelage.student.encoding.tokenise import encode_examples, encode_prompts
from tutelage.student.inference.generate import generate
from tutelage.student.inference.score import score_labels
from tutelage.student.model.loading import load_student
from tutelage.student.model.precision import prepare
from tutelage.student.preflight.examine import examine_student
from tutelage.student.training.loss import batch_loss
from tutelage.student.training.trainer import train
