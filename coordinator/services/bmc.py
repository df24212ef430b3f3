"""Management controllers of nodes, as operators set them."""

from urllib.parse import urlsplit

import structlog

from coordinator.domain.caller import Caller
from coordinator.domain.fence import BmcKind
from coordinator.errors import BmcUnavailable, ParameterInvalid, ResourceNotFound
from coordinator.fencing.bmc import BmcUnreachable, read_power
from coordinator.fencing.ipmi_address import split_host
from coordinator.fencing.model import BmcAccess
from coordinator.fencing.node import open_access
from coordinator.runtime import Runtime
from coordinator.store.queries.node import lock_node
from coordinator.store.tables import Bmc

log = structlog.get_logger(__name__)


def get_bmc(runtime: Runtime, caller: Caller, node_id: str) -> Bmc:
    """The node's controller, its password still encrypted. ResourceNotFound."""
    with runtime.database.read() as session:
        bmc = session.get(Bmc, node_id)
    if bmc is None:
        raise ResourceNotFound("BMC of node", node_id)
    return bmc


def set_bmc(runtime: Runtime, caller: Caller, node_id: str, access: BmcAccess) -> Bmc:
    """The node is switched off through this controller from now on; nothing is asked of it. Idempotent."""
    _check_address(access)
    with runtime.database.write() as session:
        if lock_node(session, node_id) is None:
            raise ResourceNotFound("node", node_id)
        bmc = session.get(Bmc, node_id) or Bmc(node_id=node_id, kind="", address="", username="", password_encrypted="")
        bmc.kind, bmc.address, bmc.username = access.kind, access.address, access.username
        bmc.password_encrypted = runtime.secrets.encrypt(access.password)
        bmc.verify_tls = access.verify_tls
        session.add(bmc)
    log.info("bmc.set", nodeId=node_id, kind=access.kind, address=access.address, by=caller.token_id)
    return bmc


def delete_bmc(runtime: Runtime, caller: Caller, node_id: str) -> None:
    """The node has no controller any more, as far as is known. ResourceNotFound."""
    with runtime.database.write() as session:
        bmc = session.get(Bmc, node_id)
        if bmc is None:
            raise ResourceNotFound("BMC of node", node_id)
        session.delete(bmc)
    log.info("bmc.deleted", nodeId=node_id, by=caller.token_id)


def test_bmc(runtime: Runtime, caller: Caller, node_id: str) -> bool:
    """Whether the node's power is on, as its controller says now. ResourceNotFound, BmcUnavailable."""
    access = open_access(get_bmc(runtime, caller, node_id), runtime.secrets)
    try:
        return read_power(access)
    except BmcUnreachable as error:
        raise BmcUnavailable(f"the BMC at {access.address}: {error}", f"带外管理{access.address}：{error}") from error


def _check_address(access: BmcAccess) -> None:
    if access.kind is BmcKind.IPMI:
        wanted = "host or host:port", "格式为host或host:port"
        is_valid = "/" not in access.address
    else:
        wanted = "host, or a URL with https or http", "主机名，或以https、http开头的URL"
        is_valid = "://" not in access.address or access.address.startswith(("https://", "http://"))
    try:
        host = split_host(access.address)[0] if access.kind is BmcKind.IPMI else _host_of(access.address)
    except ValueError:
        host = ""
    if not is_valid or not host:
        raise ParameterInvalid("address", *wanted)


def _host_of(address: str) -> str:
    parts = urlsplit(address if "://" in address else f"https://{address}")
    # Credentials in it would be shown to everybody who may look at the address.
    return "" if "@" in parts.netloc or parts.port == 0 else parts.hostname or ""
