"""SSH keys on the wire."""

from typing import Annotated, Literal

from pydantic import Field

from coordinator.api.schemas.base import AnswerModel, LenientModel, Moment
from coordinator.domain.ssh_key import BindingState
from coordinator.services.key_pair import KeyType
from coordinator.services.ssh_key import KeyDraft
from coordinator.store.queries.ssh_key import InstanceOfKey, KeyUse
from coordinator.store.tables import SshKey

KeyId = Annotated[str, Field(min_length=1, max_length=32, examples=["sshKey-qn2sd6rnwv9mxa"])]
InstanceIds = Annotated[
    list[Annotated[str, Field(max_length=32)]],
    Field(min_length=1, max_length=1000, description="Instances.", examples=[["ecs-k8d2n5s7a1f4g6"]]),
]


class KeyRequest(LenientModel):
    """What a key is called, and whose it is."""

    name: str = Field(min_length=1, max_length=127, description="1 to 127 characters.", examples=["laptop"])
    department_id: str = Field(
        min_length=1, max_length=19, description="Department that it belongs to.", examples=["4611686018427387905"]
    )
    tenant_id: str = Field(default="", max_length=19, description="Tenant; the department's unless given.")
    resource_group_id: str = Field(default="", max_length=19, description="Resource group of the tenant.")

    def to_draft(self) -> KeyDraft:
        """The same in our words."""
        return KeyDraft(self.name, self.department_id, self.tenant_id, self.resource_group_id)


class CreateKeyRequest(KeyRequest):
    """A key to be made."""

    key_type: KeyType = Field(default=KeyType.ED25519, description="ed25519, or rsa with 3072 bits.")


class ImportKeyRequest(KeyRequest):
    """A key that is there already."""

    id_rsa_pub: str = Field(
        min_length=1,
        max_length=16384,
        alias="idRSAPub",
        description="Public key in OpenSSH's form: Ed25519, ECDSA, or RSA of at least 2048 bits.",
        examples=["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIO8gHq0FQHGXAhwGG8nLWaLdyzP7DxmXrzqCl0SSb0Yg me@laptop"],
    )


class DeleteKeysRequest(LenientModel):
    """Keys to be deleted."""

    key_pair_ids: list[Annotated[str, Field(max_length=32)]] = Field(
        description="Ids of keys.", examples=[["sshKey-qn2sd6rnwv9mxa"]]
    )


class UnbindKeyRequest(LenientModel):
    """A key, and the instances that it shall open no more."""

    key_pair_id: KeyId
    ecs_ids: InstanceIds


class BindKeyRequest(UnbindKeyRequest):
    """A key, and the instances that it shall open."""

    password_auth: Literal["yes", "no"] = Field(description="Whether the guests take passwords over SSH as well.")


class ImportedKeyBody(AnswerModel):
    """A key that was imported."""

    key_pair_id: str = Field(examples=["sshKey-qn2sd6rnwv9mxa"])
    name: str
    fingerprint: str = Field(description="MD5 of the key, hexadecimal.")
    tenant_id: str
    department_id: str
    resource_group_id: str
    ssh_key_pairs: None = Field(default=None, alias="SSHKeyPairs", description="Always null.")

    @classmethod
    def of(cls, row: SshKey) -> "ImportedKeyBody":
        return cls(
            key_pair_id=row.id,
            name=row.name,
            fingerprint=row.fingerprint,
            tenant_id=row.tenant_id,
            department_id=row.department_id,
            resource_group_id=row.resource_group_id,
        )


class KeyBody(AnswerModel):
    """A key."""

    key_pair_id: str = Field(examples=["sshKey-qn2sd6rnwv9mxa"])
    key_pair_name: str
    fingerprint: str = Field(description="MD5 of the key, hexadecimal.")
    public_key: str = Field(description="In OpenSSH's form.")
    tenant_id: str
    tenant_name: str
    department_id: str
    department_name: str
    resource_group_id: str
    resource_group_name: str
    ecs_num: int = Field(description="How many instances it opens.")
    created_at: Moment

    @classmethod
    def of(cls, use: KeyUse) -> "KeyBody":
        row = use.row
        return cls(
            key_pair_id=row.id,
            key_pair_name=row.name,
            fingerprint=row.fingerprint,
            public_key=row.public_key,
            tenant_id=row.tenant_id,
            tenant_name=use.tenant_name,
            department_id=row.department_id,
            department_name=use.department_name or "",
            resource_group_id=row.resource_group_id,
            resource_group_name=use.resource_group_name or "",
            ecs_num=use.instance_count,
            created_at=row.created_at,
        )


class KeyListBody(AnswerModel):
    """One page of keys."""

    ssh_keys: list[KeyBody] = Field(alias="SSHKeys")
    count: int = Field(description="On all pages together.")


class InstanceOfKeyBody(AnswerModel):
    """An instance that a key opens, or could open."""

    ecs_id: str = Field(examples=["ecs-k8d2n5s7a1f4g6"])
    ecs_name: str
    status: str
    password_auth: str = Field(description="What was asked for when the key was bound; empty: nothing.")
    bind_state: str = Field(description="bound; pending: the guest has still to be told; empty: not bound.")

    @classmethod
    def of(cls, item: InstanceOfKey) -> "InstanceOfKeyBody":
        binding = item.binding
        return cls(
            ecs_id=item.ecs_id,
            ecs_name=item.name,
            status=item.status,
            password_auth=binding.password_auth if binding else "",
            bind_state=BindingState(binding.state).value if binding else "",
        )
