"""A process in a guest that counts in its memory alone: it goes on, or it was another one."""

from tests.lab.cloud import Instance
from tests.lab.waiting import wait_until

_BEGIN = "(i=0; while true; do i=$((i+1)); echo $i > /run/count; sleep 0.2; done) > /dev/null 2>&1 & echo $! > /run/pid"
# Its number, and when it began, in ticks since the guest's boot.
_IDENTITY = "cat /proc/sys/kernel/random/boot_id; cut -d' ' -f1,22 /proc/$(cat /run/pid)/stat"


class Counter:
    """Begins to count."""

    def __init__(self, instance: Instance) -> None:
        self._instance = instance
        instance.run(_BEGIN)
        self._identity = instance.run(_IDENTITY)
        self._counted = self._read()

    def check_goes_on(self) -> None:
        """The same process counts, from where it was."""
        assert self._instance.run(_IDENTITY) == self._identity
        before = self._counted
        wait_until(lambda: self._read() > before + 1, "it counts on")
        self._counted = self._read()

    def _read(self) -> int:
        return int(self._instance.run("cat /run/count 2>/dev/null || echo 0"))
