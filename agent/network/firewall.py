"""The packet filter's rules for guests' networks: out into the world by NAT, and nobody in uninvited.

libvirt's own rules ("forward mode='nat'") are taken away and put back one by one with every DHCP entry that changes:
that takes 0.4 s, and interrupts the guests that are there. Here all rules of all networks are replaced in one step, and
only when a network comes or goes. They are iptables rules in front of the others, so that guests live with a firewall
on the node that drops what it does not know; nftables has no way to overrule another table's drop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Final

from agent.errors import CapabilityMissing, NetworkFailed
from agent.network.base import Subnet
from agent.network.element import name_network

_TIMEOUT_SECONDS: Final = 30.0
# How long to wait for another program that changes rules.
_LOCK_SECONDS: Final = "5"
# Our chains: in which table, called from which of its own.
_JUMPS: Final = (
    ("filter", "FORWARD", "NODEWRIGHT_FORWARD"),
    ("filter", "INPUT", "NODEWRIGHT_INPUT"),
    ("filter", "OUTPUT", "NODEWRIGHT_OUTPUT"),
    ("nat", "POSTROUTING", "NODEWRIGHT_NAT"),
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
    return "".join(_format_table(table, chains) for table in ("filter", "nat"))


def _format_table(table: str, chains: dict[str, list[str]]) -> str:
    own = [chain for jump_table, _, chain in _JUMPS if jump_table == table]
    lines = [f"*{table}", *(f":{chain} - [0:0]" for chain in own)]
    lines += [f"-A {chain} {rule}" for chain in own for rule in chains[chain]]
    return "\n".join([*lines, "COMMIT", ""])


class Firewall:
    """Keeps our chains in the node's packet filter."""

    async def apply(self, subnets: Iterable[Subnet]) -> None:
        """The rules are those of these networks. Raises CapabilityMissing, NetworkFailed."""
        await _run("iptables-restore", "-w", _LOCK_SECONDS, "--noflush", rules=build_rules(subnets))
        await asyncio.gather(*(self._ensure_jump(*jump) for jump in _JUMPS))

    async def _ensure_jump(self, table: str, chain: str, own_chain: str) -> None:
        """Somebody may have flushed the chain that leads to ours."""
        command = ("iptables", "-w", _LOCK_SECONDS, "-t", table)
        try:
            await _run(*command, "-C", chain, "-j", own_chain)
        except NetworkFailed:
            await _run(*command, "-I", chain, "-j", own_chain)


async def _run(*command: str, rules: str = "") -> None:
    try:
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
        )
    except FileNotFoundError:
        raise CapabilityMissing(f"{command[0]} is not installed on this node") from None
    try:
        async with asyncio.timeout(_TIMEOUT_SECONDS):
            _, complaint = await process.communicate(rules.encode())
    except TimeoutError:
        raise NetworkFailed(f"{command[0]} did not end within {_TIMEOUT_SECONDS:g} s") from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode != 0:
        raise NetworkFailed(f"{' '.join(command)}: {complaint.decode(errors='replace').strip()}")
