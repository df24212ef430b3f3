"""`nwctl ssh-key`: SSH keys, and the instances that they open."""

import os
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from nwctl.binding import command, noun
from nwctl.command.instance import INSTANCE
from nwctl.command.tenant import find_owner
from nwctl.error import NwctlError, UsageError
from nwctl.option import Page, Waiting
from nwctl.output import Column, moment
from nwctl.resource import Resource
from nwctl.session import Session

SSH_KEY = Resource(
    noun="SSH key",
    path="/api/ecs/v1/ssh-key",
    id_field="keyPairId",
    id_pattern="sshKey-[a-z0-9]{14}",
    name_field="keyPairName",
    columns=(
        Column("ID", "keyPairId"),
        Column("Name", "keyPairName"),
        Column("Fingerprint", "fingerprint"),
        Column("Instances", "ecsNum"),
        Column("Created", "createdAt", moment),
    ),
    details=(
        Column("Tenant", "tenantName"),
        Column("Department", "departmentName"),
        Column("Public key", "publicKey"),
    ),
    rows_field="SSHKeys",
    total_field="count",
    page_parameters=("pageIndex", "pageSize"),
)
_INSTANCES = (
    Column("ID", "ecsId"),
    Column("Name", "ecsName"),
    Column("Status", "status"),
    Column("Passwords", "passwordAuth"),
    Column("Binding", "bindState"),
)


class KeyType(StrEnum):
    """What kinds of keys are made."""

    ED25519 = "ed25519"
    RSA = "rsa"


class YesNo(StrEnum):
    """Whether."""

    YES = "yes"
    NO = "no"


app = noun("ssh-key", "SSH keys, and the instances that they open.")
Reference = Annotated[str, typer.Argument(metavar="KEY", help="Id or name.", autocompletion=SSH_KEY.complete)]
References = Annotated[
    list[str], typer.Argument(metavar="KEY...", help="Ids or names.", autocompletion=SSH_KEY.complete)
]
Instances = Annotated[
    list[str], typer.Argument(metavar="INSTANCE...", help="Ids or names.", autocompletion=INSTANCE.complete)
]
Name = Annotated[str, typer.Argument(help="1 to 127 characters.")]
Tenant = Annotated[str, typer.Option(help="Owner, for operators, id or name.")]
Department = Annotated[str, typer.Option(help="By default the tenant's first.")]
ResourceGroup = Annotated[str, typer.Option(help="Id of a resource group.")]


@command(app, "list")
def list_keys(session: Session, page: Page) -> None:
    """List the SSH keys."""
    session.show_list(SSH_KEY, page)


@command(app, "show")
def show_key(session: Session, key: Reference) -> None:
    """Show one SSH key."""
    session.show(SSH_KEY, SSH_KEY.find(session.client, key))


@command(app, "instances")
def list_instances(
    session: Session,
    key: Reference,
    unbound: Annotated[bool, typer.Option("--unbound", help="Those that it does not open.")] = False,
) -> None:
    """List the instances that a key opens."""
    bound = "unbound" if unbound else "bound"
    rows = session.client.get(f"{SSH_KEY.path}/ecs-to-key/{bound}/{SSH_KEY.find_id(session.client, key)}").data
    session.show_rows(_INSTANCES, rows, rows)


@command(app, "create")
def create_key(
    session: Session,
    name: Name,
    file: Annotated[
        Path | None, typer.Option(help="Where the private key goes; a new file. Without it: standard output.")
    ] = None,
    key_type: Annotated[KeyType, typer.Option("--type", help="What kind of key.")] = KeyType.ED25519,
    tenant: Tenant = "",
    department: Department = "",
    resource_group: ResourceGroup = "",
) -> None:
    """Make a key pair; the private key is answered this once and kept nowhere else."""
    body = _draft(session, name, tenant, department, resource_group) | {"keyType": key_type.value}
    with_file = _reserve(file) if file else None
    try:
        content, headers = session.client.make_file(SSH_KEY.path, body)
    except NwctlError:
        if file:
            file.unlink(missing_ok=True)
        raise
    if with_file is None:
        sys.stdout.buffer.write(content)
        sys.stdout.buffer.flush()
    else:
        with os.fdopen(with_file, "wb") as stream:
            stream.write(content)
    session.output.note(f"Created {headers.get('x-key-pair-id', name)}; its private key is shown this once")


@command(app, "import")
def import_key(
    session: Session,
    name: Name,
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="A .pub file.")],
    tenant: Tenant = "",
    department: Department = "",
    resource_group: ResourceGroup = "",
) -> None:
    """Keep a public key."""
    body = _draft(session, name, tenant, department, resource_group) | {"idRSAPub": file.read_text().strip()}
    data = session.client.create(f"{SSH_KEY.path}/import", body).data
    session.report(data, f"Imported {data['keyPairId']}, fingerprint {data['fingerprint']}")


@command(app, "delete")
def delete_keys(session: Session, keys: References) -> None:
    """Delete SSH keys that open no instance."""
    ids = [SSH_KEY.find_id(session.client, key) for key in keys]
    answer = session.client.change("POST", f"{SSH_KEY.path}/batch-delete", {"keyPairIds": ids})
    session.report(answer.data, f"Deleted {' '.join(ids)}")


@command(app, "bind")
def bind_key(
    session: Session,
    key: Reference,
    instances: Instances,
    waiting: Waiting,
    password_auth: Annotated[YesNo, typer.Option(help="Whether the guests take passwords over SSH, too.")] = YesNo.YES,
) -> None:
    """Let a key open instances; one that is off is told when its guest agent is up next."""
    body = _binding(session, key, instances) | {"passwordAuth": password_auth.value}
    answer = session.client.change("POST", f"{SSH_KEY.path}/bind", body)
    session.conclude(answer, waiting, f"Bound {body['keyPairId']} to {' '.join(body['ecsIds'])}")


@command(app, "unbind")
def unbind_key(session: Session, key: Reference, instances: Instances, waiting: Waiting) -> None:
    """Let a key open instances no more."""
    body = _binding(session, key, instances)
    answer = session.client.change("POST", f"{SSH_KEY.path}/unbind", body)
    session.conclude(answer, waiting, f"Unbound {body['keyPairId']} from {' '.join(body['ecsIds'])}")


def _draft(session: Session, name: str, tenant: str, department: str, resource_group: str) -> dict[str, str]:
    tenant_id, department_id = find_owner(session.client, tenant, department)
    return {
        "name": name,
        "tenantId": tenant_id,
        "departmentId": department_id,
        "resourceGroupId": resource_group,
    }


def _binding(session: Session, key: str, instances: list[str]) -> dict[str, Any]:
    return {
        "keyPairId": SSH_KEY.find_id(session.client, key),
        "ecsIds": [INSTANCE.find_id(session.client, instance) for instance in instances],
    }


def _reserve(file: Path) -> int:
    """A new file that only its owner reads: a key that finds no place would be lost."""
    try:
        return os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        raise UsageError(f"cannot write {file}: {error.strerror}") from error
