"""Loads a classifier: a pretrained model with transformers' sequence-classification head.

It learns labels alone and writes no text, so that an encoder will do. To the rest of the code it is
a student whose targets are one token long, and whose vocabulary is the labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from tutelage.core.errors import StudentError
from tutelage.student.model.student import Student
from tutelage.student.model.weights import (
    check_complete,
    check_finite,
    describe_unexpected,
    load_weights,
    loading,
    read_config,
)

USUAL_WIDTH = 768
"""Width of BERT-base, for which the usual learning rates of classifiers are."""

WHICH_CLASSIFIER = "choose an encoder, such as answerdotai/ModernBERT-base"


def load_classifier(spec: str, config: Any, tokenizer: Any, seed: int) -> Student:
    """The model that `spec` names, with a head that chooses a label.

    spec:   a hub name or a folder; a checkpoint of a classifier that was trained here keeps its
            head, any other gets a new one
    config: from `classifier_config`
    seed:   of the new head

    Raises StudentError where the model's own weights are not all there.
    """
    from transformers import AutoModelForSequenceClassification as kind

    if config.pad_token_id is None:
        config.pad_token_id = tokenizer.pad_token_id
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model, missing, unexpected = load_weights(spec, spec, config, {}, kind)
    check_finite(spec, model)
    trained_here = is_classifier(config)
    known = _own_weights(spec, config)
    own = [name for name in missing if trained_here or name in known]
    check_complete(spec, own, unexpected)
    setattr(model.config, _MARK, True)
    student = Student(model, tokenizer, "classifier")
    # A head for writing text, or for other labels, is what the new one takes the place of.
    base = model.base_model_prefix + "."
    student.notes = describe_unexpected([n for n in unexpected if n.startswith(base)])
    return student


def classifier_config(spec: str, labels: Sequence[str]) -> Any:
    """The configuration of a classifier with these labels.

    Raises StudentError for a model that transformers has no such head for.
    """
    from transformers import AutoModelForSequenceClassification as kind

    config = read_config(spec, spec, {})
    if type(config) not in kind._model_mapping:
        raise StudentError(
            f"student {spec!r}: transformers has no classification head for {config.model_type} "
            f"models: {WHICH_CLASSIFIER}"
        )
    if not is_classifier(config):
        config.id2label = dict(enumerate(labels))
        config.label2id = {label: place for place, label in enumerate(labels)}
    return config


_MARK = "tutelage_classifier"
"""Name under which the configuration of a classifier that was trained here says that it is one."""


def is_classifier(config: Any) -> bool:
    """Whether this is the configuration of a classifier that was trained here."""
    return bool(getattr(config, _MARK, False))


def usual_rates(rates: Sequence[float], width: int) -> tuple[float, ...]:
    """The usual learning rates for a model of this width (its hidden size): those of BERT-base,
    and for a narrower model these times 768 / width, rounded to two digits.

    Narrow models take larger rates, about in inverse proportion: 3e-5 to 3e-4 for the published
    BERT of width 128 (google/bert_uncased_L-2_H-128_A-2), the factor of 6 that this gives.
    """
    factor = max(USUAL_WIDTH / width, 1.0)
    return tuple(float(f"{rate * factor:.2g}") for rate in rates)


def _own_weights(spec: str, config: Any) -> set[str]:
    """Names of the weights that the files must hold: those of the kind of model that they were
    saved from, as its configuration names it; the model without a head where it names none.

    A pooling layer, for example, is missing from most encoders that were trained to fill gaps, and
    is as new as the head.
    """
    import transformers

    def build() -> Any:
        for name in config.architectures or ():
            kind: Any = getattr(transformers, name, None)
            if hasattr(kind, "_from_config"):
                return kind._from_config(config)
        return transformers.AutoModel.from_config(config, trust_remote_code=False)

    with torch.device("meta"):
        model = loading(spec, build)
    base = model.base_model_prefix + "."
    names = [name for name, _ in model.named_parameters()]
    if model.base_model is model:
        return {base + name for name in names}
    # Of a head the files may hold any, or none: a new one takes its place.
    return {name for name in names if name.startswith(base)}
