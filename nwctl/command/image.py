"""`nwctl image`: what system disks are made from."""

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, BinaryIO

import httpx
import typer
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from nwctl.binding import command, noun
from nwctl.client import Answer, Client
from nwctl.command.flavor_type import Arch
from nwctl.command.instance import INSTANCE
from nwctl.command.snapshot import SNAPSHOT
from nwctl.command.tenant import TENANT
from nwctl.error import UsageError
from nwctl.option import Page, Waiting
from nwctl.output import Column, moment, size, status
from nwctl.resource import Resource
from nwctl.session import Session

CHUNK_BYTES = 1 << 20
QCOW2_MAGIC = b"QFI\xfb"
ISO_MAGIC, ISO_MAGIC_OFFSET = b"CD001", 32769

IMAGE = Resource(
    noun="image",
    path="/api/image/v1/images",
    id_field="imageId",
    id_pattern="img-[a-z0-9]{14}",
    columns=(
        Column("ID", "imageId"),
        Column("Name", "name"),
        Column("Status", "status", status),
        Column("Format", "format"),
        Column("Arch", "cpuArch"),
        Column("OS", "osType"),
        Column("Size", "sizeBytes", size),
        Column("Visibility", "visibility"),
    ),
    details=(
        Column("Virtual size", "virtualSizeBytes", size),
        Column("Platform", "platform"),
        Column("OS version", "osVersion"),
        Column("SHA-256", "sha256"),
        Column("Fetched from", "sourceUrl"),
        Column("Consistency", "consistency"),
        Column("Warning", "warning"),
        Column("Error", "errorMessage"),
        Column("Created", "createdAt", moment),
    ),
)


class Format(StrEnum):
    """How an image's file is laid out."""

    QCOW2 = "qcow2"
    RAW = "raw"
    ISO = "iso"


class OsType(StrEnum):
    """Family of the operating system inside."""

    LINUX = "linux"
    WINDOWS = "windows"
    OTHER = "other"


class Visibility(StrEnum):
    """Who may use an image."""

    PRIVATE = "private"
    PUBLIC = "public"


app = noun("image", "Images: what system disks are made from.")
Reference = Annotated[str, typer.Argument(metavar="IMAGE", help="Id or name.", autocompletion=IMAGE.complete)]


@dataclass(frozen=True)
class Description:
    """What is said about an image besides its bytes."""

    name: Annotated[str, typer.Option(help="By default the file's name.")] = ""
    arch: Annotated[Arch, typer.Option(help="Processor architecture.")] = Arch.X86
    os_type: Annotated[OsType, typer.Option(help="Family of the operating system.")] = OsType.LINUX
    platform: Annotated[str, typer.Option(help="Distribution, such as Debian.")] = ""
    os_version: Annotated[str, typer.Option(help="Its version.")] = ""
    visibility: Annotated[
        Visibility | None, typer.Option(help="Who may use it; by default its tenant, or all where it has none.")
    ] = None
    tenant: Annotated[str, typer.Option(help="Owner, for operators, id or name.", autocompletion=TENANT.complete)] = ""

    def body(self, client: Client) -> dict[str, Any]:
        """Its part of the request."""
        given = {
            "name": self.name,
            "cpuArch": self.arch,
            "osType": self.os_type,
            "platform": self.platform,
            "osVersion": self.os_version,
            "visibility": self.visibility,
            "tenantId": self.tenant and TENANT.find_id(client, self.tenant),
        }
        return {name: value for name, value in given.items() if value}


@dataclass(frozen=True)
class Origin:
    """What the cloud itself makes an image of."""

    instance: Annotated[
        str, typer.Option(help="Instance of whose system disk it is made.", autocompletion=INSTANCE.complete)
    ] = ""
    snapshot: Annotated[
        str, typer.Option(help="Snapshot of whose system disk it is made.", autocompletion=SNAPSHOT.complete)
    ] = ""
    quiesce: Annotated[
        bool, typer.Option(help="Freeze an instance's file systems for that moment, if its guest agent answers.")
    ] = True

    def body(self, client: Client) -> dict[str, Any]:
        """Its part of the request."""
        if self.snapshot:
            return {"name": f"{self.snapshot}-image", "snapshotId": SNAPSHOT.find_id(client, self.snapshot)}
        found = {"name": f"{self.instance}-image", "ecsId": INSTANCE.find_id(client, self.instance)}
        return found if self.quiesce else {**found, "quiesce": False}


@command(app, "list")
def list_images(session: Session, page: Page) -> None:
    """List the images."""
    session.show_list(IMAGE, page)


@command(app, "show")
def show_image(session: Session, image: Reference) -> None:
    """Show one image."""
    image_id = IMAGE.find_id(session.client, image)
    session.show(IMAGE, session.client.get(IMAGE.at(image_id)).data)


@command(app, "register")
def register_image(
    session: Session,
    description: Description,
    origin: Origin,
    waiting: Waiting,
    file: Annotated[Path | None, typer.Argument(help="The file to upload.", exists=True, dir_okay=False)] = None,
    url: Annotated[str, typer.Option(help="Where the coordinator fetches it instead.")] = "",
    image_format: Annotated[
        Format | None, typer.Option("--format", help="By default what the file, or the URL's ending, shows.")
    ] = None,
    sha256: Annotated[str, typer.Option(help="Digest to check; a file's is computed.")] = "",
) -> None:
    """Register an image from a file, a URL, an instance or a snapshot."""
    if sum(map(bool, (file, url, origin.instance, origin.snapshot))) != 1:
        raise UsageError("give either a FILE, --url, --instance or --snapshot")
    found: dict[str, Any]
    if file:
        found = {"name": file.name, "format": format_of(file), "sha256": sha256 or digest(session, file)}
    elif url:
        found = {"name": Path(httpx.URL(url).path).name, "format": format_named(url), "sha256": sha256, "url": url}
    else:
        found = origin.body(session.client)
    if image_format:
        found["format"] = image_format
    answer = session.client.create(IMAGE.path, {**found, **description.body(session.client)})
    image_id = answer.data["imageId"]
    if file:
        answer = upload(session, file, image_id)
    session.settle(answer, waiting)
    session.show(IMAGE, session.client.get(IMAGE.at(image_id)).data)


@command(app, "upload")
def upload_image(
    session: Session,
    image: Reference,
    file: Annotated[Path, typer.Argument(help="The file to upload.", exists=True, dir_okay=False)],
) -> None:
    """Upload a registered image's file, going on where an earlier upload broke off."""
    image_id = IMAGE.find_id(session.client, image)
    upload(session, file, image_id)
    session.show(IMAGE, session.client.get(IMAGE.at(image_id)).data)


@command(app, "update")
def update_image(
    session: Session,
    image: Reference,
    name: Annotated[str, typer.Option(help="Its new name.")] = "",
    arch: Annotated[Arch | None, typer.Option(help="Processor architecture.")] = None,
    os_type: Annotated[OsType | None, typer.Option(help="Family of the operating system.")] = None,
    platform: Annotated[str, typer.Option(help="Distribution, such as Debian.")] = "",
    os_version: Annotated[str, typer.Option(help="Its version.")] = "",
    visibility: Annotated[Visibility | None, typer.Option(help="Who may use it.")] = None,
) -> None:
    """Change what is said of an image; its bytes stay."""
    given = {
        "name": name,
        "cpuArch": arch,
        "osType": os_type,
        "platform": platform,
        "osVersion": os_version,
        "visibility": visibility,
    }
    image_id = IMAGE.find_id(session.client, image)
    changes = {field: value for field, value in given.items() if value}
    session.show(IMAGE, session.client.change("PUT", IMAGE.at(image_id), changes).data)


@command(app, "delete")
def delete_image(session: Session, image: Reference, waiting: Waiting) -> None:
    """Delete an image that no instance, disk or drive needs."""
    image_id = IMAGE.find_id(session.client, image)
    session.conclude(session.client.change("DELETE", IMAGE.at(image_id)), waiting, f"Deleted {image_id}")


def format_of(file: Path) -> Format:
    """What the file's own signature says; what has none is raw."""
    with file.open("rb") as stream:
        if stream.read(len(QCOW2_MAGIC)) == QCOW2_MAGIC:
            return Format.QCOW2
        stream.seek(ISO_MAGIC_OFFSET)
        return Format.ISO if stream.read(len(ISO_MAGIC)) == ISO_MAGIC else Format.RAW


def format_named(url: str) -> Format:
    """What the URL's ending says; qcow2, the usual one, where it says nothing."""
    ending = Path(httpx.URL(url).path).suffix.removeprefix(".")
    return Format(ending) if ending in set(Format) else Format.QCOW2


def digest(session: Session, file: Path) -> str:
    """The file's SHA-256 in hex."""
    found = hashlib.sha256()
    for chunk in chunks(session, file, "Checking"):
        found.update(chunk)
    return found.hexdigest()


def upload(session: Session, file: Path, image_id: str) -> Answer:
    """Sends the file's bytes to a registered image, beginning with the first that has not come yet."""
    with bar(session, file, "Uploading") as (show, stream):
        return session.client.upload(f"{IMAGE.at(image_id)}/file", stream, file.stat().st_size, show)


def chunks(session: Session, file: Path, verb: str) -> Iterator[bytes]:
    """The file's bytes; a bar shows how far their consumer is."""
    with bar(session, file, verb) as (show, stream):
        while chunk := stream.read(CHUNK_BYTES):
            yield chunk
            show(stream.tell())


@contextmanager
def bar(session: Session, file: Path, verb: str) -> Iterator[tuple[Callable[[int], None], BinaryIO]]:
    """The file, and what is told how many of its bytes are done."""
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    console = session.output.notes
    hidden = not console.is_terminal
    progress = Progress(*columns, TimeRemainingColumn(), console=console, transient=True, disable=hidden)
    with progress, file.open("rb") as stream:
        task = progress.add_task(f"{verb} {file.name}", total=file.stat().st_size)
        yield lambda done_bytes: progress.update(task, completed=done_bytes), stream
