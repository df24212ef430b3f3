"""What an instance must not leave on a host."""

from tests.lab.cloud import Cloud

STATE_PATHS = (
    "/var/lib/nodewright/agent/volumes",
    "/var/lib/nodewright/agent/seeds",
    "/var/lib/nodewright/agent/journal",
    "/var/lib/libvirt/qemu/nvram",
    "/var/lib/libvirt/qemu/save",
    "/var/lib/libvirt/swtpm",
)


def find_leftovers(cloud: Cloud, *names: str) -> list[str]:
    """Files, DHCP entries and domains on the host that carry one of the names."""
    found = cloud.host.namespace.run("find", *STATE_PATHS, "-mindepth", "1", check=False)
    networks = cloud.host.virsh("net-list", "--all", "--name").split()
    dhcp = "".join(cloud.host.virsh("net-dumpxml", network) for network in networks)
    domains = cloud.host.virsh("list", "--all", "--name", "--uuid")
    lines = (found + dhcp + domains).splitlines()
    return [line for line in lines if any(name in line for name in names)]
