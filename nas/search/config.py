"""The part ``search`` of a run file: how architectures are proposed, stopped early and repeated."""

from typing import Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field

from nas.search.rungs import Scheme, ladders
from search_spaces.yamlfile import MAX_SEED

SamplerName: TypeAlias = Literal["default", "tpe", "nsga2", "gp", "random", "regularized_evolution"]

MOST_TO_DECIDE = 100.0


class SearchConfig(BaseModel):
    """The run file's ``search``."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    trials: int = Field(
        default=60,
        ge=1,
        le=1_000_000,
        description="Number of architectures to train, including the baselines, which are always trained.",
    )
    sampler: SamplerName = Field(default="default", description="The sampler that proposes architectures.")
    seed: int = Field(default=0, ge=0, le=MAX_SEED, description="Seed of the proposals and of every trial's training.")
    stopping: Scheme = Field(default="mo_asha", description="Scheme that stops trials early.")
    eta: int = Field(default=3, ge=2, le=100, description="At a rung, 1/eta of the trials are promoted.")
    min_epochs: int = Field(default=1, ge=1, le=10_000, description="Smallest number of epochs of the first rung.")
    repeat: bool = Field(default=False, description="Train an architecture again when it is proposed again.")
    decide: float = Field(
        default=0.25,
        ge=0,
        le=MOST_TO_DECIDE,
        description="Epochs after the search for trainings with new seeds, as a share of the search's epochs. They go "
        "where they make the answer more certain, and end when it is decided; 0: none.",
    )

    def brackets(self, epochs: int) -> tuple[tuple[int, ...], ...]:
        """For each bracket the rungs of its trials, whose full length is `epochs` (`nas.search.rungs.ladders`)."""
        return ladders(self.stopping, epochs, self.min_epochs, self.eta)

    def target(self, launched: int, baselines_left: int) -> int:
        """The number of trials that a run will have: `trials`, or more if the baselines are more.

        ``launched``: trials so far; ``baselines_left``: baselines that were not yet proposed.
        """
        return max(self.trials, launched + baselines_left)
