"""Keys of encrypted volumes: made with the volume, kept encrypted in its row, and told to the node that has it.

Whoever deletes the row has destroyed the data, wherever copies of the file are.
"""

import secrets
from collections.abc import Collection
from typing import Final

import structlog
from cryptography.fernet import InvalidToken
from sqlmodel import Session

from coordinator.domain.volume import VolumeStatus
from coordinator.errors import ParameterInvalid, ResourceNotFound, StatusUnsupported
from coordinator.runtime import Runtime
from coordinator.secret import SecretKeyInvalid
from coordinator.store.queries.migration import is_coming
from coordinator.store.queries.volume import find_by_uuid, list_outermost_keys
from coordinator.store.tables import Instance, Volume

_KEY_BYTES: Final = 32
_NOT_OPENED_ZH: Final = "secret.key无法解开云盘密钥"

log = structlog.get_logger(__name__)


def make_key(runtime: Runtime, volume_type: str, *, always: bool = False) -> str:
    """A new key, itself encrypted, for a volume of this type; empty, unless `always`: such are not encrypted."""
    if not always and volume_type not in runtime.settings.encrypted_volume_types:
        return ""
    return runtime.secrets.encrypt(secrets.token_urlsafe(_KEY_BYTES))


def read_for_node(runtime: Runtime, node_id: str, uuid: str) -> str:
    """The passphrase of a volume that the node has, makes or receives; ResourceNotFound for all others."""
    with runtime.database.read() as session:
        volume = find_by_uuid(session, uuid)
        if volume is None or not volume.is_encrypted or not _belongs_to(session, volume, node_id):
            raise ResourceNotFound("key of volume", uuid)
    try:
        passphrase = runtime.secrets.decrypt(volume.encryption_key)
    except InvalidToken:
        raise StatusUnsupported(f"secret.key does not open the key of volume {uuid}", _NOT_OPENED_ZH) from None
    log.info("volume_key.told", volumeUuid=uuid, nodeId=node_id)
    return passphrase


def check_keys(runtime: Runtime) -> None:
    """SecretKeyInvalid unless the coordinator's key opens those of volumes: it would only make new ones that differ."""
    with runtime.database.read() as session:
        wrapped = list_outermost_keys(session)
    for token in wrapped:
        try:
            runtime.secrets.decrypt(token)
        except InvalidToken:
            raise SecretKeyInvalid(
                "secret.key is not the one that keys of encrypted volumes were stored with: put that back"
            ) from None


def _belongs_to(session: Session, volume: Volume, node_id: str) -> bool:
    if volume.node_id == node_id:
        return True
    instance = session.get(Instance, volume.instance_id) if volume.instance_id else None
    if instance is None:
        # A new system that is being made: it is nobody's yet, nor anywhere.
        return volume.node_id is None and volume.status == VolumeStatus.CREATING
    return instance.node_id == node_id or is_coming(session, instance.id, node_id)


def require_plain(volumes: Collection[Volume], action: str, action_zh: str) -> None:
    """StatusUnsupported when one of the volumes is encrypted; it is named."""
    found = [volume.name for volume in volumes if volume.is_encrypted]
    if found:
        raise StatusUnsupported(
            f"volume {', '.join(found)} is encrypted, and {action}", f"云盘{'、'.join(found)}已加密，{action_zh}"
        )


def refuse_encrypted_type(runtime: Runtime, volume_type: str, field: str, reason: str, reason_zh: str) -> None:
    """ParameterInvalid where the type's volumes are encrypted."""
    if volume_type in runtime.settings.encrypted_volume_types:
        raise ParameterInvalid(
            field,
            f"volumes of type {volume_type} are encrypted, and {reason}",
            f"{volume_type}类型的云盘加密，{reason_zh}",
        )
