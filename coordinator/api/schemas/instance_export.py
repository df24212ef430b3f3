"""Which instances are exported, and what a table tells of each."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, field_validator

from coordinator.api.filtering import equal_to, like, parse_order
from coordinator.api.schemas.base import FieldError, LenientModel, fold
from coordinator.api.schemas.instance_request import Text
from coordinator.api.spreadsheet import Cell
from coordinator.domain.listing import Comparison, Condition, ListQuery
from coordinator.domain.message import Message
from coordinator.domain.unit import GIB
from coordinator.services.instance_view import InstanceView
from coordinator.store.queries.instance import Narrowing


@dataclass(frozen=True, slots=True)
class ExportColumn:
    """A column: what stands above it, and what an instance has in it."""

    heading: Message
    cell_of: Callable[[InstanceView], Cell]


def _os_info(view: InstanceView) -> str:
    known = (view.image.platform, view.image.os_version) if view.image else ()
    return " ".join(filter(None, known)) or view.instance.os_type


COLUMNS: Mapping[str, ExportColumn] = {
    "displayName": ExportColumn(Message("Name", "实例名称"), lambda view: view.instance.display_name),
    "ecsId": ExportColumn(Message("ID", "实例ID"), lambda view: view.instance.ecs_id),
    "department": ExportColumn(Message("Department", "部门"), lambda view: view.instance.department_name),
    "resourceGroup": ExportColumn(Message("Resource group", "资源集"), lambda view: view.instance.resource_group_name),
    "privateIp": ExportColumn(
        Message("Private IP", "私有IP"), lambda view: ", ".join(port.ipv4_address for port in view.ports)
    ),
    "status": ExportColumn(Message("Status", "状态"), lambda view: str(view.instance.status)),
    "az": ExportColumn(Message("Zone", "可用区"), lambda view: view.instance.zone),
    "vcpu": ExportColumn(Message("vCPUs", "vCPUs"), lambda view: view.instance.vcpus),
    "ram": ExportColumn(Message("Memory (GiB)", "内存（GiB）"), lambda view: view.instance.memory_bytes // GIB),
    "flavor": ExportColumn(Message("Flavor", "规格名称"), lambda view: view.flavor.name),
    "payModel": ExportColumn(Message("Billing mode", "计费模式"), lambda view: view.instance.billing_mode),
    "cpuArch": ExportColumn(Message("Architecture", "架构"), lambda view: view.instance.architecture),
    # None is there yet.
    "eip": ExportColumn(Message("Elastic IP", "弹性公网IP"), lambda _: None),
    "createTime": ExportColumn(Message("Created (UTC)", "创建时间（UTC）"), lambda view: view.instance.created_at),
    "osInfo": ExportColumn(Message("Operating system", "操作系统"), _os_info),
    "tenant": ExportColumn(Message("Tenant", "租户"), lambda view: view.instance.tenant_name),
}
_NAMES = {fold(name): name for name in COLUMNS}


def _listed(value: Any) -> Any:
    """A single text is a list of itself; an empty one, which callers send for no condition, counts for none."""
    values = [value] if isinstance(value, str) else value
    return [item for item in values if item != ""] if isinstance(values, list) else values


Texts = Annotated[list[Text], BeforeValidator(_listed), Field(default_factory=list, max_length=1000)]


class ExportFilterRequest(LenientModel):
    """What exported instances have in common; what is empty does not count."""

    vpc_id: Text = Field(default="", description="Has an interface in that network.")
    subnet_id: Text = Field(default="", description="Has an interface in that subnet.")
    private_ip: Text = Field(default="", description="Has that address.")
    eip: Text = Field(default="", description="Has that elastic address; none is there yet.")
    flavor_type: Text = Field(default="", description="Id or name of its flavor type.")
    flavor: Text = Field(default="", description="Id or name of its flavor.")
    node_name: Text = Field(default="", description="Name of its node.")
    is_lock: bool | None = Field(default=None, description="Is locked, or is not.")
    display_name: Text = Field(default="", description="Part of its name.")
    ecs_id: Text = Field(default="", description="Its id.")
    department_id: Text = Field(default="", description="Department.")
    tenant_id: Text = Field(default="", description="Tenant.")
    resource_group_id: Text = Field(default="", description="Resource group.")
    status: Texts = Field(description="One of these.", examples=[["Running"]])
    az: Texts = Field(description="One of these.", examples=[["AZ0"]])
    cpu_arch: Texts = Field(description="One of these.", examples=[["x86"]])
    vm_labels: Texts = Field(description="Has all of these labels: `key` or `key=value`.", examples=[["team=storage"]])
    order_by: Text = Field(default="", description="Sort keys `field:asc` or `field:desc`; the newest first.")

    def to_narrowing(self) -> Narrowing:
        """What the instances, or what they refer to, must have."""
        return Narrowing(
            vpc_id=self.vpc_id,
            subnet_id=self.subnet_id,
            private_ip=self.private_ip,
            flavor_type=self.flavor_type,
            flavor=self.flavor,
            node_name=self.node_name,
            is_locked=self.is_lock,
            labels=tuple(_to_label(text) for text in self.vm_labels),
            excludes_all=bool(self.eip),
        )

    def to_query(self) -> ListQuery:
        """The conditions on their own fields, and the order."""
        exact = equal_to(
            ecsId=self.ecs_id,
            departmentId=self.department_id,
            tenantId=self.tenant_id,
            resourceGroupId=self.resource_group_id,
        )
        several = {"status": self.status, "az": self.az, "cpuArch": self.cpu_arch}
        among = tuple(Condition(name, Comparison.IN, tuple(values)) for name, values in several.items() if values)
        named = like(displayName=self.display_name)
        return ListQuery(conditions=(*exact, *among, *named), orderings=parse_order(self.order_by))


def _to_label(text: str) -> tuple[str, str | None]:
    key, separator, value = text.partition("=")
    return key, value if separator else None


class ExportRequest(LenientModel):
    """A table of instances."""

    export_item: str = Field(
        max_length=1024,
        description=f"Columns in their order, separated by commas: {', '.join(COLUMNS)}.",
        examples=["displayName,ecsId,privateIp,status"],
    )
    filter_params: ExportFilterRequest = Field(description="Which instances; {}: all.")

    @field_validator("export_item")
    @classmethod
    def _check_items(cls, text: str) -> str:
        given = [item.strip() for item in text.split(",") if item.strip()]
        unknown = [item for item in given if fold(item) not in _NAMES]
        if unknown or not given:
            what = f"{unknown[0]!r} is none of" if unknown else "at least one of"
            zh = f"不支持的列{unknown[0]!r}，取值为" if unknown else "至少选择一列："
            raise FieldError(f"{what} {', '.join(COLUMNS)}", f"{zh}{'、'.join(COLUMNS)}")
        return ",".join(dict.fromkeys(_NAMES[fold(item)] for item in given))

    @property
    def columns(self) -> list[ExportColumn]:
        """The columns in their order, each once."""
        return [COLUMNS[name] for name in self.export_item.split(",")]
