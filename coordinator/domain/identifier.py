"""Identifiers of resources: a prefix that tells the kind, then lower-case letters and digits."""

import random
import string
import uuid
from enum import Enum

_ALPHABET = string.ascii_lowercase + string.digits


class Prefix(Enum):
    """Prefix of an identifier and how many random characters follow it."""

    INSTANCE = ("ecs-", 14)
    FLAVOR = ("flavor-", 8)
    FLAVOR_TYPE = ("flavortype-", 8)
    SPEC_CODE = ("ecs.spec.", 8)
    IMAGE = ("img-", 14)
    VPC = ("vpc-", 20)
    SUBNET = ("snet-", 20)
    SECURITY_GROUP = ("sg-", 20)
    PORT = ("port-", 18)
    RESOURCE_POOL = ("rp-", 14)
    HOST_GROUP = ("hg-", 8)
    DEPLOYMENT_SET = ("d-set-", 14)
    SSH_KEY = ("sshKey-", 14)
    NODE = ("node-", 14)
    OPERATION = ("op-", 20)
    TOKEN = ("tok-", 14)
    ENROLMENT_TOKEN = ("enr-", 14)
    WEBHOOK = ("wh-", 14)
    LAUNCH_TEMPLATE = ("lt-", 14)
    SNAPSHOT_POLICY = ("ecs.policy-", 16)
    SCHEDULE = ("schd-", 14)
    SNAPSHOT = ("ecs.snapshot-", 16)
    BACKUP = ("backup-", 16)


class Identifiers:
    """Source of new identifiers; give it a seeded generator to make a test repeatable."""

    def __init__(self, generator: random.Random | None = None) -> None:
        self._random = generator or random.SystemRandom()

    def new(self, prefix: Prefix) -> str:
        """A new identifier, for example "ecs-7751tih23uy93g"; not guessable with the default generator."""
        text, length = prefix.value
        return text + "".join(self._random.choices(_ALPHABET, k=length))

    def new_uuid(self) -> str:
        """A random UUID in lower case, for libvirt and for volumes."""
        return str(uuid.UUID(int=self._random.getrandbits(128), version=4))

    def new_number(self) -> str:
        """A 19-digit decimal identifier, as tenants, departments and resource groups carry."""
        return str(self._random.randrange(10**18, 9 * 10**18))

    def new_mac(self) -> str:
        """A unicast MAC address in QEMU's own range."""
        return "52:54:00:" + ":".join(f"{self._random.randrange(256):02x}" for _ in range(3))
