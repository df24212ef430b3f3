"""The packet filter's rules for guests' networks: out into the world by NAT, and nobody in uninvited.

libvirt's own rules ("forward mode='nat'") are taken away and put back one by one with every DHCP entry that changes:
that takes 0.4 s, and interrupts the guests that are there. Here all rules of all networks are replaced in one step, and
only when a network comes or goes. They are iptables rules in front of the others, so that guests live with a firewall
on the node that drops what it does not know; nftables has no way to overrule another table's drop. Somebody else may
flush them: what the kernel has is compared with what it had after they were last put there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Final

from agent.errors import CapabilityMissing, NetworkFailed
from agent.network.base import Subnet
from agent.network.element import name_network

_TABLES: Final = ("filter", "nat")
_TIMEOUT_SECONDS: Final = 30.0
# How long to wait for another program that changes rules.
_LOCK_SECONDS: Final = "5"
_PREFIX: Final = "NODEWRIGHT_"
# Our chains: in which table, called from which of its own.
_JUMPS: Final = (
    ("filter", "FORWARD", f"{_PREFIX}FORWARD"),
    ("filter", "INPUT", f"{_PREFIX}INPUT"),
    ("filter", "OUTPUT", f"{_PREFIX}OUTPUT"),
    ("nat", "POSTROUTING", f"{_PREFIX}NAT"),
)


def build_rules(subnets: Iterable[Subnet]) -> str:
    """All our rules, as iptables-restore reads them: each table is replaced in one step."""
    networks = sorted((name_network(subnet.subnet_id), str(subnet.cidr)) for subnet in subnets)
    bridges = [bridge for bridge, _ in networks]
    forward = [
        # Within a network, then into the networks, then out of them: one network never leads into another.
        *(f"-i {bridge} -o {bridge} -j ACCEPT" for bridge in bridges),
        *(
            f"-o {bridge} {match}"
            for bridge, cidr in networks
            for match in (f"-d {cidr} -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT", "-j REJECT")
        ),
        *(f"-i {bridge} {match}" for bridge, cidr in networks for match in (f"-s {cidr} -j ACCEPT", "-j REJECT")),
    ]
    services = ("udp --dport 67", "udp --dport 53", "tcp --dport 53")
    chains = {
        "NODEWRIGHT_FORWARD": forward,
        "NODEWRIGHT_INPUT": [f"-i {bridge} -p {service} -j ACCEPT" for bridge in bridges for service in services],
        "NODEWRIGHT_OUTPUT": [f"-o {bridge} -p udp --dport 68 -j ACCEPT" for bridge in bridges],
        "NODEWRIGHT_NAT": [
            f"-s {cidr} {match}"
            for _, cidr in networks
            for match in ("-d 224.0.0.0/24 -j RETURN", f"! -d {cidr} -j MASQUERADE")
        ],
    }
    return "".join(_format_table(table, chains) for table in _TABLES)


def _format_table(table: str, chains: dict[str, list[str]]) -> str:
    own = [chain for jump_table, _, chain in _JUMPS if jump_table == table]
    lines = [f"*{table}", *(f":{chain} - [0:0]" for chain in own)]
    lines += [f"-A {chain} {rule}" for chain in own for rule in chains[chain]]
    return "\n".join([*lines, "COMMIT", ""])


class Firewall:
    """Keeps our chains in the node's packet filter."""

    def __init__(self) -> None:
        # In the words of iptables-save, which are not those of iptables-restore; None: nobody knows.
        self._applied: list[str] | None = None

    async def apply(self, subnets: Iterable[Subnet]) -> None:
        """The rules are those of these networks. Raises CapabilityMissing, NetworkFailed."""
        self._applied = None
        rules = build_rules(subnets)
        await _run("iptables-restore", "-w", _LOCK_SECONDS, "--noflush", rules=rules)
        await asyncio.gather(*(self._ensure_jump(*jump) for jump in _JUMPS))
        present = await _read_rules()
        if not _are_complete(present, rules):
            raise NetworkFailed("another program changed the packet filter's rules at the same time")
        self._applied = present

    async def is_intact(self) -> bool:
        """Whether the rules are those that were last applied. Raises CapabilityMissing, NetworkFailed."""
        return self._applied is not None and await _read_rules() == self._applied

    async def _ensure_jump(self, table: str, chain: str, own_chain: str) -> None:
        """Somebody may have flushed the chain that leads to ours."""
        command = ("iptables", "-w", _LOCK_SECONDS, "-t", table)
        try:
            await _run(*command, "-C", chain, "-j", own_chain)
        except NetworkFailed:
            await _run(*command, "-I", chain, "-j", own_chain)


async def _read_rules() -> list[str]:
    """Our rules and the jumps to them, as they are in the kernel."""
    tables = await asyncio.gather(*(_run("iptables-save", "-t", table) for table in _TABLES))
    return [line for line in "".join(tables).splitlines() if line.startswith("-A ") and _PREFIX in line]


def _are_complete(present: list[str], rules: str) -> bool:
    own_count = sum(line.startswith(f"-A {_PREFIX}") for line in present)
    jumps = {f"-A {chain} -j {own_chain}" for _, chain, own_chain in _JUMPS}
    return own_count == rules.count(f"-A {_PREFIX}") and jumps <= set(present)


async def _run(*command: str, rules: str = "") -> str:
    """What the command prints."""
    try:
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
    except FileNotFoundError:
        raise CapabilityMissing(f"{command[0]} is not installed on this node") from None
    try:
        async with asyncio.timeout(_TIMEOUT_SECONDS):
            output, complaint = await process.communicate(rules.encode())
    except TimeoutError:
        raise NetworkFailed(f"{command[0]} did not end within {_TIMEOUT_SECONDS:g} s") from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode != 0:
        raise NetworkFailed(f"{' '.join(command)}: {complaint.decode(errors='replace').strip()}")
    return output.decode(errors="replace")
