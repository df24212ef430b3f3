"""SSH keys, and the instances that they open."""

from typing import Annotated, Literal
from urllib.parse import quote

from fastapi import APIRouter, Path, Query, Response

from coordinator.api.deps import RuntimeDep, TenantUser
from coordinator.api.envelope import Envelope, success
from coordinator.api.filtering import Conditions, Orderings, equal_to, like
from coordinator.api.idempotency import IdempotentRoute
from coordinator.api.operation_header import OperationHeader
from coordinator.api.paging import PageByIndex, WholePage
from coordinator.api.query import LenientRoute
from coordinator.api.request_context import current_request
from coordinator.api.schemas.ssh_key import (
    BindKeyRequest,
    CreateKeyRequest,
    DeleteKeysRequest,
    ImportedKeyBody,
    ImportKeyRequest,
    InstanceOfKeyBody,
    KeyBody,
    KeyListBody,
    UnbindKeyRequest,
)
from coordinator.domain.listing import ListQuery
from coordinator.services import ssh_key as service
from coordinator.services import ssh_key_binding

_PREFIX = "/api/ecs/v1/ssh-key"
_MEDIA_TYPE = "application/x-pem-file"

router = APIRouter(prefix=_PREFIX, tags=["sshkeys"], route_class=IdempotentRoute)
# An answer with a private key is not kept for idempotency keys: it would lie in the database.
file_router = APIRouter(prefix=_PREFIX, tags=["sshkeys"], route_class=LenientRoute)

Bound = Annotated[Literal["bound", "unbound"], Path(description="Those that are, or those that are not.")]


@file_router.post(
    "",
    operation_id="createSshKey",
    response_class=Response,
    responses={200: {"description": "The private key.", "content": {_MEDIA_TYPE: {"schema": {"type": "string"}}}}},
)
def create_ssh_key(body: CreateKeyRequest, caller: TenantUser, runtime: RuntimeDep) -> Response:
    """Makes a key pair. The answer is the file of the private key, which is kept nowhere and never shown again."""
    made = service.create_key(runtime, caller, body.to_draft(), body.key_type)
    # For the audit log, which else learns of what is made from the envelope.
    current_request().answered_ids = (made.row.id,)
    named = f"filename=\"{made.row.id}.pem\"; filename*=UTF-8''{quote(made.row.name, safe='')}.pem"
    headers = {
        "content-disposition": f"attachment; {named}",
        "cache-control": "no-store",
        "x-key-pair-id": made.row.id,
        "x-key-fingerprint": made.row.fingerprint,
    }
    return Response(made.private_file, media_type=_MEDIA_TYPE, headers=headers)


@router.post("/import", operation_id="importSshKey")
def import_ssh_key(body: ImportKeyRequest, caller: TenantUser, runtime: RuntimeDep) -> Envelope[ImportedKeyBody]:
    """Keeps a public key."""
    row = service.import_key(runtime, caller, body.to_draft(), body.id_rsa_pub)
    return success(ImportedKeyBody.of(row))


@router.get("", operation_id="listSshKeys")
def list_ssh_keys(
    page: PageByIndex,
    conditions: Conditions,
    orderings: Orderings,
    caller: TenantUser,
    runtime: RuntimeDep,
    name: Annotated[str, Query(max_length=127, description="Part of the name.")] = "",
    fingerprint: Annotated[str, Query(max_length=32, description="MD5 of the key, hexadecimal.")] = "",
) -> Envelope[KeyListBody]:
    """Lists the caller's keys, the newest first."""
    narrowed = like(name=name) + equal_to(fingerprint=fingerprint.lower()) + conditions
    listing = service.list_keys(runtime, caller, ListQuery(page, narrowed, orderings))
    return success(KeyListBody(ssh_keys=[KeyBody.of(use) for use in listing.items], count=listing.total))


@router.post("/batch-delete", operation_id="batchDeleteSshKeys")
def batch_delete_ssh_keys(body: DeleteKeysRequest, caller: TenantUser, runtime: RuntimeDep) -> Envelope[None]:
    """Deletes keys. None of them when one is bound: the message names the instances."""
    service.delete_keys(runtime, caller, body.key_pair_ids)
    return success(None)


@router.post("/bind", operation_id="bindSshKey")
def bind_ssh_key(
    body: BindKeyRequest, caller: TenantUser, runtime: RuntimeDep, header: OperationHeader
) -> Envelope[None]:
    """Lets a key open instances: running ones by an operation each, others once their guest agent is up again."""
    header.name(*ssh_key_binding.bind_key(runtime, caller, body.key_pair_id, body.ecs_ids, body.password_auth))
    return success(None)


@router.post("/unbind", operation_id="unbindSshKey")
def unbind_ssh_key(
    body: UnbindKeyRequest, caller: TenantUser, runtime: RuntimeDep, header: OperationHeader
) -> Envelope[None]:
    """Lets a key open instances no more; as for binding. With the last key sshd is as the guest has it by itself."""
    header.name(*ssh_key_binding.unbind_key(runtime, caller, body.key_pair_id, body.ecs_ids))
    return success(None)


@router.get("/ecs-to-key/{bound}/{key_pair_id}", operation_id="listInstancesOfSshKey")
def list_instances_of_ssh_key(
    bound: Bound, key_pair_id: str, page: WholePage, caller: TenantUser, runtime: RuntimeDep
) -> Envelope[list[InstanceOfKeyBody]]:
    """Lists the instances of a key's tenant that it is bound to, or is not."""
    listing = ssh_key_binding.list_instances_of_key(
        runtime, caller, key_pair_id, ListQuery(page), is_bound=bound == "bound"
    )
    return success([InstanceOfKeyBody.of(item) for item in listing.items])


@router.get("/key-to-ecs/{bound}/{ecs_id}", operation_id="listSshKeysOfInstance")
def list_ssh_keys_of_instance(
    bound: Bound, ecs_id: str, page: WholePage, caller: TenantUser, runtime: RuntimeDep
) -> Envelope[list[KeyBody]]:
    """Lists the keys of an instance's tenant that are bound to it, or are not."""
    listing = ssh_key_binding.list_keys_of_instance(runtime, caller, ecs_id, ListQuery(page), is_bound=bound == "bound")
    return success([KeyBody.of(use) for use in listing.items])
