"""What operators set for the whole region."""

from typing import Any

from sqlmodel import JSON, Field, SQLModel


class RegionSetting(SQLModel, table=True):
    """One setting; what has no row has its default."""

    __tablename__ = "region_setting"

    name: str = Field(primary_key=True, max_length=63)
    value: Any = Field(sa_type=JSON)
