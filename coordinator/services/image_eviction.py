"""Images that were deleted leave the caches of nodes."""

from collections.abc import Sequence

import structlog
from sqlmodel import col, select

from coordinator.agents.client import AgentCallError, AgentClient
from coordinator.runtime import Runtime
from coordinator.store.tables import Image, Node

log = structlog.get_logger(__name__)


def evict_deleted_images(runtime: Runtime) -> None:
    """No node that is there keeps an image that was deleted, unless a volume needs it; one that is away waits."""
    with runtime.database.read() as session:
        node_ids = session.exec(select(Node.id).where(col(Node.ready))).all()
    for node_id in node_ids:
        agent = runtime.agents.of(node_id)
        try:
            cached = runtime.agents.call_sync(agent.list_cached_images())
            for image_id in _list_deleted(runtime, cached):
                _evict(runtime, agent, image_id)
        except AgentCallError as error:
            log.info("images.node_not_asked", nodeId=node_id, reason=error.message)


def _list_deleted(runtime: Runtime, image_ids: Sequence[str]) -> list[str]:
    """Those that are known to be deleted: of one that is not known at all another coordinator may tell."""
    with runtime.database.read() as session:
        is_deleted = col(Image.deleted_at).is_not(None)
        return list(session.exec(select(Image.id).where(col(Image.id).in_(image_ids), is_deleted)))


def _evict(runtime: Runtime, agent: AgentClient, image_id: str) -> None:
    try:
        runtime.agents.call_sync(agent.ensure_image_evicted(image_id))
    except AgentCallError as error:
        if error.code != "ImageInUse":  # kept volumes stand on it
            raise
