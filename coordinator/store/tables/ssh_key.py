"""SSH keys of tenants, and the instances that they open."""

from datetime import datetime

from sqlalchemy import UniqueConstraint
from sqlmodel import Field, SQLModel, Text

from coordinator.domain.ssh_key import BindingState
from coordinator.store.column import UtcDateTime
from coordinator.store.tables.base import Timestamped


class SshKey(Timestamped, table=True):
    """The public half of a key; nobody but its owner has the other one."""

    __tablename__ = "ssh_key"
    __table_args__ = (UniqueConstraint("tenant_id", "name"), UniqueConstraint("tenant_id", "fingerprint"))

    id: str = Field(primary_key=True, max_length=32)
    name: str = Field(max_length=127)
    # MD5 of the key, hexadecimal, as the API shows it.
    fingerprint: str = Field(max_length=32)
    # One line of OpenSSH's form: type, key, comment.
    public_key: str = Field(sa_type=Text)
    tenant_id: str = Field(foreign_key="tenant.id", max_length=19)
    department_id: str = Field(max_length=19)
    resource_group_id: str = Field(default="", max_length=19)


class SshKeyBinding(SQLModel, table=True):
    """A key that opens an instance, or that the instance's guest is still to forget."""

    __tablename__ = "ssh_key_binding"
    __table_args__ = (UniqueConstraint("instance_id", "ssh_key_id"),)

    id: int | None = Field(default=None, primary_key=True)
    # Not a foreign key: a guest that is off forgets a key that was deleted meanwhile.
    ssh_key_id: str = Field(max_length=32, index=True)
    instance_id: int = Field(foreign_key="instance.id")
    public_key: str = Field(sa_type=Text)
    # "yes" or "no": whether the guest takes passwords over SSH; empty: as it does by itself.
    password_auth: str = Field(default="", max_length=3)
    state: BindingState = Field(max_length=16, sa_type=Text, index=True)
    # The newest binding that says something about passwords is the one that counts.
    bound_at: datetime = Field(sa_type=UtcDateTime)
    # Attempts in a row to tell the guest that failed, and when the next one is due.
    failures: int = 0
    not_before: datetime | None = Field(default=None, sa_type=UtcDateTime)
