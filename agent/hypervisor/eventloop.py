"""libvirt's event loop in a thread of its own; it must be registered before the first connection is opened.

libvirt adds and removes file descriptors and timers from whatever thread makes a call. Its default
implementation is safe for that; one on top of asyncio is not. Callbacks run in this thread: they
only enqueue.
"""

from __future__ import annotations

import threading

import libvirt

_started = threading.Event()
_lock = threading.Lock()


def ensure_event_loop() -> None:
    """The process runs libvirt's event loop, and libvirt prints no errors by itself."""
    with _lock:
        if _started.is_set():
            return
        libvirt.registerErrorHandler(_ignore, None)
        libvirt.virEventRegisterDefaultImpl()
        # Without a timer the loop would sleep for ever while there is no descriptor.
        libvirt.virEventAddTimeout(1000, _ignore_timer, None)
        threading.Thread(target=_run, name="libvirt-events", daemon=True).start()
        _started.set()


def _run() -> None:
    while True:
        libvirt.virEventRunDefaultImpl()


def _ignore(_context: object, _error: object) -> None:
    """Every failure is raised as well: printing it to stderr would only break the log's format."""


def _ignore_timer(_timer: int, _opaque: object) -> None:
    """Only wakes the loop."""
