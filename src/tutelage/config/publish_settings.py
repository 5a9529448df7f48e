"""The settings of `tutelage publish`."""

from __future__ import annotations

from pydantic import Field

from tutelage.config.settings import Settings, Text


class PublishSettings(Settings):
    """How a model, and the data that it learnt from, are published."""

    licence: Text | None = Field(
        None,
        description="Licence of the weights, as the hub names it. Default: what the card's own "
        "header says.",
        examples=["apache-2.0"],
    )
    data_licence: Text | None = Field(
        None,
        description="Licence of the data that the model learnt from, for its card.",
        examples=["cc-by-nc-4.0"],
    )
    data: Text | None = Field(
        None,
        description="Where the training rows go with their rationales and a card of their own: a "
        "folder, or `hf:OWNER/NAME`. Only of a run. Default: nowhere.",
        examples=["hf:me/reviews-with-reasons"],
    )
    public: bool = Field(
        False, description="Make a new repository of the hub public.", examples=[True]
    )
