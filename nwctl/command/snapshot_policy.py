"""`nwctl snapshot-policy`: when snapshots are taken by themselves, and for how long they are kept."""

from typing import Annotated, Any

import typer

from nwctl.binding import command, noun
from nwctl.command.instance import INSTANCE, References
from nwctl.command.tenant import find_owner
from nwctl.error import UsageError
from nwctl.option import Page, duration
from nwctl.output import Column, joined, moment, status
from nwctl.resource import Resource
from nwctl.session import Session

POLICY = Resource(
    noun="snapshot policy",
    path="/api/ecs/v1/policy",
    id_field="policyId",
    id_pattern=r"ecs\.policy-[a-z0-9]{16}",
    name_field="policyName",
    rows_field="snapshotPolicies",
    columns=(
        Column("ID", "policyId"),
        Column("Name", "policyName"),
        Column("Status", "status", status),
        Column("Hours", "hourOfDay"),
        Column("Days", "weekDays"),
        Column("Zone", "timeZone"),
        Column("Kept, min", "expire"),
        Column("Instances", "bindEcsCount"),
        Column("Next", "executeAt", moment),
    ),
    details=(
        Column("Bound", "bindEcs", joined("ecsId", "displayName", "lastSnapshotId", "lastError")),
        Column("Tenant", "tenantName"),
        Column("Created", "createdAt", moment),
    ),
)
DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
MINUTE_SECONDS = 60

app = noun(
    "snapshot-policy", "Snapshot policies: when snapshots are taken by themselves, and for how long they are kept."
)
Reference = Annotated[str, typer.Argument(metavar="POLICY", help="Id or name.", autocompletion=POLICY.complete)]


@command(app, "list")
def list_policies(session: Session, page: Page) -> None:
    """List the policies, and when each is due next."""
    session.show_list(POLICY, page)


@command(app, "show")
def show_policy(session: Session, policy: Reference) -> None:
    """Show one policy, its instances, and what came of their last snapshots."""
    session.show(POLICY, POLICY.find(session.client, policy))


@command(app, "create")
def create_policy(
    session: Session,
    name: Annotated[str, typer.Option(help="1 to 127 characters.")],
    hours: Annotated[str, typer.Option(metavar="0,12", help="Hours of the day.")],
    days: Annotated[str, typer.Option(metavar="mon,thu", help="Days of the week; by default all.")] = ",".join(DAYS),
    keep: Annotated[
        int, typer.Option(parser=duration, metavar="DURATION", help="How long snapshots are kept; 0: for ever.")
    ] = 0,
    zone: Annotated[str, typer.Option(help="Time zone, such as Europe/Berlin; by default the cloud's.")] = "",
    tenant: Annotated[str, typer.Option(help="Owner, for operators, id or name.")] = "",
    department: Annotated[str, typer.Option(help="By default the tenant's first.")] = "",
) -> None:
    """Make a policy; it takes snapshots of the instances that it is bound to."""
    tenant_id, department_id = find_owner(session.client, tenant, department)
    body: dict[str, Any] = {
        "policyName": name,
        "hourOfDay": hours,
        "weekDays": days_of(days),
        "expire": -(-keep // MINUTE_SECONDS),
        "tenantId": tenant_id,
        "departmentId": department_id,
        **({"timeZone": zone} if zone else {}),
    }
    session.report(session.client.change("POST", POLICY.path, body).data, f"Created the snapshot policy {name}")


@command(app, "delete")
def delete_policy(session: Session, policy: Reference) -> None:
    """Delete a policy; the snapshots stay as long as they were to."""
    policy_id = POLICY.find_id(session.client, policy)
    session.report(session.client.change("DELETE", POLICY.at(policy_id)).data, f"Deleted {policy_id}")


@command(app, "bind")
def bind_policy(session: Session, policy: Reference, instances: References) -> None:
    """Have a policy take snapshots of instances; each has one policy at most."""
    _change_bindings(session, policy, instances, "bind", "Bound to")


@command(app, "unbind")
def unbind_policy(session: Session, policy: Reference, instances: References) -> None:
    """Take no more snapshots of instances."""
    _change_bindings(session, policy, instances, "unbind", "Unbound from")


@command(app, "pause")
def pause_policy(session: Session, policy: Reference) -> None:
    """Take no snapshots until the policy is resumed."""
    _change(session, policy, "pause", "is paused")


@command(app, "resume")
def resume_policy(session: Session, policy: Reference) -> None:
    """Go on with the next time."""
    _change(session, policy, "resume", "goes on")


def days_of(names: str) -> str:
    """The API's numbers, Monday is 1, of names of days with commas between."""
    given = [name.strip().lower()[:3] for name in names.split(",")]
    if unknown := [name for name in given if name not in DAYS]:
        raise UsageError(f"days are {', '.join(DAYS)}, not {unknown[0]!r}")
    return ",".join(str(DAYS.index(name) + 1) for name in given)


def _change(session: Session, policy: str, verb: str, done: str) -> None:
    policy_id = POLICY.find_id(session.client, policy)
    session.report(session.client.change("POST", f"{POLICY.at(policy_id)}/{verb}").data, f"{policy_id} {done}")


def _change_bindings(session: Session, policy: str, instances: list[str], verb: str, done: str) -> None:
    policy_id = POLICY.find_id(session.client, policy)
    ids = [INSTANCE.find_id(session.client, instance) for instance in instances]
    for ecs_id in ids:
        session.client.change("POST", f"{POLICY.at(policy_id)}/{verb}", {"ecsId": ecs_id})
    session.report(None, f"{done} {policy_id}: {' '.join(ids)}")
