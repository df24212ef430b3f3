"""Why a placement failed, in one sentence."""

from coordinator.domain.message import Message
from coordinator.domain.placement import Decision


def summarize(decision: Decision) -> Message:
    """For example "0/3 hosts: 2 too little memory (wanted 8 GiB, at most 3.2 GiB free), 1 other zone"."""
    raise NotImplementedError
