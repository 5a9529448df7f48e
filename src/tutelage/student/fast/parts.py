"""The parts of `student.fast`: code that only makes students faster.

With `fast: auto` a student on a CPU uses all of them; on a GPU none is used. With `fast: off`
nothing in this package is called, and the model's modules are transformers' own. Results differ by
rounding and by the random numbers of dropout. docs/performance.md has the gain of each part.

    attention   plain matrix products instead of the fused kernel
    dropout     dropout layers whose random numbers are cheap to draw
    memory      freed memory is kept for the next step
    threads     several micro-batches at once, each on CPU threads of its own
"""

from __future__ import annotations

from typing import Any

PARTS: frozenset[str] = frozenset({"attention", "dropout", "memory", "threads"})
"""The parts that `fast: auto` uses. A benchmark removes one at a time to measure it."""


def prepare_model(model: Any) -> None:
    """Apply the parts that change a model, or its process, before it runs on a CPU."""
    from tutelage.student.fast.dropout import use_fast_dropout
    from tutelage.student.fast.memory import keep_freed_memory

    if "attention" in PARTS:
        # On CPUs the backward pass of the fused kernel is slower than plain matrix products.
        model.set_attn_implementation("eager")
    if "dropout" in PARTS:
        use_fast_dropout(model)
    if "memory" in PARTS:
        keep_freed_memory()
