"""The disc with the guest tools, and the instances that have it in a drive."""

import hashlib
import secrets
from contextlib import suppress
from typing import Final

from sqlalchemy.exc import IntegrityError

from coordinator.domain.caller import Caller
from coordinator.domain.iso import IsoState
from coordinator.runtime import Runtime
from coordinator.services.iso import attach_isos, list_attached
from coordinator.store.image_file import publish_image_file
from coordinator.store.tables import Image
from coordinator.vmtools_iso import build_vmtools_iso

DETACHED: Final = "detached"
# Where images with the tools come from; nobody else registers one from there.
_SOURCE: Final = "nodewright:vmtools"
_ID_LENGTH: Final = 14


def read_vmtools_state(runtime: Runtime, caller: Caller, ecs_id: str) -> str:
    """What becomes of the tools in the instance's drives: attaching, attached, detaching, or detached."""
    _, rows = list_attached(runtime, caller, ecs_id)
    return next((str(attachment.state) for attachment, image in rows if image.source_url == _SOURCE), DETACHED)


def attach_vmtools(runtime: Runtime, caller: Caller, ecs_id: str) -> str | None:
    """Puts the disc with the tools into a drive of the instance; the operation id, None when it is there already.

    Raises what `attach_isos` raises, ServiceUnavailable when the disc cannot be made here.
    """
    if read_vmtools_state(runtime, caller, ecs_id) == IsoState.ATTACHED:
        return None
    return attach_isos(runtime, caller, ecs_id, [_ensure_image(runtime).id])


def _ensure_image(runtime: Runtime) -> Image:
    """The tools as an image. What is on it names it: the same for all coordinators, another one after an upgrade."""
    draft = _make_file(runtime)
    with runtime.database.write() as session:
        image = session.get(Image, draft.id, with_for_update=True)
        if image is None:
            # Another request may make it at this moment.
            with suppress(IntegrityError), session.begin_nested():
                session.add(draft)
            image = session.get_one(Image, draft.id, with_for_update=True)
        # Somebody may have deleted it when no instance had it.
        image.deleted_at = None
        session.add(image)
    return image


def _make_file(runtime: Runtime) -> Image:
    directory = runtime.settings.images_dir
    directory.mkdir(parents=True, exist_ok=True)
    part = directory / f".vmtools.{secrets.token_hex(8)}.part"
    try:
        build_vmtools_iso(part, runtime.settings.vmtools_packages_dir)
        with part.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        image = _describe(digest, part.stat().st_size)
        publish_image_file(part, directory / image.id)
    finally:
        part.unlink(missing_ok=True)
    return image


def _describe(digest: str, size_bytes: int) -> Image:
    return Image(
        id=f"img-{digest[:_ID_LENGTH]}",
        name="nodewright-vmtools",
        visibility="public",
        format="iso",
        cpu_arch="x86",
        os_type="linux",
        platform="Nodewright",
        status="Active",
        size_bytes=size_bytes,
        virtual_size_bytes=size_bytes,
        sha256=digest,
        source_url=_SOURCE,
    )
