"""How many vCPUs a host CPU stands for, where operators said so."""

from sqlmodel import Field, SQLModel


class CpuOvercommit(SQLModel, table=True):
    """The ratio of the region or of one zone; what has no row follows the configuration or the region."""

    __tablename__ = "cpu_overcommit"

    # Empty: the region.
    zone: str = Field(primary_key=True, max_length=63)
    ratio: int
