"""The life of an instance on one host, from REST to the guest and back, on real libvirt and QEMU."""

import base64
import re

import pytest

from tests.lab.cloud import Cloud, Instance
from tests.lab.rest import RestError
from tests.lab.waiting import wait_until
from tests.scenario.leftover import find_leftovers

pytestmark = [pytest.mark.scenario, pytest.mark.xdist_group("lab")]

USER_DATA = "#!/bin/sh\necho ran >> /boot/nodewright/user-data-runs\necho from-user-data > /run/greeting\n"
FOREIGN_DOMAIN = """
<domain type='qemu'>
  <name>somebody-elses</name>
  <memory unit='MiB'>16</memory>
  <os><type arch='x86_64' machine='q35'>hvm</type></os>
</domain>
"""


def test_a_new_instance_runs_and_its_guest_agent_answers(cloud: Cloud, guest: Instance) -> None:
    shown = guest.show()
    assert shown["status"] == "Running"
    assert shown["nodeName"] == cloud.host.name
    assert cloud.host.domain_state(guest.id) == "running"
    wait_until(lambda: guest.show()["vmtoolsStatus"]["status"] == "VmtoolsRunning", "the probe found the guest agent")
    assert cloud.host.guest_agent(guest.id, "guest-ping") == {}


def test_the_guest_has_the_address_that_the_coordinator_assigned(guest: Instance) -> None:
    (port,) = guest.show()["networkMappings"]
    addresses = wait_until(lambda: guest.run("ip -4 -o address show dev eth0"), "the guest has an address")
    assert f" {port['ipv4Address']}/" in addresses
    assert guest.run("cat /sys/class/net/eth0/address") == port["macAddress"]


def test_host_name_password_and_user_data_arrive_in_the_guest(cloud: Cloud) -> None:
    instance = cloud.create_instance(
        hostName="web-1", password="Secret,123", userData=base64.b64encode(USER_DATA.encode()).decode()
    )
    instance.wait_for_status("Running")
    instance.wait_for_guest_agent()
    assert instance.run("hostname") == "web-1"
    wait_until(lambda: instance.run("cat /run/greeting"), "the user data ran")
    shadow = instance.run("grep ^demo: /etc/shadow").split(":")[1]
    salt = shadow.split("$")[2]
    assert instance.run(f"mkpasswd -m sha512 -S {salt} Secret,123") == shadow
    instance.succeed(instance.power("restart", gracePeriodSeconds=1))
    instance.wait_for_guest_agent()
    assert instance.run("cat /boot/nodewright/user-data-runs") == "ran"
    instance.succeed(instance.delete())


def test_a_graceful_stop_lets_the_guest_end_itself_and_its_disk_keeps_what_was_written(
    cloud: Cloud, guest: Instance
) -> None:
    first_boot = guest.boot_id()
    guest.run("echo kept > /boot/nodewright/note; sync")
    guest.succeed(guest.power("stop", gracePeriodSeconds=1))
    assert guest.wait_for_status("Stopped")["vmtoolsStatus"]["status"] == "VmtoolsNotRunning"
    assert cloud.host.domain_state(guest.id) == "shut off"
    assert "(shutdown)" in cloud.host.virsh("domstate", "--reason", guest.id)
    guest.succeed(guest.power("start"))
    guest.wait_for_status("Running")
    guest.wait_for_guest_agent()
    assert cloud.host.domain_state(guest.id) == "running"
    assert guest.run("cat /boot/nodewright/note") == "kept"
    assert guest.boot_id() != first_boot


def test_a_forced_stop_ends_the_guest_at_once(cloud: Cloud, guest: Instance) -> None:
    guest.succeed(guest.power("stop", gracePeriodSeconds=0))
    guest.wait_for_status("Stopped")
    assert "(destroyed)" in cloud.host.virsh("domstate", "--reason", guest.id)
    guest.succeed(guest.power("start"))
    guest.wait_for_guest_agent()


def test_a_guest_that_ignores_a_graceful_stop_makes_it_fail_and_runs_on(cloud: Cloud, guest: Instance) -> None:
    guest.run("killall acpid; ln -sf /bin/true /sbin/shutdown; ln -sf /bin/true /sbin/poweroff; rm -rf /etc/acpi")
    operation = guest.finish(guest.power("stop", gracePeriodSeconds=1))
    assert operation["state"] == "Failed"
    assert cloud.host.domain_state(guest.id) == "running"
    guest.wait_for_status("Running")
    guest.succeed(guest.power("restart", gracePeriodSeconds=0))
    guest.wait_for_guest_agent()


@pytest.mark.parametrize("grace_seconds", [0, 1], ids=["forced", "graceful"])
def test_a_restart_boots_the_guest_anew(guest: Instance, grace_seconds: int) -> None:
    first_boot = guest.boot_id()
    guest.succeed(guest.power("restart", gracePeriodSeconds=grace_seconds))
    guest.wait_for_status("Running")
    guest.wait_for_guest_agent()
    assert guest.boot_id() != first_boot


def test_a_suspended_guest_stands_still_and_runs_on_after_resume(cloud: Cloud, guest: Instance) -> None:
    first_boot = guest.boot_id()
    guest.succeed(guest.power("suspend"))
    guest.wait_for_status("Paused")
    assert cloud.host.domain_state(guest.id) == "paused"
    with pytest.raises(RestError):
        guest.guest_agent("guest-ping")
    guest.succeed(guest.power("resume"))
    guest.wait_for_status("Running")
    assert cloud.host.domain_state(guest.id) == "running"
    guest.wait_for_guest_agent()
    assert guest.boot_id() == first_boot


def test_a_shutdown_from_inside_is_seen(cloud: Cloud, guest: Instance) -> None:
    cloud.host.virsh("shutdown", guest.id, "--mode", "acpi")
    guest.wait_for_status("Stopped")
    guest.succeed(guest.power("start"))
    guest.wait_for_guest_agent()


@pytest.mark.parametrize("security", ["none", "2.0"])
def test_deletion_leaves_nothing_behind(cloud: Cloud, security: str) -> None:
    before = cloud.holdings()
    flavor_id = cloud.create_flavor(securityType=security)
    instance = cloud.create_instance(flavorId=flavor_id)
    instance.wait_for_status("Running")
    traces = instance.traces()
    assert all(find_leftovers(cloud, trace) for trace in traces)
    instance.succeed(instance.delete())
    with pytest.raises(RestError, match=r"ECS\.DBGet\.NoData"):
        instance.show()
    assert find_leftovers(cloud, *traces) == []
    assert cloud.holdings() == before


def test_an_instance_that_fits_nowhere_says_why_and_holds_nothing(cloud: Cloud) -> None:
    before = cloud.holdings()
    flavor_id = cloud.create_flavor(cpu=256)
    instance = cloud.create_instance(flavorId=flavor_id, cpus=256)
    shown = instance.wait_for_status("ErrorUnschedulable")
    assert re.search(r"\b0/1\b.*vCPU", shown["errMessage"])
    assert find_leftovers(cloud, instance.id) == []
    assert cloud.holdings() == before
    instance.delete()
    wait_until(lambda: not instance.exists(), "it is gone")


def test_a_domain_that_somebody_undefined_is_put_back(cloud: Cloud, guest: Instance) -> None:
    guest.run("echo kept > /boot/nodewright/undefined; sync")
    # Running without a definition, it would be gone with its next stop.
    cloud.host.virsh("undefine", guest.id)
    guest.succeed(guest.power("restart", gracePeriodSeconds=0))
    assert cloud.host.virsh("dominfo", guest.id).split("Persistent:")[1].split()[0] == "yes"
    guest.succeed(guest.power("stop", gracePeriodSeconds=0))
    cloud.host.virsh("undefine", guest.id)
    assert "somebody removed it" in guest.wait_for_status("Unknown")["errMessage"]
    guest.succeed(guest.power("start"))
    guest.wait_for_guest_agent()
    assert guest.run("cat /boot/nodewright/undefined") == "kept"


def test_guests_run_on_when_the_agent_is_killed(cloud: Cloud, guest: Instance) -> None:
    first_boot = guest.boot_id()
    cloud.host.agent.kill()
    assert cloud.host.domain_state(guest.id) == "running"
    assert cloud.host.guest_agent(guest.id, "guest-ping") == {}
    guest.wait_for_status("Unknown")
    cloud.host.start_agent()
    guest.wait_for_status("Running")
    assert guest.boot_id() == first_boot


def test_guests_run_on_when_the_coordinator_is_killed(cloud: Cloud, guest: Instance) -> None:
    first_boot = guest.boot_id()
    cloud.lab.coordinator.kill()
    assert cloud.host.guest_agent(guest.id, "guest-ping") == {}
    cloud.lab.coordinator.start()
    cloud.wait_for_node(cloud.host)
    guest.wait_for_status("Running")
    assert guest.boot_id() == first_boot


def test_the_agent_recovers_from_a_restart_of_libvirt(cloud: Cloud, guest: Instance) -> None:
    agent_pid, first_boot = cloud.host.agent.pid, guest.boot_id()
    cloud.host.restart_libvirtd()
    guest.wait_for_guest_agent()
    guest.succeed(guest.power("suspend"))
    guest.wait_for_status("Paused")
    guest.succeed(guest.power("resume"))
    guest.wait_for_guest_agent()
    assert (cloud.host.agent.pid, guest.boot_id()) == (agent_pid, first_boot)


def test_a_foreign_domain_is_left_alone(cloud: Cloud, guest: Instance) -> None:
    definition = cloud.host.directory / "foreign.xml"
    definition.write_text(FOREIGN_DOMAIN)
    cloud.host.virsh("create", "/var/lib/nodewright/foreign.xml")
    uuid = cloud.host.virsh("domuuid", "somebody-elses").strip()
    try:
        cloud.host.agent.stop()
        cloud.host.start_agent()
        cloud.wait_for_node(cloud.host)
        guest.wait_for_status("Running")
        assert cloud.host.domain_state("somebody-elses") == "running"
        assert cloud.host.virsh("domuuid", "somebody-elses").strip() == uuid
        assert all(
            item["displayName"] != "somebody-elses"
            for item in cloud.rest.get("/api/ecs/v1/instances")["virtualMachines"]
        )
    finally:
        cloud.host.virsh("destroy", "somebody-elses")
