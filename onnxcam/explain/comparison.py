"""The result of a comparison of methods: their maps with times, drawn on one sheet, and a manifest."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from PIL import Image

from onnxcam.errors import SettingError
from onnxcam.explain.compared_map import COMMON, ComparedMap
from onnxcam.explain.comparison_sheet import draw_sheet
from onnxcam.explain.explanation import Explanation
from onnxcam.explain.result_files import COMPARISON, SCHEMA, require_writable, write_files
from onnxcam.image.png import encode_png


@dataclass(frozen=True)
class Comparison:
    """The maps of several methods for one image, in the order of the methods, with the failures among them."""

    maps: tuple[ComparedMap, ...]

    def __iter__(self) -> Iterator[Explanation]:
        return iter(self.explanations)

    def __len__(self) -> int:
        return len(self.explanations)

    @cached_property
    def drawn(self) -> list[ComparedMap]:
        """The maps of the methods that did not fail."""
        return [compared for compared in self.maps if compared.explanation is not None]

    @property
    def explanations(self) -> list[Explanation]:
        """One per map, in order."""
        return [compared.explanation for compared in self.maps if compared.explanation is not None]

    @property
    def seconds(self) -> list[float]:
        """What each explanation would take alone."""
        return [compared.seconds for compared in self.drawn]

    @property
    def spent_seconds(self) -> float:
        """What all of them took together."""
        return sum(compared.seconds - compared.shared_seconds for compared in self.drawn)

    @property
    def errors(self) -> dict[str, str]:
        """Why methods have no map, by the name of the method; the first reason, if there are several."""
        reasons: dict[str, str] = {}
        for compared in self.maps:
            if compared.reason is not None:
                reasons.setdefault(compared.method, compared.reason)
        return reasons

    def sheet(self) -> Image.Image:
        """All maps on one sheet. SettingError if there are none."""
        self._require_maps()
        return draw_sheet(self.maps)

    def _repr_png_(self) -> bytes | None:
        """What a notebook shows."""
        return encode_png(self.sheet()) if self.drawn else None

    def _require_maps(self) -> None:
        if not self.drawn:
            raise SettingError(
                "no method has a map to draw: "
                + "; ".join(f"{name}: {reason}" for name, reason in self.errors.items())
            )

    def manifest(self) -> dict[str, Any]:
        """What each map shows, its time, and what is needed to compute it again, as JSON values."""
        self._require_maps()
        manifest = self.explanations[0].manifest()
        common = {name: manifest[name] for name in COMMON}
        results = [compared.to_json() for compared in self.maps]
        return {"schema": SCHEMA, **common, COMPARISON: results}

    def save(self, path: str | Path = "onnxcam-compare.png", *, overwrite: bool = False) -> Path:
        """Write the sheet, and its manifest next to it, with the suffix .json; both or neither.

        OutputError if that fails, or if a file with one of these names was not written by onnxcam, unless
        `overwrite` is True; SettingError if no method has a map.
        """
        files = comparison_files(Path(path))
        require_writable(files, overwrite=overwrite)
        write_files(
            {files["overlay"]: encode_png(self.sheet())}, files["manifest"], self.manifest()
        )
        return files["overlay"]


def comparison_files(path: Path) -> dict[str, Path]:
    """The paths of a sheet and its manifest. SettingError unless the sheet is a .png."""
    if path.suffix.lower() != ".png":
        raise SettingError(f"{path}: expected the name of a .png file, like grid.png")
    return {"overlay": path, "manifest": path.with_suffix(".json")}
