"""What can go wrong for the person at the keyboard, and the exit status that tells scripts which it was."""

from typing import Any, ClassVar

# The operation's own verdicts, so that a script can tell them from a failing call.
AUTHENTICATION_CODES = {"ECS.OperationDenied.AuthFail", "ECS.OperationDenied.Identity"}
ABSENCE_CODES = {"ECS.DBGet.NoData", "Ecs.InvalidParameter.TenantId.NotFound"}


class NwctlError(Exception):
    """An expected failure: its text is for people, its exit status for scripts."""

    exit_status: ClassVar[int] = 1


class UsageError(NwctlError):
    """The command line or the configuration cannot be acted on."""

    exit_status = 2


class CredentialsMissing(NwctlError):
    """Nobody is logged in."""

    exit_status = 3


class ReferenceUnknown(NwctlError):
    """No resource bears the given name."""

    exit_status = 4


class WaitTimedOut(NwctlError):
    """`--wait` gave up; the operation goes on."""

    exit_status = 5


class OperationFailed(NwctlError):
    """The work was accepted and then did not succeed."""

    exit_status = 6


class WaitInterrupted(NwctlError):
    """Ctrl-C during `--wait`; the operation goes on."""

    exit_status = 130


class CoordinatorUnreachable(NwctlError):
    """No usable answer came back from the endpoint."""


class ApiError(NwctlError):
    """The coordinator refused a call; carries its code, message and request id."""

    def __init__(self, http_status: int, code: str, message: str, request_id: str) -> None:
        super().__init__(f"{code}: {message} (request {request_id or 'unknown'})")
        self.http_status = http_status
        self.code = code
        self.message = message
        self.request_id = request_id

    @property
    def exit_status(self) -> int:  # type: ignore[override]
        """3 for credentials or permission, 4 for what does not exist, else 1."""
        if self.http_status in (401, 403) or self.code in AUTHENTICATION_CODES:
            return 3
        if self.http_status == 404 or self.code in ABSENCE_CODES:
            return 4
        return 1

    def as_data(self) -> dict[str, Any]:
        """The envelope's error members, for `--json`."""
        return {"requestId": self.request_id, "code": self.code, "message": self.message}
