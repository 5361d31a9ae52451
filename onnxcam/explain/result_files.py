"""The files of an explained image, and of other results. They are written together; the manifest has digests
of the others.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from onnxcam.atomic_write import atomic_write_all
from onnxcam.digests import digest_bytes, digest_json
from onnxcam.errors import OutputError, SettingError, first_line
from onnxcam.regular_files import digest_file, open_regular, read_regular

SUFFIXES = {"overlay": ".png", "map": ".npz", "manifest": ".json"}
CHANNELS = {"channels": ".channels.png"}  # the sheet of the feature maps that weigh most
SEAL = "manifest_sha256"
COMPARISON = "comparison"  # a key of manifests of several methods
# Keys of manifests of other results, and the part of the names of their files that says so
SCAN = "scan"
VISUALIZE = "visualize"
INVERT = "invert"
SCHEMA = 2  # of the manifest's keys; raise it when one is renamed or removed. Manifests before 2 have no number
# How a manifest begins, even one that was cut off: of this schema, and before 2
MANIFEST_BEGINNINGS = (
    f'{{\n  "schema": {SCHEMA},\n  "image": {{\n    "name": '.encode(),
    b'{\n  "picture": {\n    "name": ',
)
MAX_MANIFEST_BYTES = 1 << 24
UNFINISHED = "the run that wrote this was interrupted: explain the image again"


def result_files(
    folder: Path, name: str, method: str, *, channels: bool = False
) -> dict[str, Path]:
    """The paths of an image's overlay, map, and manifest, and of the sheet of its feature `channels`."""
    suffixes = {**SUFFIXES, **(CHANNELS if channels else {})}
    return {kind: folder / f"{name}.{method}{suffix}" for kind, suffix in suffixes.items()}


def require_writable(files: Mapping[str, Path], *, overwrite: bool = False) -> None:
    """OutputError if a path is a folder or, unless `overwrite` is True, a file that onnxcam did not write.
    Files next to a manifest from onnxcam, of any schema, are earlier results, which a new run replaces.
    """
    present = [path for path in files.values() if os.path.lexists(path)]
    for path in present:
        if path.is_dir():
            raise OutputError(f"{path}: cannot be written ({os.strerror(errno.EISDIR)})")
    if present and not overwrite and not _is_manifest(files["manifest"]):
        raise OutputError(
            f"{present[0]}: already exists, and no manifest next to it says that onnxcam wrote it; choose "
            "another folder, or overwrite it with --force (in Python: overwrite=True)"
        )


def write_results(
    files: Mapping[str, Path], overlay: bytes, arrays: bytes, manifest: Mapping[str, Any]
) -> None:
    """Write the three files, all or none, with digests in the manifest. OutputError if that fails."""
    write_files({files["overlay"]: overlay, files["map"]: arrays}, files["manifest"], manifest)


def write_files(contents: Mapping[Path, bytes], path: Path, manifest: Mapping[str, Any]) -> None:
    """Write files and their manifest, all or none, with digests in the manifest. Other files of the result that
    is replaced, such as a sheet that is not drawn now, are removed. OutputError if that fails.
    """
    outdated = _other_files(path, {path.name, *(content.name for content in contents)})
    digests = {path.name: _size_and_digest(content) for path, content in contents.items()}
    complete: dict[str, Any] = {**manifest, "files": digests}
    complete[SEAL] = _seal(complete)
    origin = {name: manifest[name] for name in ("schema", "image", "versions")}
    unfinished: dict[str, Any] = {
        **origin,
        "unfinished": UNFINISHED,
        # so that the next run knows what to remove
        "files": {**{other.name: known for other, known in outdated.items()}, **digests},
    }
    unfinished[SEAL] = _seal(unfinished)
    atomic_write_all(contents, path, _to_bytes(complete), _to_bytes(unfinished), [*outdated])


def remove_result(path: Path) -> bool:
    """Remove the result whose manifest is at `path`, and say whether there was one: files that were changed
    since they were written are kept, with the manifest. OutputError if that fails.
    """
    manifest = _sealed(path)
    if manifest is None:
        return False
    names = [name for name in manifest["files"] if Path(name).name == name]
    files = [path.with_name(name) for name in names]
    if not all(_is_unchanged(file, manifest["files"]) for file in files if file.exists()):
        return False
    for file in (path, *files):  # a file without its manifest is nobody's result
        _remove(file)
    return True


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise OutputError(
            f"{path}: is of an earlier result and cannot be removed ({error.strerror})"
        ) from error


def _sealed(path: Path) -> dict[str, Any] | None:
    """The manifest at `path`, if it is as it was written and lists files."""
    manifest = _parse(read_regular(path)) or {}
    if not isinstance(manifest.get("files"), dict) or manifest.pop(SEAL, None) != _seal(manifest):
        return None
    return manifest


def _other_files(path: Path, names: Collection[str]) -> dict[Path, Any]:
    """The files of the result at `path`, as they were written, that do not have these names; their digests."""
    manifest = _sealed(path)
    files = {} if manifest is None else manifest["files"]
    others = [
        path.with_name(name) for name in files if name not in names and Path(name).name == name
    ]
    return {other: files[other.name] for other in others if _is_unchanged(other, files)}


def verified_manifest(files: Mapping[str, Path]) -> dict[str, Any] | None:
    """The manifest, if it has the current schema, and all files are as they were written; else None."""
    manifest = _parse(read_regular(files["manifest"]))
    if manifest is None or manifest.pop(SEAL, None) != _seal(manifest):
        return None
    if manifest.get("schema") != SCHEMA or "unfinished" in manifest:
        return None
    digests = manifest.get("files")
    described = [path for kind, path in files.items() if kind != "manifest"]
    if not isinstance(digests, dict) or not all(_is_unchanged(path, digests) for path in described):
        return None
    return manifest


def read_manifest(path: Path) -> dict[str, Any]:
    """A manifest of the current schema, as it was written. SettingError for any other file."""
    try:
        with open_regular(path) as file:
            content = file.read(MAX_MANIFEST_BYTES)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or first_line(error)
        raise SettingError(f"{path}: cannot be read ({reason})") from error
    manifest = _parse(content)
    if manifest is None or not isinstance(manifest.get("versions"), dict):
        raise SettingError(
            f"{path}: is not a manifest of onnxcam; expected the .json file of a result"
        )
    if "unfinished" in manifest:
        raise SettingError(f"{path}: {UNFINISHED}")
    if manifest.get("schema") != SCHEMA:
        raise SettingError(
            f"{path}: has schema {manifest.get('schema')}, but this version of onnxcam reads schema {SCHEMA}; "
            "explain the image again"
        )
    if manifest.pop(SEAL, None) != _seal(manifest):
        raise SettingError(
            f"{path}: was changed after it was written, as its digest says; explain the image again"
        )
    return manifest


def is_result(path: Path) -> bool:
    """Whether a manifest beside a file lists it: `NAME.json`, also of `NAME.channels.png`; or it is one."""
    manifests = (path.with_suffix(".json"), path.with_suffix("").with_suffix(".json"))
    is_listed = any(path.name in _listed_files(manifest) for manifest in manifests)
    return is_listed or bool(path.suffix == ".json" and _listed_files(path))


def _listed_files(manifest: Path) -> Mapping[str, Any]:
    """The files that a manifest lists; none for another file."""
    content = _parse(read_regular(manifest, MAX_MANIFEST_BYTES))
    files = content.get("files") if content and "schema" in content else None
    return files if isinstance(files, dict) else {}


def _is_unchanged(path: Path, digests: Mapping[str, Any]) -> bool:
    expected = digests.get(path.name)
    try:
        return (
            isinstance(expected, dict)
            and expected.get("bytes") == path.stat().st_size  # avoids reading a huge file
            and expected.get("sha256") == digest_file(path)
        )
    except OSError:
        return False


def _is_manifest(path: Path) -> bool:
    """Whether the file's content can be from onnxcam, by any version of it. After a power failure it may be cut
    off, empty, or all zeros.
    """
    content = read_regular(path)
    if content is None:
        return False
    if (manifest := _parse(content)) is not None:
        versions = manifest.get("versions")
        return isinstance(versions, dict) and "onnxcam" in versions
    start = content.rstrip(b"\0")
    return content.startswith(b"\0") or any(
        start.startswith(opening) or opening.startswith(start) for opening in MANIFEST_BEGINNINGS
    )


def _parse(content: bytes | None) -> dict[str, Any] | None:
    try:
        manifest = json.loads(content or b"")
    except (ValueError, RecursionError):
        return None
    return manifest if isinstance(manifest, dict) else None


def _size_and_digest(content: bytes) -> dict[str, Any]:
    return {"bytes": len(content), "sha256": digest_bytes(content)}


def _seal(manifest: Mapping[str, Any]) -> str:
    return digest_json(manifest)


def _to_bytes(manifest: Mapping[str, Any]) -> bytes:
    text = json.dumps(manifest, indent=2, ensure_ascii=False) + "\n"
    # a file name that is not valid text contains lone surrogates; they are written as JSON's \udcXX
    return text.encode("utf-8", "backslashreplace")
