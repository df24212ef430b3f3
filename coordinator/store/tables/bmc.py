"""Management controllers of nodes, through which they can be switched off whatever state they are in."""

from sqlmodel import Field

from coordinator.store.tables.base import Timestamped


class Bmc(Timestamped, table=True):
    """How one node's management controller is reached."""

    node_id: str = Field(primary_key=True, foreign_key="node.id", max_length=32)
    # A coordinator.domain.fence.BmcKind.
    kind: str = Field(max_length=16)
    # Redfish: a URL, with the path of the system where there are several; IPMI: host or host:port.
    address: str = Field(max_length=255)
    username: str = Field(max_length=63)
    # Encrypted with the coordinator's secret key.
    password_encrypted: str = Field(max_length=1024)
    verify_tls: bool = True
