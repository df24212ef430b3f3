"""Nodes that are lost are fenced: what ran there may be started elsewhere when one of the fences has confirmed."""

from datetime import datetime

from sqlmodel import Session

from coordinator.domain.fence import BmcKind
from coordinator.errors import ResourceNotFound
from coordinator.fencing.chain import FenceOutcome
from coordinator.fencing.model import BmcAccess, FenceSubject
from coordinator.runtime import Runtime
from coordinator.secret import SecretBox
from coordinator.store.queries.ha_setting import read_tolerance
from coordinator.store.tables import Bmc, Node


def fence_node(runtime: Runtime, node_id: str) -> FenceOutcome:
    """Makes sure that the node runs no highly available guest, or says why nobody can.

    Blocks for minutes at worst, in no transaction; may be repeated. For nodes that were given up: from then on their
    heartbeats are refused, so that they cannot go on unnoticed. ResourceNotFound.
    """
    with runtime.database.read() as session:
        subject = read_subject(session, runtime.secrets, node_id)
    return runtime.fences.confirm(subject)


def is_certainly_fenced(runtime: Runtime, node_id: str) -> bool:
    """Whether the node is lost, a fence has confirmed, and it was not heard of meanwhile. Blocks like `fence_node`."""
    lost_since = _read_loss(runtime, node_id)
    if lost_since is None or not fence_node(runtime, node_id).confirmed:
        return False
    return _read_loss(runtime, node_id) == lost_since


def read_subject(session: Session, secrets: SecretBox, node_id: str) -> FenceSubject:
    """The node as fences look at it. ResourceNotFound."""
    node = session.get(Node, node_id)
    if node is None:
        raise ResourceNotFound("node", node_id)
    bmc = session.get(Bmc, node_id)
    return FenceSubject(
        node_id=node.id,
        name=node.name,
        heard_at=node.heard_at,
        self_fence=node.self_fence,
        # The region's may be longer than what the node has heard of, or shorter.
        tolerance_seconds=max(node.ha_tolerance_seconds, read_tolerance(session)),
        bmc=open_access(bmc, secrets) if bmc else None,
    )


def open_access(bmc: Bmc, secrets: SecretBox) -> BmcAccess:
    """The controller with its password."""
    return BmcAccess(
        kind=BmcKind(bmc.kind),
        address=bmc.address,
        username=bmc.username,
        password=secrets.decrypt(bmc.password_encrypted),
        verify_tls=bmc.verify_tls,
    )


def _read_loss(runtime: Runtime, node_id: str) -> datetime | None:
    """When a node was heard of for the last time that is lost; None for one that is there, or never was."""
    with runtime.database.read() as session:
        node = session.get_one(Node, node_id)
        return None if node.ready else node.heard_at
