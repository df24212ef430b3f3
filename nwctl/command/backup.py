"""`nwctl backup`: volumes as files, to be kept elsewhere and restored anywhere."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from nwctl.binding import command, noun
from nwctl.command.instance import INSTANCE
from nwctl.command.volume import VOLUME
from nwctl.error import UsageError
from nwctl.option import Page, Waiting
from nwctl.output import Column, moment, size, status
from nwctl.resource import Resource
from nwctl.restore import BackupDamaged, assemble, check_link, digest, manifest_of, read_chain
from nwctl.session import Session

BACKUP = Resource(
    noun="backup",
    path="/api/ecs/v1/backups",
    id_field="backupId",
    id_pattern=r"backup-[a-z0-9]{16}",
    name_field="backupId",
    rows_field="backups",
    columns=(
        Column("ID", "backupId"),
        Column("Instance", "ecsId"),
        Column("Volume", "volumeName"),
        Column("Status", "status", status),
        Column("Mode", "mode"),
        Column("Parent", "parentId"),
        Column("Size", "fileBytes", size),
        Column("Taken", "takenAt", moment),
    ),
    details=(
        Column("Volume UUID", "volumeUuid"),
        Column("Disk", "sizeBytes", size),
        Column("Consistency", "consistency"),
        Column("Moment", "pointId"),
        Column("Full because", "wholeBecause"),
        Column("SHA-256", "sha256"),
        Column("File kept until", "fileExpiresAt", moment),
        Column("Error", "errorMessage"),
    ),
)


class Format(StrEnum):
    """What a disk is restored as."""

    RAW = "raw"
    QCOW2 = "qcow2"


app = noun("backup", "Backups: files of volumes, whole or what has changed, restored anywhere.")
Reference = Annotated[str, typer.Argument(metavar="BACKUP", help="Id.", autocompletion=BACKUP.complete)]


@command(app, "list")
def list_backups(session: Session, page: Page) -> None:
    """List the backups, the newest first."""
    session.show_list(BACKUP, page)


@command(app, "show")
def show_backup(session: Session, backup: Reference) -> None:
    """Show one backup."""
    session.show(BACKUP, session.client.get(BACKUP.at(BACKUP.find_id(session.client, backup))).data)


@command(app, "create")
def create_backup(
    session: Session,
    waiting: Waiting,
    instance: Annotated[str, typer.Argument(help="All its volumes, at one moment.", metavar="[INSTANCE]")] = "",
    volume: Annotated[str, typer.Option(help="This volume instead.", autocompletion=VOLUME.complete)] = "",
    full: Annotated[bool, typer.Option("--full", help="All of it, not what has changed.")] = False,
    quiesce: Annotated[
        bool, typer.Option(help="Freeze the guest's file systems meanwhile, if its guest agent answers.")
    ] = True,
) -> None:
    """Back up an instance or a volume, whether it runs or not: what has changed since the last time, or all."""
    if bool(instance) == bool(volume):
        raise UsageError("give either an INSTANCE or --volume")
    wanted = {"ecsId": INSTANCE.find_id(session.client, instance)} if instance else {}
    if volume:
        wanted = {"volumeId": VOLUME.find_id(session.client, volume)}
    body = {**wanted, "mode": "full" if full else "incremental", "quiesce": quiesce}
    answer = session.client.create(BACKUP.path, body)
    session.settle(answer, waiting)
    rows = answer.data["backups"]
    if waiting.wait:
        rows = [session.client.get(BACKUP.at(row["backupId"])).data for row in rows]
    session.show_rows(BACKUP.columns, rows, {"backups": rows, "totalCount": len(rows)})


@command(app, "download")
def download_backup(
    session: Session,
    backups: Annotated[list[str], typer.Argument(metavar="BACKUP...", help="Ids.", autocompletion=BACKUP.complete)],
    directory: Annotated[Path, typer.Option("--to", help="Where the files go.", file_okay=False)] = Path(),
) -> None:
    """Download files of backups, each with what is told of it; goes on where an earlier download broke off."""
    directory.mkdir(parents=True, exist_ok=True)
    done = [_download(session, BACKUP.find_id(session.client, backup), directory) for backup in backups]
    session.report(done, f"Downloaded {', '.join(manifest['fileName'] for manifest in done)}")


@command(app, "restore")
def restore_backup(
    session: Session,
    file: Annotated[Path, typer.Argument(help="Of the backup, with those that it is based on beside it.")],
    target: Annotated[Path, typer.Argument(help="The disk to write.")],
    image_format: Annotated[Format, typer.Option("--format", help="What it is written as.")] = Format.QCOW2,
) -> None:
    """Put a disk together from downloaded backups; needs qemu-img, and no coordinator."""
    if target.exists():
        raise UsageError(f"{target} is there already")
    chain = read_chain(file)
    for link in chain:
        with _bar(session, f"Checking {link.file.name}", link.manifest["fileBytes"]) as show:
            check_link(link, show)
    assemble(file, target, image_format)
    taken_at = chain[0].manifest.get("takenAt", "")
    session.report({"file": str(target), "backups": len(chain)}, f"Restored {target} as of {taken_at}")


@command(app, "delete")
def delete_backup(session: Session, backup: Reference, waiting: Waiting) -> None:
    """Delete a backup; after that of a volume's newest one the next is a full one."""
    backup_id = BACKUP.find_id(session.client, backup)
    session.conclude(session.client.change("DELETE", BACKUP.at(backup_id)), waiting, f"Deleted {backup_id}")


def _download(session: Session, backup_id: str, directory: Path) -> dict[str, Any]:
    manifest: dict[str, Any] = session.client.get(BACKUP.at(backup_id)).data
    # The coordinator names the file; where it goes is not its affair.
    file = directory / f"{backup_id}.{manifest['format']}"
    if not file.exists():
        part = file.with_name(f"{file.name}.part")
        with _bar(session, f"Downloading {file.name}", manifest["fileBytes"]) as show, part.open("ab") as stream:
            tag = f'"{manifest["sha256"]}"'
            session.client.download(f"{BACKUP.at(backup_id)}/file", stream, tag, manifest["fileBytes"], show)
        if digest(part) != manifest["sha256"]:
            part.unlink()
            raise BackupDamaged(f"{file.name} came damaged, and was thrown away: download it again")
        part.rename(file)
    manifest_of(file).write_text(json.dumps(manifest, indent=2, ensure_ascii=False) + "\n")
    return manifest


@contextmanager
def _bar(session: Session, text: str, total_bytes: int) -> Iterator[Callable[[int], None]]:
    """What is told how many bytes are done."""
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    console = session.output.notes
    progress = Progress(
        *columns, TimeRemainingColumn(), console=console, transient=True, disable=not console.is_terminal
    )
    with progress:
        task = progress.add_task(text, total=total_bytes)
        yield lambda done_bytes: progress.update(task, completed=done_bytes)
