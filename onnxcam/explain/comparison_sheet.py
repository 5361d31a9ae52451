"""Draw maps of several methods on one sheet.

With one layer and one target, the maps stand side by side, in rows by family, next to the image. With several,
every method has a row, and every layer and target a column.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from PIL import Image

from onnxcam.explain.compared_map import ComparedMap
from onnxcam.explain.comparison_notes import (
    Usual,
    cost_text,
    explanation_of,
    failure_lines,
    layer_text,
    notes_of,
    target_text,
    usual_of,
)
from onnxcam.explain.explanation import Explanation
from onnxcam.image import overlay
from onnxcam.image.colormap import legend
from onnxcam.image.text import INK, PAPER, render_text
from onnxcam.methods import METHODS
from onnxcam.methods.families import FAMILIES

CELL, SIDE, GAP, MARGIN = (
    208,
    168,
    12,
    20,
)  # pixels of a map, of a title at its left, and between and around
TITLE, HEADING, NAME, PROSE = 22, 17, 15, 12  # pixels of font size
GRAY, RED = (96, 96, 96), (168, 32, 24)
MAX_COLUMNS = 6
FEW = 8  # maps that need no headings of families


def draw_sheet(maps: Sequence[ComparedMap]) -> Image.Image:
    """The maps that there are, of one image, and below them why the others are missing."""
    drawn = [compared for compared in maps if compared.explanation is not None]
    columns = [*dict.fromkeys((compared.layer, compared.target) for compared in drawn)]
    layers = {layer for layer, _ in columns if layer is not None}
    is_table = len(layers) > 1 or len({target for _, target in columns}) > 1
    usual = usual_of(drawn)
    body = _draw_table(drawn, usual) if is_table else _draw_families(drawn, usual)
    width = body.width
    bands = [*_draw_heading(drawn, usual, width), body, *_draw_footer(maps, drawn, width)]
    return _pad(_stack(bands))


def _draw_heading(drawn: Sequence[ComparedMap], usual: Usual, width: int) -> Iterator[Image.Image]:
    """The image and the model; the target and the layer, if there is one of them."""
    explanation = explanation_of(drawn[0])
    model = explanation.provenance["model"]["name"]
    yield _text(f"{explanation.images[0].name} · {model}", width, TITLE)
    if len({compared.target for compared in drawn}) == 1:
        explained = next((c for c in drawn if METHODS[c.method].needs_target), drawn[0])
        yield _text(target_text(explained), width, NAME)
    if len({layer for _, layer in usual.layers}) == 1:
        yield _text(f"layer {layer_text(next(iter(usual.layers.values())))}", width, PROSE, GRAY)


def _draw_families(drawn: Sequence[ComparedMap], usual: Usual) -> Image.Image:
    """The maps in rows, with a heading over each family if there are many."""
    columns = _columns(len(drawn) + 1)
    first = _stack([_draw_image(explanation_of(drawn[0])), *_texts(["the image"])], 0)
    panels = [(compared, _panel(compared, usual)) for compared in drawn]
    if len(drawn) < FEW:
        return _stack(_rows([first, *(panel for _, panel in panels)], columns))
    bands: list[Image.Image] = []
    for family, heading in FAMILIES.items():
        members = [panel for c, panel in panels if METHODS[c.method].family == family]
        if members:
            width = columns * (CELL + GAP) - GAP
            bands.append(_text(heading, width, HEADING))
            bands += _rows(members if bands[1:] else [first, *members], columns)
    return _stack(bands)


def _columns(count: int) -> int:
    """How many maps stand side by side: at most MAX_COLUMNS, in rows of nearly the same length."""
    rows = -(-count // MAX_COLUMNS)
    return min(MAX_COLUMNS, -(-count // rows)) if count > 4 else count


def _rows(panels: Sequence[Image.Image], columns: int) -> list[Image.Image]:
    return [_side_by_side(panels[i : i + columns], columns) for i in range(0, len(panels), columns)]


def _side_by_side(panels: Sequence[Image.Image], columns: int) -> Image.Image:
    placed = [(panel, (n * (CELL + GAP), 0)) for n, panel in enumerate(panels)]
    height = max(panel.height for panel in panels)
    return overlay.compose(placed, (columns * (CELL + GAP) - GAP, height))


def _panel(compared: ComparedMap, usual: Usual) -> Image.Image:
    """A map with the name of its method above, and its cost and notes below."""
    explanation = explanation_of(compared)
    name = render_text(compared.method, CELL, NAME, centered=True)
    lines = [cost_text(compared), *notes_of(compared, usual)]
    return _stack([name, _draw_map(explanation), *_texts(lines)], 0)


def _texts(lines: Sequence[str], width: int = CELL) -> list[Image.Image]:
    if width != CELL:
        return [_text(line, width, PROSE, GRAY) for line in lines]
    return [render_text(line, width, PROSE, centered=True, ink=GRAY) for line in lines]


def _draw_image(explanation: Explanation) -> Image.Image:
    image = overlay.enlarge(explanation.images[0].image, CELL)
    blank = render_text("", CELL, NAME)
    return _stack([blank, _center(image)], 0)


def _draw_map(explanation: Explanation) -> Image.Image:
    """The map over the image, which is enlarged first if it is small: the map should be smooth."""
    original = explanation.images[0]
    image = overlay.enlarge(original.image, CELL)
    factor = image.width / original.image.width
    left, top, right, bottom = (edge * factor for edge in original.box)
    large = replace(original, original=lambda: image, box=(left, top, right, bottom))
    marks = tuple(mark.scaled(factor) for mark in explanation.marks)
    drawn = replace(explanation, images=(large,), marks=marks)
    return _center(drawn.overlay(longest_side=2 * CELL))


def _center(image: Image.Image) -> Image.Image:
    """The image, scaled to fit a cell, in the middle of its width."""
    small = overlay.thumbnail(image, CELL)
    return overlay.compose([(small, ((CELL - small.width) // 2, 0))], (CELL, small.height))


def _draw_table(drawn: Sequence[ComparedMap], usual: Usual) -> Image.Image:
    """A row per method, and a column per target and layer; methods without a layer are in the first one of each
    target.
    """
    methods = [*dict.fromkeys(compared.method for compared in drawn)]
    targets = [*dict.fromkeys(compared.target for compared in drawn)]
    names = [*dict.fromkeys(c.layer for c in drawn if c.layer is not None)]
    layers: list[str | None] = [*names] or [None]
    columns = [(target, layer) for target in targets for layer in layers]
    table = {(c.method, c.target, c.layer or layers[0]): c for c in drawn}
    bands = [_column_titles(drawn, columns, usual)]
    for method in methods:
        row = [table.get((method, target, layer)) for target, layer in columns]
        bands.append(_table_row(method, row, usual))
    return _stack(bands)


def _column_titles(
    drawn: Sequence[ComparedMap], columns: Sequence[tuple[str, str | None]], usual: Usual
) -> Image.Image:
    """What each column shows: the target with its score, and the layer, if there are several."""
    has_layers = len({layer for _, layer in columns}) > 1
    has_targets = len({target for target, _ in columns}) > 1
    image = _draw_thumbnail(explanation_of(drawn[0]))
    placed, heights = [(image, (0, 0))], [image.height]
    for number, (target, layer) in enumerate(columns):
        explained = [c for c in drawn if c.target == target and METHODS[c.method].needs_target]
        target_line = target_text(explained[0]) if explained else target
        lines = [render_text(target_line, CELL, NAME, centered=True)] if has_targets else []
        if has_layers:
            lines.append(render_text(f"layer {layer}", CELL, NAME, centered=True))
            compared = usual.layers.get((target, layer))
            lines += _texts([layer_text(compared)] if compared else [])
        title = _stack(lines, 0)
        left = SIDE + GAP + number * (CELL + GAP)
        placed.append((title, (left, max(0, image.height - title.height))))
        heights.append(title.height)
    return overlay.compose(placed, (SIDE + len(columns) * (CELL + GAP), max(heights)))


def _draw_thumbnail(explanation: Explanation) -> Image.Image:
    return overlay.thumbnail(overlay.enlarge(explanation.images[0].image, SIDE), SIDE)


def _table_row(method: str, row: Sequence[ComparedMap | None], usual: Usual) -> Image.Image:
    shown = [compared for compared in row if compared is not None]
    notes = [set(notes_of(compared, usual)) for compared in shown]
    shared = [note for note in notes_of(shown[0], usual) if all(note in own for own in notes)]
    if usual.layers and not METHODS[method].has_layer:
        shared.insert(0, "has no layer to choose")
    title = _stack([_text(method, SIDE, NAME), *_texts(shared, SIDE)], 0)
    placed = [(title, (0, 0))]
    heights = [title.height]
    for n, compared in enumerate(row):
        if compared is None:
            continue
        own = [note for note in notes_of(compared, usual) if note not in shared]
        panel = _stack(
            [_draw_map(explanation_of(compared)), *_texts([cost_text(compared), *own])], 0
        )
        placed.append((panel, (SIDE + GAP + n * (CELL + GAP), 0)))
        heights.append(panel.height)
    width = SIDE + len(row) * (CELL + GAP)
    return overlay.compose(placed, (width, max(heights)))


def _draw_footer(
    maps: Sequence[ComparedMap], drawn: Sequence[ComparedMap], width: int
) -> Iterator[Image.Image]:
    """The keys of the colors, and why methods are missing."""
    yield _color_keys([explanation_of(compared) for compared in drawn])
    for line in failure_lines(maps):
        yield _text(line, width, PROSE, RED)


def _color_keys(explanations: Sequence[Explanation]) -> Image.Image:
    """What the colors say of unsigned and signed maps, as far as there are any."""
    kinds = {
        False: ("no evidence", "the most", "ember"),
        True: ("against", "for the target", "polar"),
    }
    placed: list[tuple[Image.Image, tuple[int, int]]] = []
    left = 0
    for signed in sorted({explanation.signed for explanation in explanations}):
        low, high, colors = kinds[signed]
        placed += [
            (_text(low, 80, PROSE), (left, 0)),
            (legend(colors, width=160, height=12), (left + 84, 2)),
            (_text(high, 100, PROSE), (left + 252, 0)),
        ]
        left += 380
    return overlay.compose(placed)


def _stack(bands: Sequence[Image.Image], gap: int = GAP) -> Image.Image:
    """Images below each other."""
    tops = [sum(band.height + gap for band in bands[:n]) for n in range(len(bands))]
    return overlay.compose([(band, (0, top)) for band, top in zip(bands, tops, strict=True)])


def _text(text: str, width: int, size: int, ink: tuple[int, int, int] = INK) -> Image.Image:
    """A line that begins at the left edge."""
    pad = size // 2
    line = render_text(text, width + 2 * pad, size, ink=ink)
    return line.crop((pad, 0, width + pad, line.height))


def _pad(image: Image.Image) -> Image.Image:
    sheet = Image.new("RGB", (image.width + 2 * MARGIN, image.height + 2 * MARGIN), PAPER)
    sheet.paste(image, (MARGIN, MARGIN))
    return sheet
