"""A Debian userland for arm64 on another processor: debootstrap builds it, qemu-user runs its programs."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

BINFMT = Path("/proc/sys/fs/binfmt_misc")
ENTRY = "probpose-arm64"
# The first 20 bytes of a 64-bit little-endian ELF program for AArch64 (machine 183), and which of their bits count:
# all but the ABI byte and its padding, and programs (2) and shared objects (3) alike.
ELF_MAGIC = bytes.fromhex("7f454c460201010000000000000000000200b700")
ELF_MASK = bytes.fromhex("ffffffffffffff00fffffffffffffffffeffffff")
PACKAGES = ("python3", "python3-venv")
RECORD = "probpose-userland.json"
LONGEST_S = 3600
"""A program in the userland that takes longer hangs: the emulator does not always end one that crashed."""


class UserlandError(Exception):
    """Something is missing on this machine, or a step of the build failed; the message says what to do."""


@dataclass(frozen=True, kw_only=True)
class Userland:
    """A folder with a Debian arm64 userland: its release, its Python ("3.11") and its C library ((2, 36))."""

    folder: Path
    suite: str
    python: str
    glibc: tuple[int, int]

    @property
    def platforms(self) -> list[str]:
        """Tags of the binary wheels that run in it, oldest last, as pip's --platform takes them."""
        major, minor = self.glibc
        return [f"manylinux_{major}_{number}_aarch64" for number in range(minor, 16, -1)] + ["manylinux2014_aarch64"]


def check_machine() -> None:
    """Refuse early what would fail late. Raises `UserlandError`."""
    if os.geteuid() != 0:
        raise UserlandError(
            "A userland is built with mount and chroot, which need root, and this is not. Run the same command with "
            "sudo, naming the environment's interpreter: sudo .venv/bin/python scripts/test-arm64"
        )
    missing = [tool for tool in ("debootstrap", "unshare", "chroot") if shutil.which(tool) is None]
    if emulator() is None:
        missing.append("qemu-aarch64-static")
    if missing:
        raise UserlandError(
            f"These programs are needed and not here: {', '.join(missing)}. Install them with: "
            "apt-get install debootstrap qemu-user-static util-linux coreutils"
        )


def emulator() -> str | None:
    """The statically linked qemu-user for AArch64; a dynamic one does not find its libraries in another root."""
    return shutil.which("qemu-aarch64-static") or shutil.which("qemu-aarch64")


def debian_mirror(targets: str, suite: str) -> str:
    """Where to fetch a release from: the Debian archive of apt's own configuration.

    targets: lines ``URI|CODENAME|ORIGIN|LABEL|COMPONENT`` (`apt_targets`). A source of the release itself goes before
    those of other releases, whose archive has it, too. Raises `UserlandError` where apt knows no Debian archive.
    """
    rows = [line.split("|") for line in targets.splitlines() if line.count("|") == 4]
    archives = [
        (codename != suite, uri)
        for uri, codename, origin, label, component in rows
        if (origin, label, component) == ("Debian", "Debian", "main")
    ]
    if not archives:
        raise UserlandError(
            f"apt has no source of Debian's main archive on this machine, so there is nothing to fetch {suite} from. "
            "Name a mirror with --mirror URL, or run apt-get update if the sources are new."
        )
    return min(archives)[1]


def apt_targets() -> str:
    """What apt is configured to fetch, one line per index; empty without apt."""
    if shutil.which("apt-get") is None:
        return ""
    form = "$(REPO_URI)|$(CODENAME)|$(ORIGIN)|$(LABEL)|$(COMPONENT)"
    command = ["apt-get", "indextargets", "--format", form, "Identifier: Packages"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout


@contextmanager
def arm64_programs_run(binfmt: Path = BINFMT) -> Iterator[None]:
    """Have the kernel start arm64 programs with qemu within the block; what was not registered before is taken back.

    An entry must open its interpreter when it is registered (flag F): within the userland there is none.
    """
    mounted = False
    if not (binfmt / "register").exists():
        done = subprocess.run(
            ["mount", "-t", "binfmt_misc", "binfmt_misc", str(binfmt)], capture_output=True, text=True
        )
        if done.returncode:
            raise UserlandError(
                f"The kernel's binfmt_misc must be mounted to run arm64 programs; mount says: {done.stderr.strip()}. "
                "In a container, register qemu on its host (apt-get install qemu-user-static there), or give the "
                "container the privilege to mount."
            )
        mounted = True
    registered = False
    try:
        if not any(_runs_arm64(entry) for entry in binfmt.iterdir() if entry.name not in ("register", "status")):
            (binfmt / "register").write_bytes(registration(str(emulator())))
            registered = True
        yield
    finally:
        if registered:
            (binfmt / ENTRY).write_text("-1")
        if mounted:
            subprocess.run(["umount", str(binfmt)], capture_output=True, check=False)


def registration(interpreter: str) -> bytes:
    """The line that makes the kernel start arm64 programs with `interpreter`, opened now (F), with their own
    credentials (OC)."""

    def escaped(values: bytes) -> bytes:
        return b"".join(b"\\x%02x" % value for value in values)

    return b":%s:M::%s:%s:%s:OCF" % (ENTRY.encode(), escaped(ELF_MAGIC), escaped(ELF_MASK), interpreter.encode())


def _runs_arm64(entry: Path) -> bool:
    lines = dict(line.partition(" ")[::2] for line in entry.read_text().splitlines())
    return "enabled" in lines and lines.get("magic") == ELF_MAGIC.hex() and "F" in lines.get("flags:", "")


def ready_userland(folder: Path, suite: str, mirror: str) -> Userland:
    """The userland in a folder: that of an earlier run, or a new one; whole or not there at all.

    Raises `UserlandError` for a folder with something else in it, another release than asked for, and what debootstrap
    refuses.
    """
    record = folder / RECORD
    if record.is_file():
        known = json.loads(record.read_text())
        if known["suite"] != suite:
            raise UserlandError(
                f"{folder} holds the release {known['suite']}, but {suite} was asked for. Name another folder, or "
                f"--suite {known['suite']}."
            )
        return Userland(folder=folder, suite=suite, python=known["python"], glibc=tuple(known["glibc"]))
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserlandError(
            f"{folder} is there and is no userland that this script has finished. Name an empty or new folder, or "
            "remove it."
        )
    part = folder.with_name(folder.name + ".part")
    if part.exists():
        shutil.rmtree(part)  # of a run that was interrupted
    part.mkdir(parents=True)
    command = ["debootstrap", "--arch=arm64", "--variant=minbase", f"--include={','.join(PACKAGES)}", suite]
    _call([*OWN_NAMESPACES, *command, str(part), mirror], f"debootstrap could not build {suite} for arm64")
    program = "import platform, sys; print(*sys.version_info[:2], *platform.libc_ver()[1].split('.'))"
    numbers = [int(word) for word in run_inside(part, ["python3", "-c", program]).split()]
    found = Userland(folder=folder, suite=suite, python=f"{numbers[0]}.{numbers[1]}", glibc=(numbers[2], numbers[3]))
    (part / RECORD).write_text(json.dumps({**asdict(found), "folder": None}))
    if folder.exists():
        folder.rmdir()
    part.rename(folder)
    return found


OWN_NAMESPACES = ("unshare", "--mount", "--pid", "--fork", "--kill-child", "--")
"""Whatever happens, nothing stays mounted or running."""

# No /sys: it and /proc would describe this machine's processor, which crashes what looks for an arm64 one there
# (onnxruntime's cpuinfo, on import). Without it onnxruntime warns and goes on.
INSIDE = """
mount -t proc proc "$1/proc" && mount --rbind /dev "$1/dev" || exit 1
root=$1; shift
exec chroot "$root" /usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8 TMPDIR=/tmp "$@"
"""


def run_inside(folder: Path, command: Sequence[str]) -> str:
    """Run a program in the userland and return what it prints; its remarks go on to this one's.

    It has its own mounts and processes, which end with it. Raises `UserlandError` where it fails or hangs.
    """
    inside = [*OWN_NAMESPACES, "sh", "-c", INSIDE, "sh", str(folder), *command]
    try:
        done = subprocess.run(inside, stdout=subprocess.PIPE, text=True, check=False, timeout=LONGEST_S)
    except subprocess.TimeoutExpired as error:
        raise UserlandError(
            f"In the userland, `{' '.join(command)[:100]}` was still running after {LONGEST_S} s and was ended. "
            "Try again on a quieter machine, or with a newer qemu."
        ) from error
    if done.returncode:
        raise UserlandError(
            f"In the userland, `{' '.join(command)[:100]}` ended with {done.returncode}; what it said is "
            f"above. If the folder was kept from an earlier run, remove it and build it anew: rm -r {folder}"
        )
    return done.stdout


def _call(command: Sequence[str], failure: str) -> None:
    with tempfile.TemporaryFile("w+") as log:
        done = subprocess.run(command, stdout=log, stderr=subprocess.STDOUT, text=True, check=False)
        if done.returncode:
            log.seek(0)
            raise UserlandError(f"{failure}. It ended with {done.returncode} and these words:\n{log.read()[-2000:]}")
