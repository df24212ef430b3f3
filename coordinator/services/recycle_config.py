"""Whether what is deleted goes to the recycle bin, and for how long it stays there."""

import structlog

from coordinator.domain.caller import Caller
from coordinator.domain.recycle import RecycleConfig
from coordinator.runtime import Runtime
from coordinator.store.queries.recycle_setting import read_recycle_config, write_recycle_config

log = structlog.get_logger(__name__)


def get_recycle_config(runtime: Runtime, caller: Caller) -> RecycleConfig:
    """What holds now, for instances and snapshots."""
    with runtime.database.read() as session:
        return read_recycle_config(session)


def set_recycle_config(runtime: Runtime, caller: Caller, config: RecycleConfig) -> None:
    """Holds for whatever is deleted from now on; what is in the bin stays there as long as it was to. Idempotent."""
    with runtime.database.write() as session:
        write_recycle_config(session, config)
    log.info("recycle.config_changed", enabled=config.enabled, freezeDays=config.freeze_days, by=caller.token_id)
