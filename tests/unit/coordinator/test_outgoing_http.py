"""Which addresses the coordinator calls for people."""

import httpx
import pytest

from coordinator.outgoing_http import AddressPrivate, send_pinned


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "10.0.0.1",
        "169.254.169.254",
        "224.0.0.1",
        "[::1]",
        "[::ffff:10.0.0.1]",
        # The same private addresses behind the prefixes that gateways to IPv4 have.
        "[64:ff9b::a00:1]",
        "[64:ff9b::a9fe:a9fe]",
        "[::a00:1]",
        "[2002:a00:1::]",
        "[fec0::1]",
        "[fd00::1]",
    ],
)
async def test_addresses_of_the_own_network_are_not_called(host: str) -> None:
    async with httpx.AsyncClient(timeout=0.5, trust_env=False) as client:
        with pytest.raises(AddressPrivate):
            await send_pinned(client, "GET", httpx.URL(f"http://{host}:9/"), private_allowed=False)


@pytest.mark.parametrize("host", ["8.8.8.8", "[64:ff9b::808:808]", "[2001:4860:4860::8888]"])
async def test_public_addresses_are_called(host: str) -> None:
    transport = httpx.MockTransport(lambda _request: httpx.Response(204))
    async with httpx.AsyncClient(transport=transport) as client:
        answer = await send_pinned(client, "GET", httpx.URL(f"http://{host}/"), private_allowed=False)
    assert answer.status_code == 204
