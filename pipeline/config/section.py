"""What every section of a study is made of."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Fraction = Annotated[float, Field(gt=0, lt=1)]
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
"""As numpy takes it."""


class Section(BaseModel):
    """Settings that are read once and never change; an unknown key or a number without end is refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
