"""Base class of the skeleton families."""

from abc import abstractmethod

from pydantic import BaseModel, ConfigDict, Field

from search_spaces.sites import Block


class Skeleton(BaseModel):
    """A network without attention: its sizes and, by `blocks`, its open slots.

    Fields that follow from other fields are filled in at construction, so that equal networks have equal fields.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    family: str
    image_size: int = Field(ge=1, le=16_384, description="side of the (square) input image in pixels")
    num_classes: int = Field(ge=2, le=1_000_000)
    in_channels: int = Field(default=3, ge=1, le=4096, description="channels of the input image")

    @abstractmethod
    def blocks(self) -> tuple[Block, ...]:
        """The blocks in the order of the forward pass, with all open slots."""
