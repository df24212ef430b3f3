"""How a failed call to an agent is told: the one place where gRPC statuses are read."""

from typing import Any, Final

import grpc

CODE_METADATA_KEY: Final = "nodewright-code"

# The agent answered, but its hypervisor did not, or it has not heard yet that a guest which it ended is still its own:
# the same call may succeed later.
_TRANSIENT_AGENT_CODES: Final = frozenset({"HypervisorUnavailable", "HypervisorTimeout", "DomainFenced"})

# Without a code of the agent these come from the transport: reset connections, an agent that restarts, a lost answer.
_TRANSIENT_TRANSPORT_STATUSES: Final = frozenset(
    {
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.CANCELLED,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.UNKNOWN,
        grpc.StatusCode.ABORTED,
    }
)

_TRANSPORT_CODES: Final = {
    grpc.StatusCode.DEADLINE_EXCEEDED: "AgentTimeout",
    grpc.StatusCode.UNIMPLEMENTED: "AgentOutdated",
    grpc.StatusCode.UNAUTHENTICATED: "AgentUntrusted",
    grpc.StatusCode.PERMISSION_DENIED: "AgentUntrusted",
}


class AgentCallError(Exception):
    """A call to an agent failed. `code` is stable; `transient`: the same call may succeed later."""

    def __init__(self, code: str, message: str, transient: bool) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.transient = transient


class NodeAway(AgentCallError):
    """The node's agent cannot be reached now."""

    def __init__(self, message: str) -> None:
        super().__init__("NodeAway", message, transient=True)


def decode_error(error: grpc.aio.AioRpcError, node: str) -> AgentCallError:
    """What `error`, from a call to the agent of `node`, means."""
    code = _agent_code(error)
    details = error.details() or error.code().name
    if code:
        is_transient = code in _TRANSIENT_AGENT_CODES or error.code() is grpc.StatusCode.UNAVAILABLE
        return AgentCallError(code, details, is_transient)
    if error.code() is grpc.StatusCode.UNAVAILABLE:
        return NodeAway(f"node {node} is away: {details}")
    transport_code = _TRANSPORT_CODES.get(error.code(), "AgentCallFailed")
    is_transient = error.code() in _TRANSIENT_TRANSPORT_STATUSES
    return AgentCallError(transport_code, f"call to node {node} failed: {details}", is_transient)


def _agent_code(error: grpc.aio.AioRpcError) -> str:
    metadata: Any = error.trailing_metadata() or ()
    return next((str(value) for key, value in metadata if key == CODE_METADATA_KEY), "")
