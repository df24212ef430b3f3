"""The process that a lab by hand lives in: `python -m tests.lab.daemon DIRECTORY IMAGE HOSTS [--shared-storage]`."""

import sys
from pathlib import Path

from tests.lab.cloud import Cloud
from tests.lab.control import Switchboard
from tests.lab.lab import Lab
from tests.lab.pair import join_peer, share_storage
from tests.lab.standing import Description, Standing

# Sparse: enough for guests, and full at the word of command.
DISK_MIB = 8192


def serve(standing: Standing, image: Path, count: int, *, shares_storage: bool) -> None:
    """Brings the lab up, says so, and does what is asked for until it is killed."""
    lab = Lab(standing.directory)
    hosts = [lab.add_host(0 if shares_storage else DISK_MIB) for _ in range(count)]
    cloud = Cloud(lab, image)
    for host in hosts:
        if shares_storage:
            share_storage(host, lab.directory / "shared")
        join_peer(cloud, host)
    standing.token.touch(mode=0o600)
    standing.token.write_text(lab.coordinator.create_token() + "\n")

    def describe() -> None:
        machines = {host.name: host.namespace.pid for host in hosts if host.namespace.is_alive}
        machines["centre"] = lab.centre.pid
        Description(lab.coordinator.url, str(lab.coordinator.ca), machines).write(lab.directory)

    Switchboard(lab, describe).serve(standing.control)


if __name__ == "__main__":
    directory, image, count, *options = sys.argv[1:]
    serve(Standing(Path(directory)), Path(image), int(count), shares_storage="--shared-storage" in options)
