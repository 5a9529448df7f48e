"""What is only about speed: without it a student gives the same results up to rounding.

`fast: auto` in a recipe uses all parts below where they apply; `fast: off` runs transformers' own
code alone. docs/performance.md has what each part is worth.

    attention   plain matrix products instead of the fused kernel, on CPUs
    dropout     dropout layers whose random numbers are cheap, on CPUs
    memory      freed memory is kept for the next step, on CPUs
    head        the output head and its cross-entropy as one operation
    threads     several micro-batches at once, each on CPU threads of its own
"""

from __future__ import annotations

from typing import Any

PARTS: frozenset[str] = frozenset({"attention", "dropout", "memory", "head", "threads"})
"""The parts that `fast: auto` uses. A benchmark takes one away to measure it."""


def prepare_model(model: Any) -> None:
    """Give `model`, which runs on a CPU, the parts that change its modules."""
    from tutelage.student.fast.dropout import use_fast_dropout
    from tutelage.student.fast.memory import keep_freed_memory

    if "attention" in PARTS:
        # On CPUs the backward pass of the fused kernel is slower than plain matrix products.
        model.set_attn_implementation("eager")
    if "dropout" in PARTS:
        use_fast_dropout(model)
    if "memory" in PARTS:
        keep_freed_memory()
