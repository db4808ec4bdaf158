"""scripts/setup.sh on machines that lack things: what it asks of apt, and what it tells a user who may not."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROGRAMS = ("iverilog", "perl", "g++", "make")
INSTALL = "apt-get install -y --no-install-recommends"


class Machine:
    """A PATH of its own: the shell's helpers, stand-ins for what is installed, and an apt that takes notes."""

    def __init__(self, folder: Path):
        self.bin = folder / "bin"
        self.log = folder / "apt.log"
        self.bin.mkdir()
        for tool in ("bash", "env", "mktemp", "tail", "rm", "touch", "chmod"):
            path = shutil.which(tool)
            assert path, tool
            (self.bin / tool).symlink_to(path)
        # The interpreter is real, for its shared library; that it has ensurepip is taken for granted.
        self.add("python3", f'case "$*" in *ensurepip*) exit 0;; esac; exec "{sys.executable}" "$@"')
        for program in PROGRAMS:
            self.add(program)

    def add(self, name: str, body: str = "exit 0") -> None:
        path = self.bin / name
        path.write_text(f"#!/bin/sh\n{body}\n")
        path.chmod(0o755)

    def remove(self, *names: str) -> None:
        for name in names:
            (self.bin / name).unlink()

    def add_apt(self, *, user: int, works: bool = True) -> None:
        """Give the machine an apt-get, run by ``user``, that installs stand-ins or fails."""
        self.add("id", f"echo {user}")
        install = (
            f'for p; do touch "{self.bin}/$p" && chmod +x "{self.bin}/$p"; done' if works else "exit 100"
        )
        note = f'echo "$DEBIAN_FRONTEND: $*" >> "{self.log}"'
        self.add("apt-get", f'{note}\n[ "$1" = update ] && exit 0\nshift 3\n{install}')

    def setup(self, level: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(ROOT / "scripts" / "setup.sh"), level],
            env={"PATH": str(self.bin), "HOME": os.environ.get("HOME", "/"), **environment},
            capture_output=True,
            text=True,
            check=False,
        )

    def asked(self) -> list[str]:
        return self.log.read_text().splitlines() if self.log.exists() else []


@pytest.fixture
def machine(tmp_path) -> Machine:
    return Machine(tmp_path)


def test_asks_apt_nothing_when_all_is_there(machine):
    machine.add_apt(user=0)
    done = machine.setup("sim")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert machine.asked() == []


def test_root_installs_only_what_is_missing(machine):
    machine.add_apt(user=0)
    machine.remove("iverilog", "g++")
    done = machine.setup("sim")
    assert done.returncode == 0, done.stderr
    assert machine.asked() == [
        "noninteractive: update -qq",
        "noninteractive: install -y --no-install-recommends iverilog g++",
    ]


def test_sudo_without_a_password_is_used(machine):
    machine.add_apt(user=1000)
    machine.add("sudo", '[ "$1" = -n ] || exit 1\nshift\n[ "$1" = true ] && exit 0\nexec "$@"')
    machine.remove("iverilog")
    assert machine.setup("sim").returncode == 0
    assert machine.asked()[-1] == "noninteractive: install -y --no-install-recommends iverilog"


@pytest.mark.parametrize("sudo", [False, True], ids=["no sudo", "sudo asks a password"])
def test_other_users_are_told_the_exact_command(machine, sudo):
    machine.add_apt(user=1000)
    if sudo:
        machine.add("sudo", "exit 1")
    machine.remove("iverilog", "perl")
    done = machine.setup("sim")
    assert done.returncode == 1
    assert f"{INSTALL} iverilog perl\n" in done.stderr
    assert "the Icarus simulator" in done.stderr
    assert machine.asked() == []


def test_no_apt_forbids_installing(machine):
    machine.add_apt(user=0)
    machine.remove("g++")
    done = machine.setup("sim", NO_APT="1")
    assert done.returncode == 1
    assert f"{INSTALL} g++\n" in done.stderr
    assert machine.asked() == []


def test_machine_without_apt_is_told_too(machine):
    machine.add("id", "echo 0")
    machine.remove("iverilog")
    done = machine.setup("sim")
    assert done.returncode == 1
    assert f"{INSTALL} iverilog\n" in done.stderr


def test_failed_installation_is_an_error(machine):
    machine.add_apt(user=0, works=False)
    machine.remove("iverilog")
    done = machine.setup("sim")
    assert done.returncode == 1
    assert f"{INSTALL} iverilog\n" in done.stderr


def test_venv_needs_no_simulator(machine):
    machine.remove(*PROGRAMS)
    assert machine.setup("venv").returncode == 0


def test_missing_ensurepip_names_debians_package(machine):
    machine.add("python3", f'case "$*" in *ensurepip*) exit 1;; esac; exec "{sys.executable}" "$@"')
    done = machine.setup("venv")
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    assert done.returncode == 1
    assert f"{INSTALL} python{version}-venv\n" in done.stderr


def test_old_python_is_refused(machine):
    machine.add("python3", "echo 3.9; exit 1")
    done = machine.setup("venv")
    assert done.returncode == 1
    assert "Python 3.11 or newer is needed; python3 is 3.9" in done.stderr


def test_unknown_level_prints_usage(machine):
    done = machine.setup("everything")
    assert done.returncode == 2
    assert "usage" in done.stderr
