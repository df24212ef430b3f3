"""Images from which system disks are made."""

from datetime import datetime

from sqlmodel import BigInteger, Field, Text

from coordinator.store.column import UtcDateTime
from coordinator.store.tables.base import Timestamped


class Image(Timestamped, table=True):
    """One image; its file lies in the coordinator's image directory under its id once it is Active.

    The row stays after deletion, with `deleted_at` set: deleted instances refer to it.
    """

    id: str = Field(primary_key=True, max_length=32)
    deleted_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    name: str = Field(max_length=127, index=True)
    # None: belongs to the cloud (public).
    tenant_id: str | None = Field(default=None, foreign_key="tenant.id", index=True)
    # "public" or "private".
    visibility: str = Field(max_length=16)
    # "raw", "qcow2" or "iso".
    format: str = Field(max_length=8)
    # "x86" or "arm".
    cpu_arch: str = Field(max_length=8)
    os_type: str = Field(default="linux", max_length=16)
    platform: str = Field(default="", max_length=63)
    os_version: str = Field(default="", max_length=63)
    # "Queued", "Importing", "Active" or "Error".
    status: str = Field(max_length=16)
    error_message: str = Field(default="", max_length=1023)
    size_bytes: int = Field(default=0, sa_type=BigInteger)
    virtual_size_bytes: int = Field(default=0, sa_type=BigInteger)
    # Checked while the bytes arrive; empty until Active when the caller gave none.
    sha256: str = Field(default="", max_length=64)
    source_url: str = Field(default="", max_length=1023)
    # Consistency of what it holds, when it was made of an instance or of a snapshot; empty: it was not.
    consistency: str = Field(default="", sa_type=Text)
    # What people should know before they use it.
    warning: str = Field(default="", sa_type=Text)
