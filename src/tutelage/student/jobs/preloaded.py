"""What every worker needs, imported once by the process that workers are forked from.

Nothing here may start a thread or touch a GPU: neither survives a fork.
"""

from __future__ import annotations

import gc

import transformers.models.auto  # noqa: F401
from transformers import PreTrainedModel, PreTrainedTokenizerFast  # noqa: F401

import tutelage.student.training.trainer  # noqa: F401

# What was imported stays: a worker's garbage collector need not look at it, nor copy its pages.
gc.collect()
gc.freeze()
