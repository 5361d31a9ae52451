"""Results are complete wherever a run is stopped, manifests match their files, and users' files stay."""

from __future__ import annotations

import hashlib
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

import onnxcam
from onnxcam import atomic_write
from onnxcam.atomic_write import UNFINISHED_NAME
from onnxcam.errors import OutputError
from onnxcam.explain.result_files import (
    SCHEMA,
    remove_result,
    require_writable,
    result_files,
    verified_manifest,
    write_files,
)
from tests.support.folders import contents
from tests.support.interrupt import CAUSES, interrupt_step

ROOT = Path(onnxcam.__file__).resolve().parents[1]
KINDS = ("overlay", "map", "manifest")
posix = pytest.mark.skipif(os.name == "nt", reason="no such files, or no such signals, on Windows")


def manifest(number: int) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "image": {"name": "cat", "source": "cat.jpg"},
        "score": number / 3,
        "versions": {"onnxcam": "1"},
    }


def write(files: dict[str, Path], number: int) -> None:
    """Results that tell by their content which they are."""
    content = f"{number}".encode() * 1000
    parts = {files["overlay"]: b"overlay" + content, files["map"]: b"arrays" + content}
    write_files(parts, files["manifest"], manifest(number))


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    (tmp_path / "out").mkdir()
    return result_files(tmp_path / "out", "cat", "cam")


@pytest.fixture
def undisturbed_results(tmp_path: Path) -> Callable[[int], dict[str, bytes]]:
    """What results look like that were written without a disturbance."""

    def fresh(number: int) -> dict[str, bytes]:
        folder = tmp_path / f"fresh{number}"
        folder.mkdir(exist_ok=True)
        write(result_files(folder, "cat", "cam"), number)
        return contents(folder)

    return fresh


def prepare(files: dict[str, Path], before: str) -> None:
    if before == "results":
        write(files, 1)
    if before == "files of the user":
        for path in files.values():
            path.write_bytes(b"precious")


@pytest.mark.parametrize("before", ["nothing", "results", "files of the user"])
@pytest.mark.parametrize("late", [False, True], ids=["before the step", "after or within it"])
@pytest.mark.parametrize("cause", CAUSES)
def test_interrupted_run_leaves_all_new_results_or_none(
    files: dict[str, Path],
    undisturbed_results: Callable[[int], dict[str, bytes]],
    cause: str,
    late: bool,
    before: str,
) -> None:
    folder, new = files["map"].parent, undisturbed_results(2)
    for stop in range(1, 100):
        for path in folder.iterdir():
            path.unlink()
        prepare(files, before)
        old = contents(folder)
        with interrupt_step(stop, cause, late=late) as disk, suppress(OutputError):
            write(files, 2)
        if not disk.stopped:
            assert contents(folder) == new
            assert stop > 12  # four files are made, filled and renamed
            break
        now = contents(folder)
        if cause != "killed":
            assert now in (old, new), stop
        if verified_manifest(files):
            assert now in (old, new), stop
        if now != old:  # what a killed run left is known as onnxcam's, and is made again
            require_writable(files)
        write(files, 2)
        assert contents(folder) == new
        assert verified_manifest(files)
    else:
        pytest.fail("it never ran to its end")


@pytest.mark.parametrize("late", [False, True], ids=["before the step", "after or within it"])
@pytest.mark.parametrize("cause", CAUSES)
def test_file_that_a_result_has_no_more_is_removed_even_after_an_interrupted_run(
    files: dict[str, Path], cause: str, late: bool
) -> None:
    def write_smaller() -> None:
        write_files({files["overlay"]: b"new"}, files["manifest"], manifest(2))

    folder = files["map"].parent
    for stop in range(1, 100):
        write(files, 1)
        old = contents(folder)
        with interrupt_step(stop, cause, late=late) as disk, suppress(OutputError):
            write_smaller()
        smaller = {kind: path for kind, path in files.items() if kind != "map"}
        if verified_manifest(files):
            assert contents(folder) == old
        elif verified_manifest(smaller):
            assert not files["map"].exists()
        write_smaller()
        assert contents(folder).keys() == {path.name for path in smaller.values()}
        if not disk.stopped:
            assert stop > 10
            break
    else:
        pytest.fail("it never ran to its end")


def test_changed_result_is_kept_and_unchanged_one_is_removed(files: dict[str, Path]) -> None:
    write(files, 1)
    files["map"].write_bytes(b"mine")
    old = contents(files["map"].parent)
    assert not remove_result(files["manifest"])
    assert contents(files["map"].parent) == old
    write(files, 1)
    files["map"].unlink()
    assert remove_result(files["manifest"])
    assert not contents(files["map"].parent)
    assert not remove_result(files["manifest"])


@pytest.mark.parametrize("cause", ["Ctrl-C", "full disk"])
def test_failed_run_leaves_no_temporary_files(files: dict[str, Path], cause: str) -> None:
    write(files, 1)
    for stop in range(1, 16):
        with interrupt_step(stop, cause, late=True), suppress(OutputError):
            write(files, 2)
        assert len(list(files["map"].parent.iterdir())) == 3, stop


def test_temporary_files_of_killed_run_are_removed(
    files: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = files["map"].parent
    with interrupt_step(9, "killed", late=True):
        write(files, 1)
    parts = {path for path in folder.iterdir() if UNFINISHED_NAME.fullmatch(path.name)}
    assert parts
    process = min(parts).name.split("-")[2]
    mine = folder / ".onnxcam-notes.txt"
    elsewhere = folder / f".onnxcam-{'0' * 8}-{process}-{'0' * 12}.png"
    ancient = folder / f".onnxcam-{'1' * 8}-{process}-{'0' * 12}.png"
    for path in (mine, elsewhere, ancient):
        path.write_bytes(b"")
    os.utime(ancient, (1000, 1000))
    atomic_write.sweep(folder)  # the process lives: it is this one
    assert parts <= set(folder.iterdir())
    assert not ancient.exists()
    monkeypatch.setattr(atomic_write, "_is_alive", lambda number: number != int(process))
    atomic_write.sweep(folder)
    assert not parts & set(folder.iterdir())
    assert {mine, elsewhere} <= set(folder.iterdir())


ABANDON = """
import sys
from pathlib import Path
from onnxcam.atomic_write import unfinished_path
unfinished_path(Path(sys.argv[1])).touch()
"""


def test_new_process_removes_abandoned_files(files: dict[str, Path]) -> None:
    line = [sys.executable, "-c", ABANDON, str(files["map"])]
    subprocess.run(line, check=True, cwd=ROOT, timeout=60)
    assert len(list(files["map"].parent.iterdir())) == 1
    write(files, 1)
    assert len(list(files["map"].parent.iterdir())) == (4 if os.name == "nt" else 3)


# What a manifest vouches for


def flip(content: bytes) -> bytes:
    return bytes([content[0] ^ 1]) + content[1:]


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda content: b"",
    "cut": lambda content: content[: len(content) // 2],
    "one byte short": lambda content: content[:-3],
    "zeros": lambda content: b"\0" * len(content),
    "zeros at its end": lambda content: content[:40] + b"\0" * (len(content) - 40),
    "longer": lambda content: content + b"0",
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_results_are_detected_and_replaced(
    files: dict[str, Path],
    undisturbed_results: Callable[[int], dict[str, bytes]],
    kind: str,
    damage: str,
) -> None:
    write(files, 1)
    assert verified_manifest(files)
    path = files[kind]
    path.write_bytes(DAMAGE[damage](path.read_bytes()))
    assert verified_manifest(files) is None
    write_again(files)
    assert contents(path.parent) == undisturbed_results(1)


def write_again(files: dict[str, Path]) -> None:
    require_writable(files)
    write(files, 1)


@pytest.mark.parametrize("kind", ["overlay", "map"])
def test_changed_bit_and_exchanged_file_are_detected(
    files: dict[str, Path], tmp_path: Path, kind: str
) -> None:
    write(files, 1)
    good = files[kind].read_bytes()
    files[kind].write_bytes(flip(good))
    assert verified_manifest(files) is None
    other = result_files(tmp_path, "cat", "cam")
    write(other, 2)
    files[kind].write_bytes(other[kind].read_bytes())
    assert verified_manifest(files) is None
    files[kind].write_bytes(good)
    assert verified_manifest(files)
    files[kind].unlink()
    assert verified_manifest(files) is None


@pytest.mark.parametrize(
    "text",
    [
        "[]", "1", "null", '"text"', "{}", "{", "NaN", "\ufeff{}", "[" * 100_000,
        '{"files": 1}', '{"files": {}}', '{"files": {"cat.cam.png": [], "cat.cam.npz": 3}}',
        '{"files": null, "manifest_sha256": null}',
    ],
    ids=lambda text: text[:20],
)  # fmt: skip
def test_invalid_manifest_is_not_verified(files: dict[str, Path], text: str) -> None:
    write(files, 1)
    files["manifest"].write_text(text, encoding="utf-8")
    assert verified_manifest(files) is None


@pytest.mark.parametrize("change", ["score", "versions", "files", "manifest_sha256"])
def test_edited_manifest_is_not_verified(files: dict[str, Path], change: str) -> None:
    write(files, 1)
    edited = json.loads(files["manifest"].read_text())
    edited[change] = {"onnxcam": "2"} if change == "versions" else 0
    files["manifest"].write_text(json.dumps(edited, indent=2))
    assert verified_manifest(files) is None
    write_again(files)
    assert verified_manifest(files)


@posix
@pytest.mark.parametrize("kind", KINDS)
def test_irregular_and_huge_files_are_not_read(files: dict[str, Path], kind: str) -> None:
    write(files, 1)
    path = files[kind]
    path.unlink()
    os.mkfifo(path)
    assert verified_manifest(files) is None
    path.unlink()
    path.symlink_to("/dev/zero")
    assert verified_manifest(files) is None
    path.unlink()
    with path.open("wb") as sparse:
        sparse.truncate(1 << 40)
    began = time.monotonic()
    assert verified_manifest(files) is None
    assert time.monotonic() - began < 5


# Files of the user


@pytest.mark.parametrize("kind", KINDS)
def test_file_without_manifest_is_kept(files: dict[str, Path], kind: str) -> None:
    files[kind].write_bytes(b"precious")
    with pytest.raises(OutputError, match=r"already exists.*--force \(in Python: overwrite=True"):
        require_writable(files)
    require_writable(files, overwrite=True)
    assert files[kind].read_bytes() == b"precious"


# A manifest and the beginning of one as a version without a schema number wrote them
OLD = {
    "picture": {"name": "cat", "source": "cat.jpg", "box": [0.0, 0.0, 8.0, 8.0]},
    "target": {"name": "owl", "index": 2, "spec": "2", "score": 1.5},
    "layers": ["features"],
    "empty": False,
    "asked": {"target": "top1", "drawn": {}, "fingerprint": "0" * 64},
    "versions": {"onnxcam": "0.1.0"},
}


def write_old(files: dict[str, Path], manifest: dict[str, Any]) -> None:
    """Results with digests and a seal that are right, and with this manifest."""
    write(files, 1)
    current = json.loads(files["manifest"].read_text())
    complete = {**manifest, "files": current["files"]}
    content = json.dumps(complete, sort_keys=True).encode()
    complete["manifest_sha256"] = hashlib.sha256(content).hexdigest()
    files["manifest"].write_text(json.dumps(complete, indent=2))


@pytest.mark.parametrize("schema", [{}, {"schema": 1}, {"schema": SCHEMA + 1}, {"schema": "2"}])
def test_results_of_other_schema_are_written_again(
    files: dict[str, Path],
    undisturbed_results: Callable[[int], dict[str, bytes]],
    schema: dict[str, Any],
) -> None:
    write_old(files, {**OLD, "schema": SCHEMA})
    assert verified_manifest(files)  # so only the schema makes the difference below
    write_old(files, {**OLD, **schema})
    assert verified_manifest(files) is None
    write_again(files)
    assert contents(files["manifest"].parent) == undisturbed_results(1)


@pytest.mark.parametrize("length", [0, 1, 20, 31, 60])
@pytest.mark.parametrize("text", [json.dumps(OLD, indent=2), json.dumps(manifest(1), indent=2)])
def test_truncated_manifests_of_all_schemas_are_replaced(
    files: dict[str, Path], text: str, length: int
) -> None:
    write(files, 1)
    files["manifest"].write_text(text[:length])
    assert verified_manifest(files) is None
    write_again(files)
    assert verified_manifest(files)


def test_results_without_digests_are_replaced(files: dict[str, Path]) -> None:
    write(files, 1)
    files["manifest"].write_text(json.dumps(manifest(1), indent=2))
    assert verified_manifest(files) is None
    require_writable(files)


@pytest.mark.parametrize("kind", ["overlay", "map"])
def test_file_beside_manifest_is_replaced(files: dict[str, Path], kind: str) -> None:
    write(files, 1)
    files[kind].write_bytes(b"edited")
    require_writable(files)
    files["manifest"].unlink()
    with pytest.raises(OutputError, match="already exists"):
        require_writable(files)


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        "{}",
        '{"picture": "mine"}',
        '{"image": "mine"}',
        '{"schema": 2}',
        "mine",
        " ",
        '{\n  "picture": {\n    "name": "x"\n  }\n}',
        '{\n  "image": {\n    "name": "x"\n  }\n}',
    ],
)
def test_json_file_of_user_is_kept(files: dict[str, Path], text: str) -> None:
    files["manifest"].write_text(text)
    with pytest.raises(OutputError, match="already exists"):
        require_writable(files)


@posix
def test_dangling_link_is_kept(files: dict[str, Path]) -> None:
    files["overlay"].symlink_to("nowhere.png")
    with pytest.raises(OutputError, match="already exists"):
        require_writable(files)


@pytest.mark.parametrize("kind", KINDS)
def test_folder_is_never_replaced(files: dict[str, Path], kind: str) -> None:
    write(files, 1)
    files[kind].unlink()
    files[kind].mkdir()
    old = {path: path.read_bytes() for path in files.values() if path.is_file()}
    for overwrite in (False, True):
        with pytest.raises(OutputError, match="Is a directory"):
            require_writable(files, overwrite=overwrite)
    with pytest.raises(OutputError, match="cannot be written"):
        write(files, 2)  # also where it came between the look and the work
    assert files[kind].is_dir()
    assert {path: path.read_bytes() for path in old} == old
    assert len(list(files[kind].parent.iterdir())) == 3


# In earnest


LOOP = """
import sys
from pathlib import Path
from tests.explain.test_result_files import result_files, write
files = result_files(Path(sys.argv[1]), "cat", "cam")
number = 0
while True:
    write(files, number % 7)
    number += 1
    print(number, flush=True)
"""


@posix
def test_killed_process_leaves_valid_results_or_none(
    files: dict[str, Path], undisturbed_results: Callable[[int], dict[str, bytes]]
) -> None:
    draw, folder = random.Random(5), files["map"].parent
    complete = [undisturbed_results(number) for number in range(7)]
    for _ in range(4):
        process = subprocess.Popen(
            [sys.executable, "-c", LOOP, str(folder)], cwd=ROOT, stdout=subprocess.PIPE
        )
        assert process.stdout
        process.stdout.readline()
        time.sleep(draw.uniform(0.001, 0.1))
        process.kill()
        process.wait(30)
        process.stdout.close()
        if verified_manifest(files):
            assert contents(folder) in complete
        require_writable(files)
    atomic_write.sweep(folder)
    write(files, 3)
    assert contents(folder) == complete[3]
    assert len(list(folder.iterdir())) == 3


AT_ONCE = """
import sys
from pathlib import Path
from tests.explain.test_result_files import result_files, write
for _ in range(30):
    write(result_files(Path(sys.argv[1]), "cat", "cam"), 1)
"""


def test_concurrent_processes_write_complete_results(
    files: dict[str, Path], undisturbed_results: Callable[[int], dict[str, bytes]]
) -> None:
    folder = files["map"].parent
    line = [sys.executable, "-c", AT_ONCE, str(folder)]
    processes = [subprocess.Popen(line, cwd=ROOT, stderr=subprocess.PIPE) for _ in range(3)]
    for process in processes:
        _, said = process.communicate(timeout=60)
        assert process.returncode == 0, said
    assert verified_manifest(files)
    assert contents(folder) == undisturbed_results(1)
    assert len(list(folder.iterdir())) == 3
