"""Images that were deleted leave the caches of nodes."""

import asyncio
from collections.abc import Sequence
from typing import Final

import structlog
from sqlmodel import col, select

from coordinator.agents.client import AgentCallError, AgentClient
from coordinator.runtime import Runtime
from coordinator.store.tables import Image, Node

# Nodes that are asked at the same time: one that does not answer keeps the others waiting no more than its place does.
_AT_ONCE: Final = 16
# Of a round; who was not asked in it is asked in the next.
_ROUND_SECONDS: Final = 300.0

log = structlog.get_logger(__name__)


def evict_deleted_images(runtime: Runtime) -> None:
    """No node that is there keeps an image that was deleted, unless a volume needs it; one that is away waits."""
    with runtime.database.read() as session:
        node_ids = session.exec(select(Node.id).where(col(Node.ready))).all()
    try:
        runtime.agents.call_sync(_visit_all(runtime, node_ids), _ROUND_SECONDS)
    except AgentCallError as error:
        log.warning("images.round_not_finished", nodes=len(node_ids), reason=error.message)


async def _visit_all(runtime: Runtime, node_ids: Sequence[str]) -> None:
    places = asyncio.Semaphore(_AT_ONCE)

    async def visit(node_id: str) -> None:
        async with places:
            try:
                await _visit(runtime, runtime.agents.of(node_id))
            except AgentCallError as error:
                log.info("images.node_not_asked", nodeId=node_id, reason=error.message)

    await asyncio.gather(*map(visit, node_ids))


async def _visit(runtime: Runtime, agent: AgentClient) -> None:
    if cached := await agent.list_cached_images():
        for image_id in await asyncio.to_thread(_list_deleted, runtime, cached):
            await _evict(agent, image_id)


def _list_deleted(runtime: Runtime, image_ids: Sequence[str]) -> list[str]:
    """Those that are known to be deleted: of one that is not known at all another coordinator may tell."""
    with runtime.database.read() as session:
        is_deleted = col(Image.deleted_at).is_not(None)
        return list(session.exec(select(Image.id).where(col(Image.id).in_(image_ids), is_deleted)))


async def _evict(agent: AgentClient, image_id: str) -> None:
    try:
        await agent.ensure_image_evicted(image_id)
    except AgentCallError as error:
        if error.code != "ImageInUse":  # kept volumes stand on it
            raise
