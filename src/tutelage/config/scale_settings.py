"""Where the work is done: in this process, or by workers of a Ray cluster."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from tutelage.config.settings import Integer, Settings, Text


class ScaleSettings(Settings):
    """Where the work is done."""

    engine: Literal["local", "ray"] = Field(
        "local",
        description="`local`: this process. `ray`: workers of a Ray cluster, with the same output "
        "(extra `scale`).",
        examples=["ray"],
    )
    workers: Integer = Field(
        1,
        ge=1,
        description="Processes that work at a time, each with all of a teacher's `concurrency`. "
        "The output does not depend on it.",
        examples=[8],
    )
    ray_address: Text | None = Field(
        None,
        description="The cluster, as `ray.init` takes it: `auto` on one of its machines. Default: "
        "one is started on this machine.",
        examples=["auto"],
    )
    shared_folder: Text | None = Field(
        None,
        description="A folder that all machines see, for blocks of rows and what workers have "
        "made of them. Default: next to the ledger, or to the predictions.",
        examples=["/mnt/shared/tutelage"],
    )
    worker_folder: Text | None = Field(
        None,
        description="A folder on each machine's own disk, for answers that no shard holds yet. "
        "Default: the system's folder for temporary files.",
        examples=["/local/scratch"],
    )
    rows_per_block: Integer = Field(
        1000,
        ge=1,
        description="Rows that a worker gets at once, at most.",
        examples=[200],
    )

    @model_validator(mode="after")
    def _for_workers(self) -> Self:
        if self.engine == "local":
            given = [n for n in _RAY if getattr(self, n) != type(self).model_fields[n].default]
            if given:
                raise ValueError(f"{given[0]} is for workers of a cluster: add engine: ray")
        return self


_RAY = ("ray_address", "shared_folder", "worker_folder", "rows_per_block")
