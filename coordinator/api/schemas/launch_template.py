"""Launch templates on the wire."""

from typing import Any

from pydantic import Field

from coordinator.api.schemas.base import AnswerModel, LenientModel, Moment
from coordinator.api.schemas.instance_flavor import FlavorBodies, InstanceFlavorBody
from coordinator.domain.instance_order import NetworkOrder, VolumeOrder
from coordinator.domain.unit import parse_amount_bytes
from coordinator.services.launch_template import TemplateView
from coordinator.store.queries.launch_template import TemplateRow
from coordinator.store.tables import LaunchTemplate, LaunchTemplateVersion


class CreateTemplateRequest(LenientModel):
    """A template of an instance."""

    template_name: str = Field(description="1 to 127 characters; one of a kind in its tenant.", examples=["web"])
    template_desc: str = Field(default="", description="At most 255 characters.")


class RenameTemplateRequest(LenientModel):
    """A new name."""

    template_name: str = Field(description="1 to 127 characters; one of a kind in its tenant.", examples=["web"])


class UserDataRequest(LenientModel):
    """New user data."""

    user_data: str = Field(description="cloud-config or script, base64; at most 32 KiB decoded. Empty: none.")


class DefaultVersionRequest(LenientModel):
    """Which version is the default one."""

    version: int = Field(ge=1, description="Number of a version that is kept.", examples=[1])


class TemplateIdsRequest(LenientModel):
    """Several templates."""

    template_id_list: list[str] = Field(description="Ids of templates.", examples=[["lt-70vaucbrrv2ly1"]])


class NewTemplateBody(AnswerModel):
    """A template that was just made."""

    template_id: str = Field(description="Id of the template.", examples=["lt-70vaucbrrv2ly1"])


class TemplateBody(AnswerModel):
    """A template, without what it orders."""

    template_id: str = Field(description="Id of the template.", examples=["lt-70vaucbrrv2ly1"])
    template_name: str
    template_desc: str
    tenant_id: str
    tenant_name: str
    department_id: str
    department_name: str
    resource_group_id: str
    resource_group_name: str
    created_at: Moment
    updated_at: Moment
    default_version: int = Field(description="What is ordered when no version is named.")
    current_version: int = Field(description="The newest.")
    standard_flavor: int = Field(description="1: its flavor has a size of its own; 0: a custom one.")

    @classmethod
    def of(cls, found: TemplateRow) -> "TemplateBody":
        return cls(**_shown(found))


class TemplateListBody(AnswerModel):
    """One page of templates."""

    items: list[TemplateBody] = Field(alias="templatelist")
    total_count: int = Field(description="On all pages together.")


class TemplateVersionBody(AnswerModel):
    """A version of a template."""

    version: int
    is_default: bool = Field(description="Whether it is ordered when no version is named.")
    created_at: Moment

    @classmethod
    def of(cls, template: LaunchTemplate, row: LaunchTemplateVersion) -> "TemplateVersionBody":
        is_default = row.version == template.default_version
        return cls(version=row.version, is_default=is_default, created_at=row.created_at)


class TemplateVersionListBody(AnswerModel):
    """One page of a template's versions."""

    items: list[TemplateVersionBody] = Field(alias="list")
    total_count: int = Field(description="On all pages together.")


class TemplateNetworkBody(AnswerModel):
    """A network interface that a template orders."""

    vpc_id: str
    subnet_id: str
    ipv6_enabled: bool = False
    port_type: str
    network_type: str

    @classmethod
    def of(cls, network: NetworkOrder) -> "TemplateNetworkBody":
        return cls.model_validate(network)


class TemplateVolumeBody(AnswerModel):
    """A disk that a template orders."""

    volume_type: str
    volume_size: int = Field(description="GiB.")
    delete_on_termination: bool
    os_or_data: str = Field(description="osDisk or dataDisk.")
    volume_mode: str
    disk_bus: str
    boot_index: int

    @classmethod
    def of(cls, volume: VolumeOrder) -> "TemplateVolumeBody":
        names = ("volume_type", "delete_on_termination", "volume_mode", "disk_bus", "boot_index")
        return cls(
            **{name: getattr(volume, name) for name in names},
            volume_size=volume.size_gib,
            os_or_data="osDisk" if volume.is_os_disk else "dataDisk",
        )


class TemplateLabelBody(AnswerModel):
    """A label that a template orders."""

    key: str
    value: str


class TemplateDetailBody(TemplateBody):
    """A template, and what one of its versions orders. Passwords are in no template."""

    version: int = Field(description="The version that is shown.")
    ecs_name: str
    region: str
    az: str
    arch_type: str
    flavor_id: str
    flavor: InstanceFlavorBody | None = Field(description="Null: it does not exist any more.")
    image_id: str
    image_visibility: str = Field(description="Empty: the image does not exist any more.")
    networks: list[TemplateNetworkBody]
    volumes: list[TemplateVolumeBody]
    sg_id_list: list[str] = Field(description="Security groups.")
    eip_charge_type: str = Field(default="", description="Always empty: elastic addresses are ordered separately.")
    band_width: int = Field(default=0, description="Always 0, likewise.")
    billing_mode: str
    ram: int = Field(description="Bytes.")
    vcpus: int
    user_data: str = Field(description="As given, base64.")
    key_pair_name: str = Field(default="", description="See sshPublicKeys.")
    key_pair_id: str = Field(default="", description="See sshPublicKeys.")
    ssh_public_keys: list[str]
    vm_labels: list[TemplateLabelBody]
    hg_id: str
    rp_id: str
    deployment_set: str
    ha_enabled: bool

    @classmethod
    def of_view(cls, view: TemplateView) -> "TemplateDetailBody":
        order = view.order
        same = ("region", "flavor_id", "image_id", "billing_mode", "user_data", "deployment_set", "ha_enabled")
        return cls(
            **_shown(view.template),
            **{name: getattr(order, name) for name in same},
            version=view.version,
            ecs_name=order.display_name,
            az=order.zone,
            arch_type=order.architecture,
            flavor=_flavor_of(view),
            image_visibility=view.image.visibility if view.image else "",
            networks=[TemplateNetworkBody.of(network) for network in order.networks],
            volumes=[TemplateVolumeBody.of(volume) for volume in order.volumes],
            sg_id_list=list(dict.fromkeys(name for network in order.networks for name in network.security_group_ids)),
            ram=parse_amount_bytes(order.memory_amount),
            vcpus=order.cpu_count,
            ssh_public_keys=list(order.ssh_public_keys),
            vm_labels=[TemplateLabelBody.model_validate(label) for label in order.labels],
            hg_id=order.host_group_id,
            rp_id=order.pool_id,
        )


def _flavor_of(view: TemplateView) -> InstanceFlavorBody | None:
    if view.flavor is None:
        return None
    _, body = FlavorBodies().of(*view.flavor, {pool.id: pool for pool in view.pools})
    return body


def _shown(found: TemplateRow) -> dict[str, Any]:
    row = found.row
    same = ("tenant_id", "department_id", "resource_group_id", "created_at", "updated_at")
    return {
        **{name: getattr(row, name) for name in (*same, "default_version", "current_version")},
        "template_id": row.id,
        "template_name": row.name,
        "template_desc": row.description,
        "tenant_name": found.tenant_name,
        "department_name": found.department_name or "",
        "resource_group_name": found.resource_group_name or "",
        "standard_flavor": int(row.standard_flavor),
    }
