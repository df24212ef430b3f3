"""What is run inside of guests, run here over a directory that stands for the guest's root."""

import os
import subprocess
from pathlib import Path

import pytest

from coordinator.tasks.guest_script import CHANGE_KEYS, FIND_USERS, SET_HOST_NAME, SET_PASSWORD_AUTH

KEY = "ssh-ed25519 AAAAkey me@laptop"
OTHER = "ssh-rsa AAAAother somebody"
DROP_IN = "etc/ssh/sshd_config.d/00-nodewright.conf"


class Root:
    """A guest's file system."""

    def __init__(self, path: Path) -> None:
        self.path = path
        owner = f"{os.getuid()}:{os.getgid()}"
        ada = f"{os.getuid() or 1000}:{os.getgid()}"
        self.write("etc/passwd", f"root:x:{owner}:root:{path}/root:/bin/sh\nada:x:{ada}::{path}/ada:/bin/sh\n")
        self.write("etc/hosts", "127.0.0.1 localhost\n127.0.1.1 old old.example\n")
        for home in ("root", "ada", "bin", "run"):
            (path / home).mkdir()

    def write(self, name: str, text: str, mode: int = 0o644) -> Path:
        """A file of the guest."""
        file = self.path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        file.chmod(mode)
        return file

    def read(self, name: str) -> str:
        """What a file of the guest says."""
        return (self.path / name).read_text()

    def program(self, name: str, body: str) -> None:
        """A program of the guest, before all others."""
        self.write(f"bin/{name}", f"#!/bin/sh\n{body}\n", 0o755)

    def run(self, script: str, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        """Runs a script with the guest's paths."""
        for directory in ("/etc/", "/run/", "/var/run/"):
            script = script.replace(f" {directory}", f" {self.path}{directory}")
            script = script.replace(f"={directory}", f"={self.path}{directory}")
        script = script.replace("export PATH=", f"export PATH={self.path}/bin:")
        command = ["/bin/sh", "-c", script, "nodewright", *arguments]
        return subprocess.run(command, input=stdin, capture_output=True, text=True, check=False)


@pytest.fixture
def root(tmp_path: Path) -> Root:
    made = Root(tmp_path)
    made.program("systemctl", f'echo "$@" >> {tmp_path}/reloads')
    return made


def an_sshd(root: Root, effective: str = "") -> None:
    """An sshd that goes by our drop-in, or by something else."""
    says = f"echo PasswordAuthentication {effective}" if effective else f"cat {root.path}/{DROP_IN}"
    root.program("sshd", f"[ $1 = -t ] && exit 0\n{says}")


def test_the_default_user_is_cloud_init_s_or_the_first_person(root: Root) -> None:
    assert root.run(FIND_USERS).stdout.split() == ["root", "ada"]
    root.write("etc/cloud/cloud.cfg", "system_info:\n  default_user:\n    name: ben\n    lock_passwd: True\n")
    assert root.run(FIND_USERS).stdout.split() == ["root", "ada"], "there is no ben"
    root.write("etc/passwd", root.read("etc/passwd") + "ben:x:1001:1001::/:/bin/sh\n")
    assert root.run(FIND_USERS).stdout.split() == ["root", "ben"]


def test_keys_are_added_once_and_removed_whatever_their_comment_is(root: Root) -> None:
    file = root.write("ada/.ssh/authorized_keys", f"# mine\n{OTHER}")
    os.chown(file, os.getuid() or 1000, -1)
    for _ in range(2):
        assert root.run(CHANGE_KEYS, "add", "root", "ada", "nobody-here", stdin=f"{KEY}\n").returncode == 0
    assert file.read_text() == f"# mine\n{OTHER}\n{KEY}\n"
    assert root.read("root/.ssh/authorized_keys") == f"{KEY}\n"
    assert file.stat().st_mode & 0o777 == 0o600
    assert (root.path / "root/.ssh").stat().st_mode & 0o777 == 0o700
    file.write_text(f'{OTHER}\nfrom="10.0.0.1" ssh-ed25519 AAAAkey elsewhere\n')
    assert root.run(CHANGE_KEYS, "remove", "root", "ada", stdin=f"{KEY}\n").returncode == 0
    assert (file.read_text(), root.read("root/.ssh/authorized_keys")) == (f"{OTHER}\n", "")
    assert [path.name for path in (root.path / "ada/.ssh").iterdir()] == ["authorized_keys"]


def test_nothing_is_written_through_a_link(root: Root) -> None:
    target = root.write("etc/target", "kept")
    (root.path / "ada/.ssh").mkdir()
    (root.path / "ada/.ssh/authorized_keys").symlink_to(target)
    done = root.run(CHANGE_KEYS, "add", "ada", stdin=f"{KEY}\n")
    assert (done.returncode, "link" in done.stderr, target.read_text()) == (1, True, "kept")


@pytest.mark.parametrize("swapped", ["authorized_keys", ".ssh"])
def test_what_is_swapped_for_a_link_meanwhile_gives_nothing_away(root: Root, swapped: str) -> None:
    secret = root.write("etc/target/authorized_keys", "of root alone", 0o600)
    root.write("ada/.ssh/authorized_keys", OTHER, 0o644)
    # Right after the directory was looked at.
    where, target = ("ada/.ssh/authorized_keys", secret) if swapped != ".ssh" else ("ada/.ssh", secret.parent)
    moved = f"mv {root.path}/{where} {root.path}/ada/before; ln -s {target} {root.path}/{where}"
    root.program("mktemp", f'[ "$1" != -d ] || {{ {moved}; }}\nPATH=/usr/bin:/bin exec mktemp "$@"')
    done = root.run(CHANGE_KEYS, "add", "ada", stdin=f"{KEY}\n")
    assert (done.returncode, "ada/.ssh" in done.stderr) == (1, True)
    assert (secret.read_text(), secret.stat().st_uid) == ("of root alone", os.getuid())
    assert [path.name for path in secret.parent.iterdir()] == ["authorized_keys"]


def test_removing_makes_no_files(root: Root) -> None:
    assert root.run(CHANGE_KEYS, "remove", "ada", stdin=f"{KEY}\n").returncode == 0
    assert not (root.path / "ada/.ssh").exists()


@pytest.mark.parametrize("wanted", ["yes", "no"])
def test_sshd_is_told_about_passwords_and_reloads(root: Root, wanted: str) -> None:
    an_sshd(root)
    done = root.run(SET_PASSWORD_AUTH, wanted)
    assert done.returncode == 0, done.stderr
    assert f"PasswordAuthentication {wanted}" in root.read(DROP_IN)
    assert ("ChallengeResponseAuthentication no" in root.read(DROP_IN)) == (wanted == "no")
    assert root.read("reloads") == "reload ssh\n"
    assert root.run(SET_PASSWORD_AUTH, "").returncode == 0
    assert not (root.path / DROP_IN).exists()


def test_a_configuration_that_sshd_does_not_take_is_taken_back(root: Root) -> None:
    an_sshd(root)
    root.run(SET_PASSWORD_AUTH, "yes")
    before = root.read(DROP_IN)
    root.program("sshd", "echo bad >&2; exit 255")
    done = root.run(SET_PASSWORD_AUTH, "no")
    assert (done.returncode, "bad" in done.stderr, root.read(DROP_IN)) == (1, True, before)


def test_a_setting_that_does_not_count_is_taken_back_and_told(root: Root) -> None:
    an_sshd(root, effective="yes")
    done = root.run(SET_PASSWORD_AUTH, "no")
    assert (done.returncode, "another setting" in done.stderr) == (4, True)
    assert not (root.path / DROP_IN).exists()


def test_a_guest_without_openssh_is_told_apart(root: Root) -> None:
    assert root.run(SET_PASSWORD_AUTH.replace("command -v sshd", "false"), "no").returncode == 3
    assert root.run(SET_PASSWORD_AUTH, "").returncode == 0


def test_the_host_name_is_set_with_or_without_systemd(root: Root) -> None:
    root.program("hostname", f'echo "$1" > {root.path}/name')
    root.program("uname", f"cat {root.path}/name")
    root.program("hostnamectl", "exit 1")
    assert root.run(SET_HOST_NAME, "web-1").returncode == 0
    assert root.read("etc/hostname") == "web-1\n"
    assert root.read("etc/hosts") == "127.0.0.1 localhost\n127.0.1.1 web-1\n"
    root.program("hostnamectl", f'echo "$2" > {root.path}/name')
    assert root.run(SET_HOST_NAME, "web-2").returncode == 0
    root.program("hostnamectl", "true")
    done = root.run(SET_HOST_NAME, "web-3")
    assert (done.returncode, done.stderr) == (1, "the host name is still web-2\n")
