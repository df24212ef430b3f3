"""Settings of the region."""

from typing import Any

from sqlmodel import JSON, Field, SQLModel


class RegionSetting(SQLModel, table=True):
    """Something that operators set for the whole region; what has no row follows the configuration."""

    __tablename__ = "region_setting"

    name: str = Field(primary_key=True, max_length=63)
    value: Any = Field(sa_type=JSON)
