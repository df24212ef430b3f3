"""`nwctl node`: the hosts."""

from typing import Annotated, Any

import typer
from rich.text import Text

from nwctl.binding import command, noun
from nwctl.error import UsageError
from nwctl.option import Page, Waiting, duration
from nwctl.output import NEVER, Column, joined, moment, plain, size
from nwctl.resource import Entry, Resource
from nwctl.secret import read_secret
from nwctl.session import Session


def space(storages: list[dict[str, Any]] | None) -> Text:
    """A line for each of the pools: what is in it, what new volumes may take of it."""
    lines = []
    for it in storages or ():
        silent = "" if it["silentSince"].startswith(NEVER) else f", silent since {it['silentSince']}"
        types = ", ".join(it["volumeTypes"]) or "none any more"
        room = f"{it['availableGib']} of {it['totalGib']} GiB for new volumes, {it['freeGib']} GiB free"
        lines.append(f"{types}: {room}{silent} (pool {it['poolId']})")
    return plain("\n".join(lines))


NODE = Resource(
    noun="node",
    path="/api/ecs/v1/nodes",
    id_field="hostId",
    id_pattern="node-[a-z0-9]{14}",
    total_field="total",
    page_parameters=("current", "size"),
    columns=(
        Column("ID", "hostId"),
        Column("Name", "name"),
        Column("Address", "hostIp"),
        Column("Zone", "az"),
        Column("Arch", "arch"),
        Column("CPU", "cpuModel"),
        Column("Ready", "ready"),
        Column("Schedulable", "schedulable"),
        Column("Maintenance", "inMaintenance"),
        Column("Pool", "rpName"),
        Column("Host group", "hgName"),
        Column("GPU", "gpuInfo.product"),
    ),
    details=(
        Column("Agent", "agentVersion"),
        Column("Storage", "storageId"),
        Column("Space for volumes", "storages", space),
        Column("Disk locks", "diskLocks"),
        Column("Cell", "cell"),
        Column("Label or serial number", "hostSlot"),
        Column("Rack", "hostRack"),
        Column("Switch", "hostSwitch"),
        Column("Network switch", "hostNetSwitch"),
        Column("vCPUs per CPU", "cpuAllocationRatio"),
        Column("Reserved CPUs", "reservedVcpus"),
        Column("Reserved memory, MiB", "reservedMemoryMib"),
        Column("Disks", "hardDiskList", joined("diskNum", "localDiskType", "localDiskInterface")),
        Column("Created", "createdAt", moment),
        Column("Updated", "updatedAt", moment),
    ),
)

UNUSED_DISKS = "/api/ecs/v1/harddisks/nouse-list"
DISK_COLUMNS = (
    Column("Node", "nodeName"),
    Column("Zone", "az"),
    Column("Type", "localDiskType"),
    Column("Interface", "localDiskInterface"),
    Column("Size", "diskSize", size),
    Column("Disks", "diskNum"),
)

EVICTION_COLUMNS = (
    Column("ID", "ecsId"),
    Column("Name", "displayName"),
    Column("Status", "status"),
    Column("Fate", "fate"),
    Column("To", "targetNode"),
    Column("Reason", "reason"),
)
BMC_COLUMNS = (
    Column("Node", "nodeId"),
    Column("Kind", "kind"),
    Column("Address", "address"),
    Column("User", "username"),
    Column("Verifies TLS", "verifyTls"),
    Column("Updated", "updatedAt", moment),
)

app = noun("node", "Nodes: the hosts that run instances.")
enrolment = noun("enrolment-token", "Enrolment tokens: with one of them a new node joins.")
app.add_typer(enrolment)
bmc = noun("bmc", "Management controllers: through them lost nodes are switched off.")
app.add_typer(bmc)

NodeReference = Annotated[str, typer.Argument(metavar="NODE", help="Id or name.", autocompletion=NODE.complete)]
NodeReferences = Annotated[
    list[str], typer.Argument(metavar="NODE...", help="Ids or names.", autocompletion=NODE.complete)
]
# Absent: stays; empty: taken off.
Label = Annotated[str | None, typer.Option(help="At most 63 characters; empty takes it off.")]


def named(node: Entry) -> dict[str, str]:
    """How calls that take hosts name this node."""
    return {"cell": node["cell"], "name": node["name"], "innerIp": node["hostIp"]}


@command(app, "list")
def list_nodes(session: Session, page: Page) -> None:
    """List the nodes."""
    session.show_list(NODE, page)


@command(app, "show")
def show_node(session: Session, node: NodeReference) -> None:
    """Show one node."""
    session.show(NODE, NODE.find(session.client, node))


@command(app, "cordon")
def cordon_node(session: Session, node: NodeReference) -> None:
    """Close a node for new instances; what runs there goes on."""
    set_schedulable(session, node, schedulable=False)


@command(app, "uncordon")
def uncordon_node(session: Session, node: NodeReference) -> None:
    """Open a node for new instances again."""
    set_schedulable(session, node, schedulable=True)


def set_schedulable(session: Session, node: str, *, schedulable: bool) -> None:
    """Closes or opens a node."""
    node_id = NODE.find_id(session.client, node)
    answer = session.client.change("PUT", f"{NODE.at(node_id)}/schedulable", {"schedulable": schedulable})
    session.report(answer.data, f"{'Opened' if schedulable else 'Closed'} {node_id} for new instances")


@command(app, "drain")
def drain_node(
    session: Session,
    node: NodeReference,
    waiting: Waiting,
    *,
    force: Annotated[bool, typer.Option("--force", help="Move those that can although others cannot.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would become of each instance.")] = False,
    network: Annotated[str, typer.Option(help="manage, storage, business or cninet, instead of the region's.")] = "",
) -> None:
    """Put a node into maintenance: it takes no instances, and those that run there move to other nodes."""
    name = NODE.find(session.client, node)["name"]
    body = {"nodeName": name, "maintenance": True, "force": force, "dryRun": dry_run, "network": network or None}
    answer = session.client.change("PUT", f"{NODE.path}/maintenance", body)
    session.show_rows(EVICTION_COLUMNS, answer.data["instances"], answer.data)
    if not dry_run:
        session.settle(answer, waiting)
        session.output.note(f"{name} is in maintenance; `nwctl node undrain {name}` ends it")


@command(app, "undrain")
def undrain_node(session: Session, node: NodeReference) -> None:
    """End the maintenance of a node; what still moves stays."""
    name = NODE.find(session.client, node)["name"]
    answer = session.client.change("PUT", f"{NODE.path}/maintenance", {"nodeName": name, "maintenance": False})
    session.report(answer.data, f"Opened {name} again")


@command(app, "reserve")
def reserve_on_node(
    session: Session,
    node: NodeReference,
    vcpus: Annotated[int | None, typer.Option(min=0, help="CPUs; as configured unless given.")] = None,
    memory_mib: Annotated[int | None, typer.Option("--memory", min=0, metavar="MIB", help="Likewise memory.")] = None,
) -> None:
    """Set what a node keeps for itself; without options as much as the configuration says."""
    node_id = NODE.find_id(session.client, node)
    body = {"vcpus": vcpus, "memoryMib": memory_mib}
    answer = session.client.change("PUT", f"{NODE.at(node_id)}/reserved", body)
    session.report(answer.data, f"{node_id} keeps {told(vcpus, 'CPUs')} and {told(memory_mib, 'MiB')} for itself")


@command(app, "gpu-mode")
def set_gpu_mode(
    session: Session,
    node: NodeReference,
    mode: Annotated[str, typer.Argument(help="passthrough, or a type of vGPU such as nvidia-223.")],
    waiting: Waiting,
) -> None:
    """Give the GPUs of a node as a whole, or split them into vGPUs; refused while an instance has one."""
    found = NODE.find(session.client, node)
    body = {"cell": found["cell"], "name": found["name"], "gpuMode": mode}
    answer = session.client.change("PUT", f"{NODE.path}/gpu-mode", body)
    session.conclude(answer, waiting, f"GPUs of {found['name']} work in the mode {mode}")


@command(app, "release-device")
def release_device(
    session: Session,
    node: NodeReference,
    device: Annotated[str, typer.Argument(help="Id as `nwctl devices` shows it.")],
    waiting: Waiting,
) -> None:
    """Give a device back by force, when it is dead, away or forgotten; a disk that cannot be wiped is withheld."""
    found = NODE.find(session.client, node)
    body = {"cell": found["cell"], "name": found["name"], "deviceId": device}
    answer = session.client.change("PUT", "/api/ecs/v1/devices/release", body)
    session.conclude(answer, waiting, f"{device} of {found['name']} is given back, or given up")


def told(amount: int | None, unit: str) -> str:
    """An amount that may be left to the configuration."""
    return f"the configured {unit}" if amount is None else f"{amount} {unit}"


@command(app, "disks")
def list_unused_disks(
    session: Session,
    zone: Annotated[str, typer.Option(help="Only those of this zone.")] = "",
    least_gib: Annotated[int | None, typer.Option("--min-size", metavar="GIB", help="Only those of this size.")] = None,
) -> None:
    """List the local disks that instances can have, by node and kind."""
    query = {"az": zone, "minSize": least_gib}
    disks = session.client.get(UNUSED_DISKS, {name: value for name, value in query.items() if value}).data
    session.show_rows(DISK_COLUMNS, disks, disks)


@command(app, "label")
def label_nodes(
    session: Session,
    nodes: NodeReferences,
    host: Label = None,
    rack: Label = None,
    switch: Label = None,
    net_switch: Label = None,
) -> None:
    """Label nodes with where they stand; what is not given stays as it is."""
    given = {"hostLabel": host, "rackLabel": rack, "switchLabel": switch, "netSwitchLabel": net_switch}
    labels = {name: label for name, label in given.items() if label is not None}
    if not labels:
        raise UsageError("give at least one label")
    body = {"nodes": [named(NODE.find(session.client, node)) for node in nodes], **labels}
    answer = session.client.change("POST", f"{NODE.path}/label", body)
    session.report(answer.data, f"Labelled {', '.join(nodes)}")


@command(bmc, "show")
def show_bmc(session: Session, node: NodeReference) -> None:
    """Show how a node's management controller is reached."""
    data = session.client.get(bmc_path(session, node)).data
    session.show_rows(BMC_COLUMNS, [data], data)


@command(bmc, "set")
def set_bmc(
    session: Session,
    node: NodeReference,
    kind: Annotated[str, typer.Option(help="redfish or ipmi.")],
    address: Annotated[str, typer.Option(help="Redfish: host or URL; IPMI: host or host:port.")],
    user: Annotated[str, typer.Option(help="Account with the right to switch power.")],
    verify_tls: Annotated[bool, typer.Option(help="Whether Redfish must show a known authority's certificate.")] = True,
) -> None:
    """Set a node's management controller; the password is asked for, or read from standard input."""
    path = bmc_path(session, node)
    body = {
        "kind": kind,
        "address": address,
        "username": user,
        "password": read_secret("Password of the BMC"),
        "verifyTls": verify_tls,
    }
    session.report(session.client.change("PUT", path, body).data, f"Set the BMC of {node}")


@command(bmc, "clear")
def clear_bmc(session: Session, node: NodeReference) -> None:
    """Forget a node's management controller."""
    session.report(session.client.change("DELETE", bmc_path(session, node)).data, f"Forgot the BMC of {node}")


@command(bmc, "test")
def test_bmc(session: Session, node: NodeReference) -> None:
    """Ask a node's management controller whether the power is on; changes nothing."""
    data = session.client.change("POST", f"{bmc_path(session, node)}/test").data
    session.report(data, f"The BMC of {node} answers: power is {data['powerState']}")


def bmc_path(session: Session, node: str) -> str:
    """Where a node's management controller is found."""
    return f"{NODE.at(NODE.find_id(session.client, node))}/bmc"


@command(enrolment, "create")
def create_enrolment_token(
    session: Session,
    valid_for: Annotated[
        int, typer.Option(parser=duration, metavar="DURATION", show_default="1h", help="How long it can be used.")
    ] = 3600,
) -> None:
    """Create a token with which one node can join; it is shown this once."""
    data = session.client.change("POST", f"{NODE.path}/enrolment-tokens", {"validForSeconds": valid_for}).data
    if session.output.as_json:
        session.output.data(data)
        return
    session.output.note(f"For one node, until {moment(data['expiresAt'])}. To be run there:\n  {data['joinCommand']}")
    session.output.text(data["token"])
