"""Devices as those who want one look for them: USB devices, InfiniBand models, local disks of an instance's node."""

from typing import Any

import pytest
from sqlmodel import Session

from coordinator.agents.device_report import make_devices
from coordinator.runtime import Runtime
from coordinator.services import usb
from coordinator.services.device import DeviceView, view_device
from coordinator.store.queries import device as queries
from coordinator.store.queries.device import DeviceHolder, DeviceRow
from coordinator.store.tables import Device, DeviceAllocation, Instance, Node, Tenant
from protos.agent.v1 import host_pb2
from tests.api.client import Api
from tests.builders import a_flavor, a_flavor_type, a_node, add, an_instance
from tests.database import BOTH_DATABASES

pytestmark = BOTH_DATABASES

USB = "/api/ecs/v1/usb"
IB_NICS = "/api/ecs/v1/ibnic/supported-list"
GIB = 1024**3


def a_stick(port: str, **fields: Any) -> host_pb2.Device:
    details = {"bus": "1", "port": port, "device": "5", "product_name": "DataTraveler", "serial": "KX1"}
    attributes = {"vendor": "0951", "product": "1666"}
    return host_pb2.Device(
        **{"id": f"usb-x-0-{port}", "kind": "usb", "attributes": attributes, "details": details, **fields}
    )


def an_adapter(number: int, product: str = "1021", **fields: Any) -> host_pb2.Device:
    names = {"vendor_name": "Mellanox Technologies", "product_name": "MT2910 Family [ConnectX-7]"}
    attributes = {"vendor": "15b3", "product": product}
    return host_pb2.Device(
        **{"id": f"0000:af:00.{number}", "kind": "infiniband", "attributes": attributes, "details": names, **fields}
    )


def a_disk(number: int, **fields: Any) -> host_pb2.Device:
    attributes = {"vendor": "SEAGATE", "model": "ST8000NM", "media": "hdd", "interface": "sas"}
    details = {"address": f"0:0:{number}:0", "pci_address": "0000:41:00.0", "serial": "ZC1A2B3C"}
    same = {"kind": "disk", "attributes": attributes, "details": details, "size_bytes": 500 * GIB}
    return host_pb2.Device(**{"id": f"wwn-{number}", **same, **fields})


class Site:
    """Two nodes, an instance of a tenant on the first, and devices."""

    def __init__(self, runtime: Runtime, tenant: Tenant) -> None:
        self.runtime = runtime
        self.first, self.second = a_node("first"), a_node("second", zone="AZ1")
        flavor_type = a_flavor_type()
        flavor = a_flavor(flavor_type)
        self.instance: Instance = an_instance(tenant, flavor, node=self.first)
        with runtime.database.write() as session:
            add(session, self.first, self.second, flavor_type, flavor, self.instance)

    def fill(self, node: Node, *devices: host_pb2.Device) -> None:
        with self.runtime.database.write() as session:
            add(session, *make_devices(node.id, devices))

    def hold(self, node: Node, device: host_pb2.Device, uuid: str) -> None:
        held: dict[str, Any] = {"node_id": node.id, "device_id": device.id, "kind": device.kind}
        with self.runtime.database.write() as session:
            add(session, DeviceAllocation(consumer_uuid=uuid, milli=1000, **held))


@pytest.fixture
def site(runtime: Runtime, tenant: Tenant) -> Site:
    return Site(runtime, tenant)


class TestUsb:
    """USB devices."""

    @pytest.fixture
    def sticks(self, site: Site) -> Site:
        """Of the first node one is free, one the instance's, one somebody's, one withheld; the second has one."""
        devices = [a_stick("1"), a_stick("2"), a_stick("3"), a_stick("4", withheld_reason="mounted")]
        site.fill(site.first, *devices)
        site.fill(site.second, a_stick("1"))
        site.hold(site.first, devices[1], site.instance.uuid)
        site.hold(site.first, devices[2], "somebody")
        return site

    def test_operators_see_all_of_them(self, operator: Api, sticks: Site) -> None:
        told = operator.ok("GET", USB)
        assert told[0] == {
            "name": "first-1-1",
            "nodeName": "first",
            "status": "nouse",
            "bus": "1",
            "port": "1",
            "vendor": "0951",
            "device": "5",
            "product": "DataTraveler",
            "productDescribe": "0951:1666",
            "serialNumber": "KX1",
            "id": "usb-x-0-1",
            "withheldReason": "",
        }
        assert [(one["name"], one["status"]) for one in told] == [
            ("first-1-1", "nouse"),
            ("first-1-2", "inuse"),
            ("first-1-3", "inuse"),
            ("first-1-4", "withheld"),
            ("second-1-1", "nouse"),
        ]
        assert [one["name"] for one in operator.ok("GET", f"{USB}?nodeName=second")] == ["second-1-1"]

    def test_a_tenant_sees_what_its_instances_have_or_could_have(self, customer: Api, sticks: Site) -> None:
        assert [one["name"] for one in customer.ok("GET", USB)] == ["first-1-1", "first-1-2"]

    def test_no_more_is_read_than_may_be_seen(
        self, customer: Api, operator: Api, sticks: Site, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        read: list[str] = []
        asked: list[str] = []

        def view(row: DeviceRow, holders: tuple[DeviceHolder, ...]) -> DeviceView:
            read.append(row.node_name)
            return view_device(row, holders)

        def read_holders(session: Session, devices: list[Device]) -> dict[tuple[str, str], list[DeviceHolder]]:
            asked.extend(device.id for device in devices)
            return {}

        monkeypatch.setattr(usb, "view_device", view)
        monkeypatch.setattr(queries, "read_holders", read_holders)
        customer.ok("GET", USB)
        customer.ok("GET", f"{USB}?ecsId={sticks.instance.ecs_id}")
        assert set(read) == {"first"}
        asked.clear()
        operator.ok("GET", USB)
        assert asked == ["usb-x-0-2", "usb-x-0-3"]

    def test_another_tenant_sees_nothing(self, stranger: Api, sticks: Site) -> None:
        assert stranger.ok("GET", USB) == []
        answer = stranger.refused("GET", f"{USB}?ecsId={sticks.instance.ecs_id}")
        assert answer.code == "ECS.DBGet.NoData"

    def test_those_of_one_instance(self, operator: Api, customer: Api, sticks: Site) -> None:
        for caller in (operator, customer):
            told = caller.ok("GET", f"{USB}?ecsId={sticks.instance.ecs_id}")
            assert [one["name"] for one in told] == ["first-1-2"]
            assert caller.ok("GET", f"{USB}?ecsId={sticks.instance.ecs_id}&nodeName=second") == []


class TestInfiniband:
    """Models of adapters."""

    def test_models_that_a_zone_offers_are_told_once(self, customer: Api, site: Site) -> None:
        held = an_adapter(1, "101e")
        site.fill(site.first, an_adapter(0), held, an_adapter(2), an_adapter(3, "1013", withheld_reason="is DOWN"))
        site.hold(site.first, held, "somebody")
        site.fill(site.second, an_adapter(0, "1017"))
        same = {"vendor": "Mellanox Technologies", "vendorID": "15b3", "product": "MT2910 Family [ConnectX-7]"}
        assert customer.ok("GET", f"{IB_NICS}?az=AZ0") == [
            {"az": "AZ0", **same, "productID": "101e"},
            {"az": "AZ0", **same, "productID": "1021"},
        ]
        assert [one["productID"] for one in customer.ok("GET", f"{IB_NICS}?Az=AZ1")] == ["1017"]
        assert customer.ok("GET", f"{IB_NICS}?az=elsewhere") == []

    def test_the_zone_is_required(self, customer: Api) -> None:
        answer = customer.refused("GET", IB_NICS)
        assert (answer.code, answer.message.startswith("az")) == ("ECS.InvalidParameter", True)


@pytest.mark.parametrize("path", ["nouse-disk-list", "house-disk-list"])
def test_disks_of_an_instances_node_that_nobody_has(customer: Api, stranger: Api, site: Site, path: str) -> None:
    held = a_disk(1)
    site.fill(site.first, a_disk(0), held, a_disk(2, withheld_reason="mounted"), a_stick("1"))
    site.fill(site.second, a_disk(0))
    site.hold(site.first, held, "somebody")
    url = f"/api/ecs/v1/instances/{site.instance.ecs_id}/{path}"
    assert customer.ok("GET", url) == [
        {
            "diskName": "wwn-0",
            "nodeName": "first",
            "pciAddress": "0000:41:00.0",
            "product": "ST8000NM",
            "vendor": "SEAGATE",
            "size": 500 * GIB,
            "diskType": "HDD",
            "diskInterface": "SAS",
            "serial": "ZC1A2B3C",
            "htcl": "0:0:0:0",
            "hctl": "0:0:0:0",
        }
    ]
    assert stranger.refused("GET", url).code == "ECS.DBGet.NoData"
