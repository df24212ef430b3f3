"""What commands use that run beside the coordinator or without one: no agent is called, no engine woken."""

from dataclasses import dataclass

from cryptography.fernet import Fernet

from coordinator.agents.client import AgentClients
from coordinator.config import Settings
from coordinator.runtime import Runtime
from coordinator.secret import SecretBox
from coordinator.store.database import Database


@dataclass(frozen=True, slots=True)
class _NoCredentials:
    """Nobody is called with these."""

    ca_pem: bytes = b""
    cert_pem: bytes = b""
    key_pem: bytes = b""


def make_offline_runtime(settings: Settings, database: Database) -> Runtime:
    """A runtime that writes nothing by itself; secrets that it encrypts cannot be decrypted later."""
    return Runtime(
        settings=settings,
        database=database,
        secrets=SecretBox(Fernet.generate_key()),
        agents=AgentClients(database, _NoCredentials()),
    )
