"""What disks of one type of volume may do at most."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from agent.domainxml.disk import IoTune


@dataclass(frozen=True)
class DiskLimit:
    """Of each disk by itself; 0: not limited. A total and its parts exclude each other."""

    total_iops: int = 0
    read_iops: int = 0
    write_iops: int = 0
    total_bytes_per_second: int = 0
    read_bytes_per_second: int = 0
    write_bytes_per_second: int = 0
    # So many times the limits may be exceeded, for so many seconds at a time; 0: never.
    burst_factor: int = 0
    burst_seconds: int = 0

    def to_parameters(self) -> dict[str, int]:
        """By libvirt's names (virDomainSetBlockIoTune), those that limit nothing included.

        Source: https://libvirt.org/formatdomain.html, "iotune".
        """
        sustained = {
            f"{kind}_{unit}": getattr(self, f"{kind}_{name}")
            for kind in ("total", "read", "write")
            for unit, name in (("bytes_sec", "bytes_per_second"), ("iops_sec", "iops"))
        }
        has_burst = self.burst_factor > 1 and self.burst_seconds > 0
        burst = {f"{name}_max": value * self.burst_factor * has_burst for name, value in sustained.items()}
        # libvirt and QEMU take a second where nothing is said.
        length = {f"{name}_length": self.burst_seconds if value else 0 for name, value in burst.items()}
        return sustained | burst | length

    def to_element(self) -> IoTune | None:
        """The same in a definition; None when nothing is limited."""
        limits = {name: value for name, value in self.to_parameters().items() if value}
        return IoTune(**limits) if limits else None

    def to_json(self) -> dict[str, int]:
        """As it is kept on disk."""
        return asdict(self)


UNLIMITED = DiskLimit()
