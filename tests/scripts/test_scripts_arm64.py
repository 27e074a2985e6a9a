"""What test-arm64 decides without root: mirrors, tags, registration, which folders it takes, and what is the same."""

from __future__ import annotations

import copy
import json
import os
import sys
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"
TARGETS = """
MIRROR/security/|bookworm-security|Debian|Debian-Security|main
MIRROR/other/|trixie|Debian|Debian|main
MIRROR/debian/|bookworm|Debian|Debian|main
MIRROR/nonfree/|bookworm|Debian|Debian|non-free
MIRROR/node/|nodistro|Node|Node|main
"""
RECORD = {"suite": "bookworm", "python": "3.11", "glibc": [2, 36], "folder": None}


@pytest.fixture
def userland(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(SCRIPTS))
    import arm64_userland

    return arm64_userland


@pytest.fixture
def compared(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(SCRIPTS))
    import arm64_compare

    return arm64_compare


class TestUserland:
    def test_packages_come_from_where_apt_takes_them(self, userland: ModuleType) -> None:
        assert userland.debian_mirror(TARGETS, "bookworm") == "MIRROR/debian/"
        assert userland.debian_mirror(TARGETS, "trixie") == "MIRROR/other/"
        # An archive has all releases.
        assert userland.debian_mirror(TARGETS.replace("bookworm|", "sid|"), "bookworm") == "MIRROR/debian/"
        with pytest.raises(userland.UserlandError, match=r"no source of Debian's main archive .* --mirror URL"):
            userland.debian_mirror("MIRROR/ubuntu/|noble|Ubuntu|Ubuntu|main\n", "bookworm")

    def test_wheels_for_its_c_library_and_older(self, userland: ModuleType, tmp_path: Path) -> None:
        found = userland.Userland(folder=tmp_path, suite="bookworm", python="3.11", glibc=(2, 36)).platforms
        assert found[0] == "manylinux_2_36_aarch64"
        assert found[-2:] == ["manylinux_2_17_aarch64", "manylinux2014_aarch64"]
        assert len(found) == 21

    def test_a_finished_folder_is_used_again(self, userland: ModuleType, tmp_path: Path) -> None:
        (tmp_path / "probpose-userland.json").write_text(json.dumps(RECORD))
        found = userland.ready_userland(tmp_path, "bookworm", "MIRROR")
        assert (found.python, found.glibc) == ("3.11", (2, 36))
        with pytest.raises(userland.UserlandError, match=r"holds the release bookworm, but trixie was asked for"):
            userland.ready_userland(tmp_path, "trixie", "MIRROR")

    def test_a_folder_with_something_else_is_left_alone(self, userland: ModuleType, tmp_path: Path) -> None:
        (tmp_path / "letter.txt").write_text("dear")
        with pytest.raises(userland.UserlandError, match=r"no userland that this script has finished"):
            userland.ready_userland(tmp_path, "bookworm", "MIRROR")
        assert [path.name for path in tmp_path.iterdir()] == ["letter.txt"]

    def test_what_fails_is_said_in_its_own_words(
        self, userland: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(userland, "OWN_NAMESPACES", ("sh", "-c", "echo 'E: no such mirror'; exit 3"))
        folder = tmp_path / "new"
        with pytest.raises(
            userland.UserlandError, match=r"could not build bookworm for arm64\. It ended with 3 .*\nE: no"
        ):
            userland.ready_userland(folder, "bookworm", "MIRROR")
        assert not folder.exists()
        with pytest.raises(userland.UserlandError, match=r"`python3 -V` ended with 3; .* rm -r"):
            userland.run_inside(folder, ["python3", "-V"])
        monkeypatch.setattr(userland, "OWN_NAMESPACES", ("sh", "-c", "exec sleep 20"))
        monkeypatch.setattr(userland, "LONGEST_S", 0.1)
        with pytest.raises(userland.UserlandError, match=r"`python3 -V` was still running after 0.1 s and was ended"):
            userland.run_inside(folder, ["python3", "-V"])

    def test_what_is_missing_is_named(self, userland: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(os, "geteuid", lambda: 1000)
        with pytest.raises(userland.UserlandError, match=r"need root, .* sudo .venv/bin/python scripts/test-arm64"):
            userland.check_machine()
        monkeypatch.setattr(os, "geteuid", lambda: 0)
        monkeypatch.setenv("PATH", "")
        with pytest.raises(
            userland.UserlandError, match=r"debootstrap, unshare, chroot, qemu-aarch64-static\. Install"
        ):
            userland.check_machine()

    def test_a_registration_is_taken_back(
        self, userland: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(userland, "emulator", lambda: "/usr/bin/qemu-aarch64-static")
        register = tmp_path / "register"
        register.touch()
        (tmp_path / "status").write_text("enabled")
        entry = f"enabled\ninterpreter /q\nflags: OC\noffset 0\nmagic {userland.ELF_MAGIC.hex()}\n"
        (tmp_path / "without-f").write_text(entry)
        with pytest.raises(KeyError), userland.arm64_programs_run(tmp_path):
            line = register.read_bytes()
            raise KeyError
        assert line.startswith(rb":probpose-arm64:M::\x7f\x45\x4c\x46\x02\x01\x01")
        assert line.endswith(b":/usr/bin/qemu-aarch64-static:OCF")
        assert (tmp_path / "probpose-arm64").read_text() == "-1"

        register.write_bytes(b"")
        (tmp_path / "there").write_text(entry.replace("OC", "POF"))
        with userland.arm64_programs_run(tmp_path):
            assert register.read_bytes() == b""

    def test_without_root_it_ends_with_2_and_says_why(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        loader = SourceFileLoader("test_arm64_program", str(SCRIPTS / "test-arm64"))
        spec = spec_from_loader(loader.name, loader)
        assert spec is not None
        module = module_from_spec(spec)
        monkeypatch.setattr(sys, "path", list(sys.path))
        monkeypatch.setattr(sys, "dont_write_bytecode", True)
        loader.exec_module(module)
        monkeypatch.setattr(os, "geteuid", lambda: 1000)
        monkeypatch.setattr(sys, "argv", ["test-arm64", "userland"])
        assert module.main() == 2
        assert "which need root" in capsys.readouterr().err


def answers(**changes: Any) -> dict[str, Any]:
    heads = ("presence", "visibility", "quality", "expected_oks", "present")
    picture = {"keypoints": [[[50.0, 60.0], [70.0, 80.0]]], **{head: [[0.9, 0.1]] for head in heads}}
    file = {
        "input_wh": [192, 256],
        "padding": 1.25,
        "opened_s": 0.5,
        "crop_s": 0.006,
        "self_test": {"passed": True},
        "pictures": [picture, copy.deepcopy(picture)],
    }
    return {"machine": "m", "python": "3", "packages": {"numpy": "2"}, "files": {"onnx": file | changes}}


class TestCompare:
    # The window is 240 x 320 pixels: a crop of 192 x 256 has 191 / 240 and 255 / 320 pixels for each.
    BOXES = (np.array([[10.0, 10.0, 202.0, 266.0]]),) * 2

    def compare(self, compared: ModuleType, found: dict[str, Any]) -> Any:
        (row,) = compared.differences(answers(), found, list(self.BOXES), 0.25)
        return row

    def test_the_same_is_the_same(self, compared: ModuleType) -> None:
        row = self.compare(compared, answers())
        assert row.same
        assert (row.moved_px, row.moved_all_px, row.compared, row.keypoints, row.flipped) == (0, 0, 2, 4, 0)

    @pytest.mark.parametrize(
        ("keypoint", "by", "moved", "moved_all", "same"),
        [(0, 0.6, 0.478, 0.478, True), (0, 0.7, 0.557, 0.557, False), (1, 50.0, 0.0, 39.79, True)],
    )
    def test_sure_keypoints_count_in_pixels_of_the_crop(
        self, compared: ModuleType, keypoint: int, by: float, moved: float, moved_all: float, same: bool
    ) -> None:
        found = answers()
        found["files"]["onnx"]["pictures"][1]["keypoints"][0][keypoint][0] += by
        row = self.compare(compared, found)
        assert (row.moved_px, row.moved_all_px) == pytest.approx((moved, moved_all), abs=2e-3)
        assert row.same is same

    def test_presence_and_self_test_count(self, compared: ModuleType) -> None:
        found = answers()
        found["files"]["onnx"]["pictures"][0]["present"] = [[0.0, 0.1]]
        found["files"]["onnx"]["pictures"][0]["presence"] = [[0.84, 0.1]]
        row = self.compare(compared, found)
        assert (row.flipped, row.same) == (1, False)
        assert row.shifted["presence"] == pytest.approx(0.06)
        failed = self.compare(compared, answers(self_test={"passed": False}))
        assert not failed.same
        text = compared.table([row, failed], answers(), answers())
        assert "1 differ" in text
        assert "**failed**" in text
        # One cell for each heading.
        assert len({line.count("|") for line in text.splitlines() if line.startswith("|")}) == 1

    def test_other_pictures_are_refused(self, compared: ModuleType) -> None:
        with pytest.raises(ValueError, match="pictures for 2 boxes"):
            compared.differences(answers(), answers(pictures=[]), list(self.BOXES), 0.25)
