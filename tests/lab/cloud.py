"""A running cloud for tests: the lab's coordinator and hosts, with a demo image, a flavor and ways to ask."""

import base64
import hashlib
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.lab.host import Host
from tests.lab.lab import Lab
from tests.lab.rest import REGION, Rest, RestError
from tests.lab.waiting import wait_until

INSTANCES = "/api/ecs/v1/instances"
IMAGES = "/api/image/v1/images"
GUEST_MEMORY_GIB = 1


class Cloud:
    """An operator's view of a lab whose hosts have joined."""

    def __init__(self, lab: Lab, image: Path) -> None:
        self.lab = lab
        lab.coordinator.start()
        self.rest = lab.coordinator.client(lab.coordinator.create_token())
        self.image_id = self.register_image(image)
        self.flavor_id = self.create_flavor(name="demo")

    @property
    def host(self) -> Host:
        """The only host, or the first."""
        return self.lab.hosts[0]

    def join(self, host: Host) -> None:
        """The host becomes a node, and is ready."""
        token = self.rest.post("/api/ecs/v1/nodes/enrolment-tokens", {})["token"]
        host.join(self.lab.coordinator.node_side_url, token)
        host.start_agent()
        self.wait_for_node(host)

    def wait_for_node(self, host: Host) -> None:
        """The host's agent is connected."""
        wait_until(lambda: self.node(host).get("ready"), f"{host.name} is ready")

    def wait_for_sign_of_life(self, host: Host) -> None:
        """The host's agent has spoken from now on: one that is connected may yet come to count as lost."""
        now = datetime.now(UTC)
        wait_until(lambda: datetime.fromisoformat(self.node(host)["heardAt"]) > now, f"{host.name} is heard of")
        self.wait_for_node(host)

    def node(self, host: Host) -> dict[str, Any]:
        """The host as the node list shows it."""
        nodes = self.rest.get("/api/ecs/v1/nodes", size=1000)["list"]
        return next((node for node in nodes if node["name"] == host.name), {})

    def register_image(self, file: Path, **properties: object) -> str:
        """An uploaded image's id."""
        content = file.read_bytes()
        properties = {
            "name": "demo",
            "format": "qcow2",
            "cpuArch": "x86",
            "osType": "linux",
            "visibility": "public",
            "sha256": hashlib.sha256(content).hexdigest(),
        } | properties
        image_id: str = self.rest.post(IMAGES, properties)["imageId"]
        self.rest.request("PUT", f"{IMAGES}/{image_id}/file", content=content)
        wait_until(lambda: self.rest.get(f"{IMAGES}/{image_id}")["status"] == "Active", "the image is active")
        return image_id

    def create_flavor(self, *, name: str = "", cpu: int = 1, ram: int = GUEST_MEMORY_GIB, **promises: object) -> str:
        """A new flavor of a new type, which promises what is given; without a name it gets one of its own."""
        prices = [{"billingMode": "OnDemand", "cpuPrice": 0, "ramPrice": 0}]
        name = name or f"demo-{time.monotonic_ns()}"
        flavor_type = self.rest.post(
            "/api/ecs/v1/flavortypes",
            {
                "name": name,
                "archType": "x86",
                "cpuModel": "any",
                "deviceType": "normal",
                "isSystemLocalDisk": False,
                "flavorPrices": prices,
            }
            | promises,
        )
        body = {"flavorTypeId": flavor_type["flavorTypeId"], "name": name, "cpu": cpu, "ram": ram}
        flavor_id: str = self.rest.post("/api/ecs/v1/flavors", body)["flavorId"]
        return flavor_id

    def instance_body(self, **changes: object) -> dict[str, object]:
        """The request for a small instance of the demo image."""
        subnet = next(item for item in self.rest.get("/api/vpc/v1/subnets")["list"] if item["isDefault"])
        group = self.rest.get("/api/vpc/v1/security-groups")["list"][0]
        tenant = self.rest.get("/api/iam/v1/tenants")["list"][0]
        departments = self.rest.get("/api/iam/v1/departments", tenantId=tenant["tenantId"])["list"]
        network = {"vpcId": subnet["vpcId"], "subnetId": subnet["subnetId"], "portType": "Primary", "ipType": "dhcp"}
        disk = {"isOsDisk": True, "bootIndex": 1, "volumeSize": 1, "volumeType": "hdd", "deleteOnTermination": True}
        return {
            "tenantId": tenant["tenantId"],
            "departmentId": departments[0]["departmentId"],
            "region": REGION,
            "az": "AZ0",
            "displayName": "guest",
            "archType": "x86",
            "flavorId": self.flavor_id,
            "cpus": 1,
            "memory": {"amount": f"{GUEST_MEMORY_GIB}Gi"},
            "image": {"imageUid": self.image_id},
            "volumes": [disk],
            "networks": [network],
            "secGroupList": [group["securityGroupId"]],
            "billingMode": "OnDemand",
        } | changes

    def holdings(self) -> list[Any]:
        """All that instances hold: capacity, volumes and ports."""
        volumes = self.rest.get("/api/ebs/v1/volumes", pageSize=1000)["list"]
        ports = self.rest.get("/api/vpc/v1/ports", pageSize=1000)["list"]
        return [
            self.rest.get("/api/ecs/v1/monitor/capacity"),
            sorted(volume["volumeUuid"] for volume in volumes),
            sorted(port["portId"] for port in ports),
        ]

    def find_instances(self, name: str) -> list["Instance"]:
        """All instances that show this name."""
        found = self.rest.get(INSTANCES, filter=f"displayName:eq:{name}")["virtualMachines"]
        return [Instance(self, item["ecsId"]) for item in found]

    def create_instance(self, **changes: object) -> "Instance":
        """An accepted instance; its boot is still to come."""
        (created,) = self.rest.post(f"{INSTANCES}/batch-create", self.instance_body(**changes))
        return Instance(self, created["ecsId"])


class Instance:
    """One instance, through REST."""

    def __init__(self, cloud: Cloud, ecs_id: str) -> None:
        self.id = ecs_id
        self.path = f"{INSTANCES}/{ecs_id}"
        self._cloud = cloud
        self._rest: Rest = cloud.rest

    def show(self) -> dict[str, Any]:
        """The instance object."""
        shown: dict[str, Any] = self._rest.get(self.path)
        return shown

    def exists(self) -> bool:
        """Whether the coordinator knows it."""
        try:
            self.show()
        except RestError as error:
            if error.code == "ECS.DBGet.NoData":
                return False
            raise
        return True

    def traces(self) -> list[str]:
        """The names under which it is found on its host: of the domain, the disks and the ports."""
        shown = self.show()
        disks = [disk["volumeUuid"].removeprefix("volume-") for disk in shown["blockDeviceMappings"]]
        ports = [port["macAddress"] for port in shown["networkMappings"]]
        return [self.id, self._cloud.host.virsh("domuuid", self.id).strip(), *disks, *ports]

    def wait_for_status(self, status: str, timeout_seconds: float = 120) -> dict[str, Any]:
        """The instance object once it has this status; an error status ends the waiting."""
        wait_until(lambda: self._settled(status), f"{self.id} is {status}", timeout_seconds)
        return self.show()

    def wait_for_guest_agent(self, timeout_seconds: float = 180) -> None:
        """The guest has booted so far that its agent answers."""
        wait_until(
            lambda: self.guest_agent("guest-ping") == {}, f"the guest agent of {self.id} answers", timeout_seconds
        )

    def power(self, verb: str, **body: object) -> str:
        """Asks for a change of power; the operation's id."""
        response = self._rest.request("PUT", f"{self.path}/{verb}", json=body)
        return response.headers["x-operation-id"]

    def delete(self) -> str:
        """Asks for the instance's end; the operation's id, empty when there was nothing to do on a host."""
        headers = self._rest.request("DELETE", self.path).headers
        return str(headers.get("x-operation-id", ""))

    def finish(self, operation_id: str, timeout_seconds: float = 180) -> dict[str, Any]:
        """The operation once it has ended, well or not."""
        path = f"/api/ecs/v1/operations/{operation_id}"

        def ended() -> bool:
            return self._rest.get(path)["state"] in {"Succeeded", "Failed", "Canceled", "NeedsOperator"}

        wait_until(ended, f"the operation {operation_id} ends", timeout_seconds)
        operation: dict[str, Any] = self._rest.get(path)
        return operation

    def succeed(self, operation_id: str, timeout_seconds: float = 180) -> None:
        """The operation ends, and well."""
        operation = self.finish(operation_id, timeout_seconds)
        assert operation["state"] == "Succeeded", operation

    def guest_agent(self, command: str, **arguments: object) -> Any:
        """What the guest agent returns."""
        request = {"execute": command, "arguments": arguments} if arguments else {"execute": command}
        return self._rest.put(f"{self.path}/vmtools", {"qgaCommand": request})

    def run(self, script: str) -> str:
        """What a shell script prints inside the guest; it must succeed."""
        arguments = {"path": "/bin/sh", "arg": ["-c", script], "capture-output": True}
        pid = self.guest_agent("guest-exec", **arguments)["pid"]
        status: dict[str, Any] = {}

        def exited() -> bool:
            status.update(self.guest_agent("guest-exec-status", pid=pid))
            return bool(status["exited"])

        wait_until(exited, f"{script!r} ends in {self.id}")
        assert status["exitcode"] == 0, (script, _decoded(status, "err-data"))
        return _decoded(status, "out-data").strip()

    def boot_id(self) -> str:
        """Changes with each boot of the guest."""
        return self.run("cat /proc/sys/kernel/random/boot_id")

    def _settled(self, status: str) -> bool:
        shown = self.show()
        assert shown["status"] in {status} or "Err" not in shown["status"], shown
        return bool(shown["status"] == status)


def _decoded(status: dict[str, Any], member: str) -> str:
    return base64.b64decode(status.get(member, "")).decode()
