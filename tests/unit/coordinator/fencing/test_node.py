"""What fences are told of a node, and what a process that has just started makes of a silent one."""

from datetime import timedelta
from typing import Any

import pytest

from coordinator.domain.caller import Caller, Role
from coordinator.domain.clock import utc_now
from coordinator.errors import ResourceNotFound
from coordinator.fencing.node import fence_node, read_subject
from coordinator.runtime import Runtime
from coordinator.services.ha_config import set_tolerance
from coordinator.store.tables import Node
from tests.builders import a_node, add

OPERATOR = Caller("tok-of-the-tests", Role.OPERATOR)


def store(runtime: Runtime, **columns: Any) -> Node:
    node = a_node(generation=1, **columns)
    with runtime.database.write() as session:
        add(session, node)
    return node


@pytest.mark.parametrize(("of_node", "of_region", "expected"), [(600, 30, 600), (30, 600, 600), (0, 60, 60)])
def test_the_longer_tolerance_counts(runtime: Runtime, of_node: int, of_region: int, expected: int) -> None:
    node = store(runtime, ha_tolerance_seconds=of_node, self_fence=True, heard_at=utc_now())
    set_tolerance(runtime, OPERATOR, of_region)
    with runtime.database.read() as session:
        subject = read_subject(session, runtime.secrets, node.id)
    assert (subject.tolerance_seconds, subject.self_fence, subject.heard_at) == (expected, True, node.heard_at)
    assert subject.bmc is None


def test_a_node_is_fenced_by_its_watchdog_when_this_process_has_seen_enough_silence(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = store(runtime, self_fence=True, heard_at=utc_now() - timedelta(days=1))
    outcome = fence_node(runtime, node.id)
    assert (outcome.confirmed, outcome.results) == (False, ())
    assert "tolerated" in outcome.reason.en
    monkeypatch.setattr(runtime.fences._silence, "_since", runtime.fences._silence._since - 121)
    assert fence_node(runtime, node.id).confirmed


def test_without_any_fence_that_confirms_all_reasons_are_told(runtime: Runtime) -> None:
    node = store(runtime)
    outcome = fence_node(runtime, node.id)
    assert not outcome.confirmed
    assert [result.kind for result in outcome.results] == ["self", "redfish", "ipmi"]
    assert outcome.reason.en.startswith("self: the node was never heard of; redfish: no management controller")
    assert outcome.reason.zh.startswith("self：从未收到该节点的心跳；redfish：")


def test_a_node_that_does_not_exist_is_told(runtime: Runtime) -> None:
    with pytest.raises(ResourceNotFound):
        fence_node(runtime, "node-x")
