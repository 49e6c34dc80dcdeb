"""The part of a run file that decides what is tried, for how long, and how often."""

from typing import Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field

from nas.search.rungs import Scheme
from search_spaces.yamlfile import MAX_SEED

SamplerName: TypeAlias = Literal["default", "tpe", "nsga2", "gp", "random", "regularized_evolution"]


class SearchConfig(BaseModel):
    """The run file's ``search``."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    trials: int = Field(
        default=60, ge=1, le=1_000_000, description="Architectures to train, hand placements among them."
    )
    sampler: SamplerName = Field(default="default", description="Who proposes architectures.")
    seed: int = Field(default=0, ge=0, le=MAX_SEED, description="Of the proposals and of the training of every trial.")
    stopping: Scheme = Field(default="mo_asha", description="How the poor are stopped early.")
    eta: int = Field(default=3, ge=2, le=100, description="One in eta goes on at a rung.")
    min_epochs: int = Field(default=1, ge=1, le=10_000, description="Epochs before the first rung, at least.")
    repeat: bool = Field(default=False, description="Train an architecture again when it is proposed again.")
    finalists: int = Field(
        default=8,
        ge=0,
        le=1000,
        description="Members of the front to train again, at most. The best by hand is another.",
    )
    finalist_seeds: int = Field(default=2, ge=0, le=1000, description="Further seeds for each finalist; 0: none.")
