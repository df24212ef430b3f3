"""A private PostgreSQL server for tests: unix socket only, durability off, gone at the end."""

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import URL, create_engine, text
from sqlalchemy.engine import make_url

from tests.own_directory import make_own_directory

_PROGRAMS = Path("/usr/lib/postgresql")
# Short paths: that of a socket has at most 107 bytes.
_PARENT, _PREFIX = Path("/tmp"), "nw-pg-"


def find_programs() -> Path | None:
    """The directory of initdb and pg_ctl of the newest installed version."""
    versions = sorted(_PROGRAMS.glob("*/bin/initdb"), key=lambda path: float(path.parts[-3]))
    return versions[-1].parent if versions else None


@contextmanager
def private_server() -> Iterator[str]:
    """The URL of a new server's superuser database, for as long as the block runs."""
    programs = find_programs()
    if programs is None:
        raise RuntimeError("PostgreSQL is not installed: apt-get install postgresql")
    directory, lock = make_own_directory(_PREFIX, _PARENT)
    account = _server_account()
    if account is not None:
        shutil.chown(directory, account, pwd.getpwnam(account).pw_gid)
    data = directory / "data"
    try:
        _run(account, programs / "initdb", "-D", data, "-U", "nodewright", "-A", "trust", "-E", "UTF8", "--no-sync")
        options = f"-k {directory} -c listen_addresses='' -c fsync=off -c max_connections=300"
        _run(account, programs / "pg_ctl", "-D", data, "-w", "-l", directory / "log", "-o", options, "start")
        try:
            yield f"postgresql+psycopg://nodewright@/postgres?host={directory}"
        finally:
            _run(account, programs / "pg_ctl", "-D", data, "-m", "immediate", "stop")
    finally:
        shutil.rmtree(directory, ignore_errors=True)
        lock.close()


@contextmanager
def fresh_database(server_url: str, name: str) -> Iterator[str]:
    """The URL of a new, empty database on the server, dropped afterwards."""
    admin = create_engine(server_url, isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.execute(text(f'CREATE DATABASE "{name}"'))
    url: URL = make_url(server_url).set(database=name)
    try:
        yield url.render_as_string(hide_password=False)
    finally:
        with admin.connect() as connection:
            connection.execute(text(f'DROP DATABASE "{name}" WITH (FORCE)'))
        admin.dispose()


def _server_account() -> str | None:
    """Whom to run the server as: PostgreSQL refuses root."""
    if os.geteuid() != 0:
        return None
    return next(name for name in ("postgres", "nobody") if any(entry.pw_name == name for entry in pwd.getpwall()))


def _run(account: str | None, *command: object) -> None:
    prefix = (
        ["setpriv", f"--reuid={account}", f"--regid={pwd.getpwnam(account).pw_gid}", "--clear-groups"]
        if account
        else []
    )
    # pg_ctl hands its output on to the server: a pipe would stay open for as long as that lives.
    with tempfile.TemporaryFile() as output:
        done = subprocess.run(
            [*prefix, *map(str, command)], stdout=output, stderr=subprocess.STDOUT, timeout=60, check=False, cwd="/"
        )
        if done.returncode != 0:
            output.seek(0)
            raise RuntimeError(f"{command[0]}: {output.read().decode(errors='replace')}")
