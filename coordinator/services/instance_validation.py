"""What can be said about an order of instances without looking at the cloud: every field within its range."""

import base64
import binascii
import ipaddress
import re
from collections.abc import Collection, Sequence
from typing import Final

from coordinator.config import Settings
from coordinator.domain.instance_order import InstanceOrder, Label, NetworkOrder, VolumeOrder
from coordinator.domain.unit import GIB, KIB, MIB, format_bytes, parse_amount_bytes
from coordinator.domain.volume import MAXIMUM_VOLUME_GIB, MAXIMUM_VOLUMES
from coordinator.errors import (
    DisplayNameInvalid,
    ImageMissing,
    MemoryAmountInvalid,
    ParameterInvalid,
    PasswordInvalid,
    TenantIdInvalid,
    VolumesTooMany,
)

_MAXIMUM_NAME: Final = 127
_MAXIMUM_DESCRIPTION: Final = 255
_MAXIMUM_LABELS: Final = 5
_MAXIMUM_VCPUS: Final = 256
_MAXIMUM_MEMORY_GIB: Final = 1024
_MAXIMUM_COUNT: Final = 50
# Those of x86 and ARM kernels.
_HUGE_PAGES_BYTES: Final = (64 * KIB, 2 * MIB, 32 * MIB, 512 * MIB, GIB, 16 * GIB)
_MAXIMUM_NETWORKS: Final = 8
_MAXIMUM_KEYS: Final = 16
_MAXIMUM_USER_DATA_BYTES: Final = 32 * 1024

_HOST_NAME: Final = re.compile(r"[A-Za-z\u4e00-\u9fff][A-Za-z0-9\u4e00-\u9fff_.-]*")
_PASSWORD: Final = re.compile(r"[!-~]{8,30}")
_PASSWORD_CLASSES: Final = (r"[a-z]", r"[A-Z]", r"[0-9]", r"[^A-Za-z0-9]")
_VNC_PASSWORD: Final = re.compile(r"[!-~]{1,8}")
_SSH_KEY: Final = re.compile(
    r"(ssh-ed25519|ssh-rsa|ecdsa-sha2-nistp\d{3}|sk-[a-z0-9@.-]+) [A-Za-z0-9+/]+=*( [^\n\r]*)?"
)
_MAC: Final = re.compile(r"[0-9A-Fa-f]{2}([:-][0-9A-Fa-f]{2}){5}")


def check_order(order: InstanceOrder, settings: Settings) -> None:
    """Raises ParameterInvalid, or one of its kinds, for the first field that cannot be."""
    _check_available(order.unavailable_fields)
    _check_place(order, settings)
    check_display_name(order.display_name, count=order.count)
    check_description(order.description)
    check_labels(order.labels)
    check_size(order)
    _check_access(order)
    _check_image(order)
    _check_volumes(order.volumes)
    _check_networks(order)
    _check_billing(order)


def check_display_name(name: str, field: str = "displayName", count: int = 1) -> None:
    """A name of 1 to 127 characters, suffix of a batch of `count` included."""
    longest = _longest_name(count)
    if not 1 <= len(name) <= longest:
        raise DisplayNameInvalid(field, f"1 to {longest} characters", f"长度为1到{longest}个字符")
    if not name.isprintable() or name != name.strip():
        raise DisplayNameInvalid(
            field, "no control characters, no space at either end", "不能包含控制字符，首尾不能有空格"
        )


def _longest_name(count: int) -> int:
    """Leaves room for the suffix that tells the instances of a batch apart."""
    return _MAXIMUM_NAME - (len(f"-{count}") if count > 1 else 0)


def check_description(description: str, field: str = "description") -> None:
    """At most 255 characters."""
    if len(description) > _MAXIMUM_DESCRIPTION:
        raise ParameterInvalid(field, f"at most {_MAXIMUM_DESCRIPTION} characters", f"最多{_MAXIMUM_DESCRIPTION}个字符")


def check_labels(labels: Sequence[Label]) -> None:
    """At most five, with different keys."""
    if len(labels) > _MAXIMUM_LABELS:
        raise ParameterInvalid("vmLabels", f"at most {_MAXIMUM_LABELS} labels", f"最多{_MAXIMUM_LABELS}个标签")
    for label in labels:
        if not 1 <= len(label.key) <= _MAXIMUM_NAME or len(label.value) > _MAXIMUM_NAME:
            raise ParameterInvalid(
                "vmLabels",
                f"keys of 1 to {_MAXIMUM_NAME} characters, values of at most {_MAXIMUM_NAME}",
                f"标签键长度为1到{_MAXIMUM_NAME}，标签值最长{_MAXIMUM_NAME}",
            )
    if len({label.key for label in labels}) < len(labels):
        raise ParameterInvalid("vmLabels", "a key occurs twice", "标签键重复")


def memory_bytes_of(order: InstanceOrder) -> int:
    """Bytes of `memory.amount`: whole MiB, 1 to 1024 GiB."""
    try:
        amount_bytes = parse_amount_bytes(order.memory_amount)
    except ValueError:
        raise MemoryAmountInvalid(
            "memory.amount",
            f"{order.memory_amount!r} is no amount such as 4Gi",
            f"{order.memory_amount!r}不是有效的内存大小，例如4Gi",
        ) from None
    if not GIB <= amount_bytes <= _MAXIMUM_MEMORY_GIB * GIB or amount_bytes % MIB:
        raise MemoryAmountInvalid(
            "memory.amount",
            f"whole MiB from 1Gi to {_MAXIMUM_MEMORY_GIB}Gi",
            f"取值为1Gi到{_MAXIMUM_MEMORY_GIB}Gi，且为MiB的整数倍",
        )
    return amount_bytes


def huge_page_bytes_of(order: InstanceOrder) -> int:
    """Bytes of `memory.hugePage`; 0 for ordinary pages."""
    if not order.huge_page:
        return 0
    try:
        page_bytes = parse_amount_bytes(order.huge_page)
    except ValueError:
        page_bytes = 0
    if page_bytes not in _HUGE_PAGES_BYTES:
        known = ", ".join(format_bytes(size) for size in _HUGE_PAGES_BYTES)
        raise ParameterInvalid(
            "memory.hugePage", f"one of {known}, not {order.huge_page!r}", f"取值为{known}之一，例如2Mi"
        )
    return page_bytes


def _check_available(fields: Collection[str]) -> None:
    if fields:
        names = ", ".join(fields)
        raise ParameterInvalid(names, "not available yet on this cluster", "本集群暂不支持")


def _check_place(order: InstanceOrder, settings: Settings) -> None:
    if not order.tenant_id:
        raise TenantIdInvalid("tenantId", "is required", "必填")
    _require(order.department_id, "departmentId")
    _require(order.zone, "az")
    if order.region != settings.region:
        raise ParameterInvalid(
            "region",
            f"no such region {order.region!r}; this one is {settings.region}",
            f"区域{order.region!r}不存在，本区域为{settings.region}",
        )
    _check_choice("archType", order.architecture, ("x86", "arm"))


def check_size(order: InstanceOrder) -> None:
    """vCPUs and memory within their ranges, and whole huge pages."""
    _check_range("cpus", order.cpu_count, 1, _MAXIMUM_VCPUS)
    # Where nothing is said, the named flavor's memory counts.
    if order.memory_amount or not order.flavor_id:
        memory_bytes = memory_bytes_of(order)
        page_bytes = huge_page_bytes_of(order)
        if page_bytes and memory_bytes % page_bytes:
            raise MemoryAmountInvalid(
                "memory.amount", f"whole huge pages of {order.huge_page}", f"须为巨页大小{order.huge_page}的整数倍"
            )
    _check_range("ecsCount", order.count, 1, _MAXIMUM_COUNT)


def _check_access(order: InstanceOrder) -> None:
    if order.host_name:
        _check_host_name(order.host_name, _longest_name(order.count))
    if order.password:
        check_password(order.password)
    if order.vnc_password:
        check_vnc_password("vncPassword", order.vnc_password)
    _check_choice("osType", order.os_type, ("", "linux", "windows"))
    check_user_data(order.user_data)
    _check_range("sshPublicKeys", len(order.ssh_public_keys), 0, _MAXIMUM_KEYS)
    for key in order.ssh_public_keys:
        if not _SSH_KEY.fullmatch(key):
            raise ParameterInvalid("sshPublicKeys", "not an OpenSSH public key", "不是有效的OpenSSH公钥")


def _check_host_name(name: str, longest: int) -> None:
    if len(name) > longest or not _HOST_NAME.fullmatch(name):
        raise ParameterInvalid(
            "hostName",
            f"1 to {longest} characters, first a letter or Chinese character, then also digits, _, - and .",
            f"1到{longest}个字符，以字母或中文开头，可包含字母、中文、数字、_、-和.",
        )


def check_password(password: str) -> None:
    """A password that guests take: 8 to 30 characters of three kinds."""
    classes = sum(bool(re.search(pattern, password)) for pattern in _PASSWORD_CLASSES)
    if not _PASSWORD.fullmatch(password) or classes < 3:
        raise PasswordInvalid(
            "password",
            "8 to 30 printable ASCII characters, of at least three kinds: lower case, upper case, digits, others",
            "8到30个可打印ASCII字符，不含空格，且至少包含小写字母、大写字母、数字、特殊字符中的三类",
        )


def check_vnc_password(field: str, password: str) -> None:
    """A password that the VNC protocol takes: at most 8 characters."""
    if not _VNC_PASSWORD.fullmatch(password):
        raise PasswordInvalid(
            field, "1 to 8 printable ASCII characters without spaces", "1到8个可打印ASCII字符，不含空格"
        )


def check_user_data(user_data: str) -> None:
    """Base64 of at most 32 KiB."""
    try:
        decoded = base64.b64decode(user_data, validate=True)
    except (binascii.Error, ValueError):
        raise ParameterInvalid("userData", "not base64", "不是有效的base64编码") from None
    if len(decoded) > _MAXIMUM_USER_DATA_BYTES:
        raise ParameterInvalid("userData", "at most 32 KiB when decoded", "解码后不能超过32KiB")


def _check_image(order: InstanceOrder) -> None:
    # A snapshot's system has an image already.
    is_copy = any(volume.snapshot_id for volume in order.volumes)
    if not order.image_id and not order.image_url and not is_copy:
        raise ImageMissing("image", "one of imageUid and url is required", "imageUid和url至少填写一个")


def _check_volumes(volumes: Sequence[VolumeOrder]) -> None:
    if len(volumes) > MAXIMUM_VOLUMES:
        raise VolumesTooMany("volumes", f"at most {MAXIMUM_VOLUMES}", f"最多{MAXIMUM_VOLUMES}块云盘")
    if sum(volume.is_os_disk for volume in volumes) != 1:
        raise ParameterInvalid("volumes", "exactly one volume must have isOsDisk true", "必须有且仅有一块系统盘")
    for position, volume in enumerate(volumes):
        prefix = f"volumes[{position}]"
        _check_range(f"{prefix}.volumeSize", volume.size_gib, 1, MAXIMUM_VOLUME_GIB)
        _check_choice(f"{prefix}.diskBus", volume.disk_bus, ("virtio", "scsi", "sata"))
        _check_choice(f"{prefix}.volumeMode", volume.volume_mode, ("Block", "Filesystem"))
        _check_range(f"{prefix}.bootIndex", volume.boot_index, 0, MAXIMUM_VOLUMES)
    orders = [volume.boot_index for volume in volumes if volume.boot_index]
    if len(set(orders)) < len(orders):
        raise ParameterInvalid("volumes", "a bootIndex occurs twice", "bootIndex重复")


def _check_networks(order: InstanceOrder) -> None:
    _check_range("networks", len(order.networks), 1, _MAXIMUM_NETWORKS)
    if sum(network.port_type == "Primary" for network in order.networks) != 1:
        raise ParameterInvalid("networks", "exactly one must have portType Primary", "必须有且仅有一块主网卡")
    for position, network in enumerate(order.networks):
        _check_network(f"networks[{position}]", network, order.count)
    addresses = [network.fixed_ip for network in order.networks if network.fixed_ip]
    if len(set(addresses)) < len(addresses):
        raise ParameterInvalid("networks", "a fixedIp occurs twice", "fixedIp重复")


def _check_network(prefix: str, network: NetworkOrder, count: int) -> None:
    _require(network.vpc_id, f"{prefix}.vpcId")
    _require(network.subnet_id, f"{prefix}.subnetId")
    _check_choice(f"{prefix}.portType", network.port_type, ("Primary", "Extend"))
    _check_choice(f"{prefix}.ipType", network.ip_type, ("dhcp", "fixedIp"))
    is_primary = network.port_type == "Primary"
    types = ("Geneve", "VLAN") if is_primary else ("Geneve", "VLAN", "Flat")
    _check_choice(f"{prefix}.networkType", network.network_type, types)
    if network.ip_type == "fixedIp" and not network.fixed_ip:
        raise ParameterInvalid(f"{prefix}.fixedIp", "is required with ipType fixedIp", "ipType为fixedIp时必填")
    if network.fixed_ip:
        _check_address(f"{prefix}.fixedIp", network.fixed_ip)
    if network.mac_address and not _MAC.fullmatch(network.mac_address):
        raise ParameterInvalid(f"{prefix}.macAddress", "not a MAC address", "不是有效的MAC地址")
    if count > 1 and (network.fixed_ip or network.mac_address):
        raise ParameterInvalid(f"{prefix}.fixedIp", "fixed addresses only with ecsCount 1", "指定地址时ecsCount必须为1")


def _check_address(field: str, address: str) -> None:
    try:
        ipaddress.IPv4Address(address)
    except ValueError:
        raise ParameterInvalid(field, f"{address!r} is no IPv4 address", f"{address!r}不是IPv4地址") from None


def _check_billing(order: InstanceOrder) -> None:
    _check_choice("billingMode", order.billing_mode, ("OnDemand", "ByCycle"))
    if order.billing_mode == "ByCycle" and order.cycle_count < 1:
        raise ParameterInvalid("cycleCount", "at least 1 with billingMode ByCycle", "包周期时必填且不小于1")


def _require(value: str, field: str) -> None:
    if not value:
        raise ParameterInvalid(field, "is required", "必填")


def _check_range(field: str, value: int, lowest: int, highest: int) -> None:
    if not lowest <= value <= highest:
        raise ParameterInvalid(field, f"{lowest} to {highest}, not {value}", f"取值范围为{lowest}到{highest}")


def _check_choice(field: str, value: str, choices: Sequence[str]) -> None:
    if value not in choices:
        known = ", ".join(choice for choice in choices if choice)
        raise ParameterInvalid(field, f"one of {known}, not {value!r}", f"取值为{known}之一")
