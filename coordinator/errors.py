"""Every error that a caller can see: a class a condition, each with its frozen code.

`coordinator/api/error_handler.py` turns them into HTTP bodies, `coordinator/rpc/interceptor.py` into gRPC statuses.
"""

from collections.abc import Sequence
from typing import ClassVar

from coordinator.domain.message import Message
from coordinator.domain.noun import in_chinese


class CoordinatorError(Exception):
    """Base: `code` is stable, `http_status` follows the API's table of codes, the message is for people."""

    code: ClassVar[str] = "ECS.InternalError"
    http_status: ClassVar[int] = 500

    def __init__(self, en: str, zh: str) -> None:
        super().__init__(en)
        self.message = Message(en, zh)


class ParameterInvalid(CoordinatorError):
    """A field of the request is missing, of the wrong type or out of range."""

    code = "ECS.InvalidParameter"
    http_status = 400

    def __init__(self, field: str, en: str, zh: str) -> None:
        super().__init__(f"{field}: {en}", f"{field}：{zh}")
        self.field = field


class DisplayNameInvalid(ParameterInvalid):
    code = "ECS.InvalidParameter.DisplayName.ValueNotSupported"


class PasswordInvalid(ParameterInvalid):
    code = "ECS.InvalidParameter.Password.ValueNotSupported"


class MemoryAmountInvalid(ParameterInvalid):
    code = "ECS.InvalidParameter.MemoryAmount.ValueNotSupported"


class TenantIdInvalid(ParameterInvalid):
    code = "ECS.InvalidParameter.TenantId.ValueNotSupported"


class TenantNotFound(ParameterInvalid):
    code = "Ecs.InvalidParameter.TenantId.NotFound"


class ImageMissing(ParameterInvalid):
    """Neither the id nor the URL of an image was given."""

    code = "ECS.InvalidParameter.Image.NotFound"


class ImageUnusable(ParameterInvalid):
    """The image is known, but cannot be used (not active, failed its checksum)."""

    code = "ECS.GetImage.Fail"


class ImageOffsetInvalid(ParameterInvalid):
    """A node asks for bytes beyond the end of an image."""


class UploadConflict(CoordinatorError):
    """An upload goes on elsewhere in the file, or in another request: ask where, and try again."""

    code = "ECS.OperationFailed.UploadOffset"
    http_status = 409


class ImageArchitectureMismatch(ParameterInvalid):
    code = "ECS.OperationFailed.InvalidCpuArch"


class ImageInUse(CoordinatorError):
    """Instances were made from the image and still exist."""

    code = "ECS.OperationFailed.ImageUsed"
    http_status = 400


class VolumesTooMany(ParameterInvalid):
    code = "ECS.OperationDenied.VolumeNumOverLimit"


class IsosTooMany(ParameterInvalid):
    code = "ECS.OperationDenied.ISONumOverLimit"


class StatusUnsupported(CoordinatorError):
    """The resource's present status does not admit the operation."""

    code = "ECS.InvalidParameter.Status.NotSupported"
    http_status = 400


class ResourceNotFound(CoordinatorError):
    """No such resource, or not the caller's."""

    code = "ECS.DBGet.NoData"
    http_status = 400

    def __init__(self, kind: str, identifier: str) -> None:
        super().__init__(f"{kind} {identifier!r} does not exist", f"资源不存在：{in_chinese(kind)}{identifier!r}")


class TemplateOutdated(CoordinatorError):
    """What a launch template orders does not exist any more; the message names it, and the field to give instead."""

    code = "ECS.DBGet.NoData"
    http_status = 400

    def __init__(self, template: str, kind: str, identifier: str, field: str) -> None:
        super().__init__(
            f"launch template {template} orders {kind} {identifier!r}, which does not exist any more: give {field}",
            f"配置模板{template}引用的{in_chinese(kind)}{identifier!r}已不存在，请指定{field}",
        )


class ResourceAmbiguous(CoordinatorError):
    """Several resources have the name that was given."""

    code = "ECS.DBGet.NotUnique"
    http_status = 400

    def __init__(self, kind: str, name: str, identifiers: Sequence[str]) -> None:
        ids = ", ".join(identifiers)
        super().__init__(
            f"{len(identifiers)} resources ({kind}) are named {name!r}: {ids}",
            f"有{len(identifiers)}个{in_chinese(kind)}名为{name!r}：{ids}",
        )


class ResourceExists(CoordinatorError):
    code = "ECS.OperationDenied.Repeat"
    http_status = 400


class ResourceInUse(CoordinatorError):
    """Something still depends on the resource that is to be deleted."""

    code = "ECS.OperationDenied.InUse"
    http_status = 400


class AllocationMismatch(ResourceExists):
    """The consumer holds other resources than those that are claimed for it now."""

    def __init__(self, consumer_uuid: str) -> None:
        super().__init__(
            f"consumer {consumer_uuid} already holds other resources", f"消费者 {consumer_uuid} 已占用其他资源"
        )


class CapacityInsufficient(CoordinatorError):
    """No host has room for what another scheduler claims; the message counts the reasons."""

    code = "ECS.OperationDenied.Capacity"
    http_status = 400


class BatchUnschedulable(CoordinatorError):
    """Not all instances of a batch find a host, so none is made; the message counts the reasons."""

    code = "ECS.OperationFailed.Unschedulable"
    http_status = 400


class TargetUnsuitable(CoordinatorError):
    """No node, or not the one that was named, can take an instance that is to move; the message counts the reasons."""

    code = "ECS.OperationFailed.Unschedulable"
    http_status = 400


class NodeNotEvictable(CoordinatorError):
    """Instances of a node that is to go into maintenance cannot leave it; the message names them, with reasons."""

    code = "ECS.OperationDenied.NotEvictable"
    http_status = 400


class AccessDenied(CoordinatorError):
    """The caller is known, but its role does not admit the operation."""

    code = "ECS.OperationDenied.Identity"
    http_status = 400


class CredentialsInvalid(CoordinatorError):
    """Absent, unknown or expired credentials."""

    code = "ECS.OperationDenied.AuthFail"
    http_status = 401


class RequestsTooMany(CoordinatorError):
    """The caller failed too often in a short time, or has too much under way."""

    code = "ECS.OperationDenied.TooManyRequests"
    http_status = 429


class InstanceLocked(CoordinatorError):
    """A locked instance refuses every change; also an identity error of the API's table."""

    code = "ECS.OperationDenied.Identity"
    http_status = 400


class QuotaExceeded(CoordinatorError):
    code = "ECS.OperationDenied.QuotaExceeded"
    http_status = 400


class StorageInsufficient(CoordinatorError):
    """A node has too little space for volumes of a type, or none at all; the message names the type."""

    code = "ECS.OperationDenied.StorageInsufficient"
    http_status = 400


class AddressesExhausted(CoordinatorError):
    """No address of the subnet is free."""

    code = "ECS.OperationDenied.AddressesExhausted"
    http_status = 400


class GuestAgentUnavailable(CoordinatorError):
    code = "ECS.OperationDenied.Vmtools"
    http_status = 400


class GuestCommandFailed(CoordinatorError):
    code = "ECS.OperationFailed.ExecCmd"
    http_status = 400


class HostNameChangeFailed(GuestCommandFailed):
    """The guest did not take a new host name."""

    code = "ECS.OperationFailed.ResetHostName"


class ResizeImpossible(CoordinatorError):
    """An instance cannot have that size; the message tells why."""

    code = "ECS.OperationFailed.Resize"
    http_status = 400


class BootOrderImpossible(CoordinatorError):
    """An instance cannot start from there; the message tells why."""

    code = "ECS.OperationFailed.SetBootOrder"
    http_status = 400


class DiskBootsAlready(CoordinatorError):
    code = "ECS.OperationFailed.AlreadyBootedFromDisk"
    http_status = 400


class OpticalDriveBootsAlready(CoordinatorError):
    code = "ECS.OperationFailed.AlreadyBootedFromCDROM"
    http_status = 400


class SystemChangeImpossible(CoordinatorError):
    """An instance cannot have that system; the message tells why."""

    code = "ECS.OperationFailed.ChangeOS"
    http_status = 400


class NodeDisconnected(CoordinatorError):
    """The node's agent cannot be reached now."""

    code = "ECS.OperationDenied.Disconnection"
    http_status = 400


class BmcUnavailable(CoordinatorError):
    """The node's management controller did not answer as it should."""

    code = "ECS.OperationFailed.Bmc"
    http_status = 400


class NodeSessionUnknown(StatusUnsupported):
    """The agent must register: its session is not known, or its lease was over."""

    def __init__(self, node_id: str) -> None:
        super().__init__(f"node {node_id} must register again", f"节点{node_id}须重新注册")


class NodeIdentityTaken(StatusUnsupported):
    """Another machine with the node's certificate is alive. Who only moved waits until its old lease is over."""

    def __init__(self, node_id: str, present: str, twin: str) -> None:
        super().__init__(
            f"node {node_id} is alive at {present}: another machine with its identity, at {twin}, is not admitted",
            f"节点{node_id}在{present}仍在线，拒绝使用同一身份的另一台机器{twin}",
        )


class FlavorInUse(CoordinatorError):
    code = "ECS.OperationFailed.DeleteFlavor"
    http_status = 400


class FlavorTypeInUse(CoordinatorError):
    code = "ECS.OperationFailed.DeleteFlavorType"
    http_status = 400


class IdempotencyKeyReused(ParameterInvalid):
    """The same key came with another request."""


class RequestTooLarge(CoordinatorError):
    code = "ECS.InvalidParameter"
    http_status = 413


class ImageStorageFull(CoordinatorError):
    """There is no room for the file of an image; what had come of it by pieces stays, anything else is gone."""

    code = "ECS.OperationFailed.ImageStorage"
    http_status = 507


class ServiceUnavailable(CoordinatorError):
    code = "ECS.ServiceUnavailable"
    http_status = 503
