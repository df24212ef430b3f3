"""Everything that the database says about one instance, in the words that its node understands."""

import base64
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from sqlmodel import Session

from coordinator.domain.growth import Room
from coordinator.domain.instance_order import CLONED_FROM
from coordinator.domain.iso import OPTICAL_DRIVES
from coordinator.domain.ssh_key import WANTED_STATES, blob_of
from coordinator.domain.unit import GIB, MIB
from coordinator.errors import ResourceNotFound
from coordinator.runtime import Runtime
from coordinator.store.queries import instance as instance_query
from coordinator.store.queries.device_claim import DeviceClaim, list_claims
from coordinator.store.queries.iso import IsoRow, list_isos
from coordinator.store.queries.ssh_key import list_bindings
from coordinator.store.queries.volume_attachment import list_attached
from coordinator.store.tables.device import CellAllocation
from coordinator.store.tables.flavor import FlavorType
from coordinator.store.tables.image import Image
from coordinator.store.tables.instance import Instance
from coordinator.store.tables.network import Port, Subnet
from coordinator.store.tables.volume import Volume
from coordinator.tasks.host_device import make_host_devices
from protos.agent.v1 import device_pb2, domain_pb2, host_pb2, network_pb2, storage_pb2

_ARCHITECTURES: Final = {"x86": host_pb2.ARCHITECTURE_X86_64, "arm": host_pb2.ARCHITECTURE_AARCH64}
_BUSES: Final = {
    "virtio": domain_pb2.DISK_BUS_VIRTIO,
    "scsi": domain_pb2.DISK_BUS_SCSI,
    "sata": domain_pb2.DISK_BUS_SATA,
}
_FORMATS: Final = {
    "raw": storage_pb2.IMAGE_FORMAT_RAW,
    "qcow2": storage_pb2.IMAGE_FORMAT_QCOW2,
    "iso": storage_pb2.IMAGE_FORMAT_ISO,
}
# The API's generations of "trusted": BIOS with a TPM; UEFI with a TPM; UEFI that boots only what is signed.
_SECURITY: Final = {
    "none": (domain_pb2.FIRMWARE_BIOS, domain_pb2.TPM_MODEL_NONE),
    "1.0": (domain_pb2.FIRMWARE_BIOS, domain_pb2.TPM_MODEL_1_2),
    "2.0": (domain_pb2.FIRMWARE_UEFI, domain_pb2.TPM_MODEL_2_0),
    "3.0": (domain_pb2.FIRMWARE_UEFI_SECURE_BOOT, domain_pb2.TPM_MODEL_2_0),
}
_FIRMWARE_TRAITS: Final = {
    domain_pb2.FIRMWARE_UEFI: "uefi",
    domain_pb2.FIRMWARE_UEFI_SECURE_BOOT: "secure-boot",
}
_TPM_TRAITS: Final = {domain_pb2.TPM_MODEL_1_2: "vtpm-1.2", domain_pb2.TPM_MODEL_2_0: "vtpm-2.0"}


@dataclass(frozen=True, slots=True)
class Blueprint:
    """One instance with its disks (the system disk first), ports and image."""

    instance: Instance
    # Its own; what it shares with others is neither made, moved nor removed with it.
    volumes: tuple[Volume, ...]
    ports: tuple[tuple[Port, Subnet], ...]
    image: Image | None
    flavor_type: FlavorType
    # What it has of a node's NUMA cells; none: it floats over the node.
    cells: tuple[CellAllocation, ...]
    # Of the keys that are bound to it, beside those of its order.
    bound_keys: tuple[str, ...]
    # What it has of a node's devices, by kind and id.
    devices: tuple[DeviceClaim, ...]
    # Of its GPUs; empty: it has them as a whole.
    vgpu_type_id: str
    # Those that its volumes stand on, by id.
    images: Mapping[str, Image]

    # What is in its optical drives.
    isos: tuple[IsoRow, ...]
    # What it shares with other instances, as it sees them.
    shared_volumes: tuple[Volume, ...] = ()

    def image_below(self, volume: Volume) -> storage_pb2.ImageRef | None:
        """The image from which the volume's unwritten parts come; None: it stands alone."""
        return image_ref(self.images[volume.image_id]) if volume.image_id else None


def read_blueprint(session: Session, args: Mapping[str, Any], consumer_uuid: str = "") -> Blueprint:
    """The blueprint of the instance that `args` name, with its own cells and devices or those of another consumer."""
    instance = instance_query.find_instance(session, args["ecsId"])
    if instance is None:
        raise ResourceNotFound("instance", args["ecsId"])
    holder = consumer_uuid or instance.uuid
    volumes = tuple(instance_query.list_volumes(session, instance))
    return Blueprint(
        instance=instance,
        volumes=volumes,
        ports=tuple(instance_query.list_ports(session, instance)),
        image=session.get(Image, instance.image_id) if instance.image_id else None,
        flavor_type=instance_query.get_flavor_type(session, instance),
        cells=tuple(instance_query.list_cells(session, holder)),
        bound_keys=tuple(
            binding.public_key for binding in list_bindings(session, instance.id) if binding.state in WANTED_STATES
        ),
        devices=tuple(list_claims(session, holder)),
        vgpu_type_id=instance_query.get_flavor(session, instance).vgpu_type_id,
        images={volume.image_id: session.get_one(Image, volume.image_id) for volume in volumes if volume.image_id},
        isos=tuple(list_isos(session, instance.id)),
        shared_volumes=list_attached(session, instance.id),
    )


def image_ref(image: Image) -> storage_pb2.ImageRef:
    """The image as a node asks for it."""
    return storage_pb2.ImageRef(
        image_id=image.id, sha256=image.sha256, format=_FORMATS[image.format], size_bytes=image.size_bytes
    )


def port_message(blueprint: Blueprint, port: Port, subnet: Subnet) -> network_pb2.Port:
    """The port as a node makes it."""
    return network_pb2.Port(
        port_id=port.id,
        mac_address=port.mac_address,
        ip_address=port.ipv4_address,
        hostname=dns_label(blueprint.instance),
        subnet=network_pb2.Subnet(
            subnet_id=subnet.id,
            cidr=subnet.cidr,
            gateway_ip=subnet.gateway_ip,
            dns_ips=[address for address in subnet.dns_ips.split(",") if address],
        ),
    )


def volume_size_bytes(volume: Volume) -> int:
    """Size of the volume as a node makes it."""
    return volume.size_gib * GIB


def disk_message(volume: Volume) -> domain_pb2.Disk:
    """The volume as a disk of its instance."""
    return domain_pb2.Disk(volume_uuid=volume.uuid, bus=_BUSES[volume.disk_bus], boot_index=volume.boot_index)


def drive_message(instance: Instance, number: int, iso: IsoRow | None = None) -> domain_pb2.OpticalDrive:
    """One of the instance's drives, with the image in it or empty.

    Installers of Windows know no virtio SCSI, kernels of Linux cloud images no SATA.
    """
    bus = domain_pb2.DISK_BUS_SATA if _has_sata(instance) else domain_pb2.DISK_BUS_SCSI
    image = image_ref(iso[1]) if iso else None
    return domain_pb2.OpticalDrive(number=number, bus=bus, image=image, boot_index=int(bool(iso and iso[0].is_boot)))


def domain_spec(blueprint: Blueprint, runtime: Runtime) -> domain_pb2.DomainSpec:
    """What the node is asked to define."""
    instance = blueprint.instance
    firmware, tpm = security_of(instance.architecture, instance.security_type)
    room = Room.of(instance.options)
    return domain_pb2.DomainSpec(
        uuid=instance.uuid,
        name=instance.ecs_id,
        title=instance.display_name,
        architecture=_ARCHITECTURES[instance.architecture],
        vcpus=instance.vcpus,
        memory_bytes=instance.memory_bytes,
        huge_page_bytes=instance.huge_page_bytes,
        cpu_mode=_cpu_mode(instance.vcpu_type),
        firmware=firmware,
        tpm=tpm,
        disks=_disks(blueprint),
        optical_drives=_drives(blueprint),
        nics=[
            domain_pb2.Nic(port_id=port.id, mac_address=port.mac_address, subnet_id=port.subnet_id)
            for port, _ in blueprint.ports
        ],
        cloud_init=_cloud_init(blueprint),
        graphics=domain_pb2.Graphics(vnc_password=runtime.secrets.decrypt(instance.vnc_password_encrypted)),
        labels={"ecsId": instance.ecs_id, "tenantId": instance.tenant_id, "flavorId": instance.flavor_id},
        generation=instance.generation,
        cells=[_cell(share) for share in blueprint.cells],
        memory_locked=blueprint.flavor_type.is_dedicated_mem,
        has_virtual_numa=blueprint.flavor_type.v_numa,
        ha_enabled=instance.ha_enabled,
        machine=instance.machine,
        host_devices=host_devices(blueprint, runtime),
        max_vcpus=room.vcpus,
        max_memory_bytes=room.memory_bytes,
    )


def _disks(blueprint: Blueprint) -> list[domain_pb2.Disk]:
    """They come after a drive from which the guest starts."""
    disks = [disk_message(volume) for volume in (*blueprint.volumes, *blueprint.shared_volumes)]
    if any(attachment.is_boot for attachment, _ in blueprint.isos):
        for disk in disks:
            disk.boot_index += int(disk.boot_index > 0)
    return disks


def _drives(blueprint: Blueprint) -> list[domain_pb2.OpticalDrive]:
    isos = {attachment.number: (attachment, image) for attachment, image in blueprint.isos}
    return [drive_message(blueprint.instance, number, isos.get(number)) for number in range(OPTICAL_DRIVES)]


def _has_sata(instance: Instance) -> bool:
    return instance.os_type == "windows" and instance.architecture == "x86"


def host_devices(blueprint: Blueprint, runtime: Runtime) -> list[device_pb2.HostDevice]:
    """The instance's devices as its node gives them to the guest."""
    wipes_disks = runtime.settings.wipe_released_disks
    return make_host_devices(
        blueprint.instance.uuid, blueprint.devices, blueprint.vgpu_type_id, wipes_disks=wipes_disks
    )


def security_of(architecture: str, security_type: str) -> tuple[domain_pb2.Firmware, domain_pb2.TpmModel]:
    """Firmware and TPM of a flavor type's security type."""
    firmware, tpm = _SECURITY[security_type or "none"]
    # ARM machines know no BIOS.
    if architecture == "arm" and firmware == domain_pb2.FIRMWARE_BIOS:
        firmware = domain_pb2.FIRMWARE_UEFI
    return firmware, tpm


def traits_of(architecture: str, security_type: str) -> frozenset[str]:
    """What a node must be able to do for that security type, in the words of HostFacts.traits."""
    firmware, tpm = security_of(architecture, security_type)
    traits = {_FIRMWARE_TRAITS.get(firmware, ""), _TPM_TRAITS.get(tpm, "")}
    return frozenset(traits - {""})


def dns_label(instance: Instance) -> str:
    """The host name as DHCP and the guest can take it; at worst the id is used."""
    return make_dns_label(instance.host_name) or instance.ecs_id


def make_dns_label(name: str) -> str:
    """The name without what DNS does not allow; perhaps nothing is left of it."""
    return re.sub(r"[^a-z0-9-]+", "-", name.lower()).strip("-")[:63].strip("-")


def _cpu_mode(vcpu_type: str) -> domain_pb2.CpuMode:
    # A flavor type's cpuModel names hardware ("SkyLake"), not one of libvirt's models: the node chooses that itself.
    is_passthrough = vcpu_type == "host-passthrough"
    return domain_pb2.CPU_MODE_HOST_PASSTHROUGH if is_passthrough else domain_pb2.CPU_MODE_CUSTOM


def _cell(share: CellAllocation) -> domain_pb2.GuestCell:
    # CPUs beyond its own number are the other threads of its last core: nobody runs there.
    return domain_pb2.GuestCell(
        host_cell=share.cell,
        vcpus=share.vcpus,
        memory_bytes=share.memory_mib * MIB,
        pinned_cpu_ids=share.cpus[: share.vcpus],
    )


def _cloud_init(blueprint: Blueprint) -> domain_pb2.CloudInit:
    instance = blueprint.instance
    # Each key once, whatever its comments are.
    keys = {blob_of(line): line for line in (*instance.ssh_public_keys, *blueprint.bound_keys)}
    return domain_pb2.CloudInit(
        hostname=dns_label(instance),
        password_hash=instance.password_hash,
        ssh_public_keys=keys.values(),
        user_data=base64.b64decode(instance.user_data),
        instance_id=instance.ecs_id,
        renews_identity=CLONED_FROM in instance.options,
    )
