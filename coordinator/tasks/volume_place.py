"""Which volumes of an instance another node shares: told by where they are, not by where their types are made now.

What is copied is removed from the node that is left, or from one that it has not come to: of what both nodes share that
would be the only copy. So it is looked up once, before anything is done, and stored with the move.
"""

import asyncio
from collections.abc import Mapping, Sequence

from sqlmodel import Session

from coordinator.domain.space import places_of
from coordinator.store.queries import instance as instance_query
from coordinator.store.queries import migration as migration_query
from coordinator.store.tables import Node, Volume
from coordinator.tasks.instance_step import Args, load_instance
from coordinator.tasks.model import StepContext


async def find_copied(context: StepContext) -> None:
    """Stores which volumes the target does not share. May be repeated: what was found first counts."""
    if "sharesStorage" in context.args:  # submitted by an earlier version
        return
    uuids = await asyncio.to_thread(_list_undecided, context)
    if uuids is None:
        return
    found = await context.runtime.agents.of(context.args["sourceNodeId"]).locate_volumes(uuids) if uuids else {}
    await asyncio.to_thread(_store, context, found)


async def read_copied(context: StepContext, volumes: Sequence[Volume]) -> list[Volume]:
    """Those of the volumes that are copied."""

    def read() -> list[Volume]:
        with context.runtime.database.read() as session:
            return choose_copied(session, context.args, volumes)

    return await asyncio.to_thread(read)


def choose_copied(session: Session, args: Args, volumes: Sequence[Volume]) -> list[Volume]:
    """The same."""
    if "sharesStorage" in args:
        return [] if args["sharesStorage"] else list(volumes)
    copied = migration_query.get_migration(session, args["migrationId"]).copied or ()
    return [volume for volume in volumes if volume.uuid in copied]


def _list_undecided(context: StepContext) -> list[str] | None:
    """UUIDs of the volumes that the source is to be asked for; None when it is known what is copied."""
    args = context.args
    with context.runtime.database.read() as session:
        if migration_query.get_migration(session, args["migrationId"]).copied is not None:
            return None
        if not _tell_places(session, args):
            return []
        return [volume.uuid for volume in instance_query.list_volumes(session, load_instance(session, args))]


def _tell_places(session: Session, args: Args) -> bool:
    """Whether both nodes tell of their places."""
    return all(session.get_one(Node, args[name]).storages for name in ("sourceNodeId", "targetNodeId"))


def _store(context: StepContext, found: Mapping[str, str]) -> None:
    args = context.args
    with context.runtime.database.write() as session:
        migration = migration_query.get_migration(session, args["migrationId"])
        source, target = (session.get_one(Node, args[name]) for name in ("sourceNodeId", "targetNodeId"))
        volumes = instance_query.list_volumes(session, load_instance(session, args))
        if _tell_places(session, args):
            shared = {target.storage_id, *places_of(target.storages)}
            # What the source does not find is nobody's to copy or remove.
            migration.copied = [it.uuid for it in volumes if it.uuid in found and found[it.uuid] not in shared]
        elif (source.storage_id or source.id) == (target.storage_id or target.id):
            migration.copied = []
        else:
            migration.copied = [volume.uuid for volume in volumes]
        pools = {place[1]: place[0] for place in source.storages.values()}
        for volume in volumes:
            volume.storage_pool_id = pools.get(found.get(volume.uuid, "")) or volume.storage_pool_id
            session.add(volume)
        session.add(migration)
