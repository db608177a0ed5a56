"""Attention maps as one SVG picture, written by hand: a square a pair of fields, darker = more weight."""

from __future__ import annotations

from html import escape

_CELL, _GAP = 22, 44


def heatmaps(maps: list[list[list[float]]], names: list[str], title: str) -> str:
    """SVG text of one square map a layer: maps [layers][F][F], rows attend to columns, rows sum to 1."""
    count = len(names)
    label = 8 + 7 * max(len(n) for n in names)
    side = count * _CELL
    width = label + len(maps) * (side + _GAP)
    height = 64 + label + side
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" '
        f'height="{height}" font-family="system-ui, sans-serif" font-size="12">',
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
        f'<text x="8" y="20" font-size="14" font-weight="600">{escape(title)}</text>',
    ]
    for layer, rows in enumerate(maps):
        left, top = label + layer * (side + _GAP), 52
        strongest = max(max(row) for row in rows) or 1.0
        parts.append(f'<text x="{left}" y="{top - 8}">layer {layer + 1} (darkest {strongest:.2f})</text>')
        for i, row in enumerate(rows):
            y = top + i * _CELL
            if layer == 0:
                parts.append(
                    f'<text x="{label - 6}" y="{y + 15}" text-anchor="end">{escape(names[i])}</text>'
                )
            for j, weight in enumerate(row):
                x = left + j * _CELL
                parts.append(
                    f'<rect x="{x}" y="{y}" width="{_CELL - 1}" height="{_CELL - 1}" fill="#1f4e9c" '
                    f'fill-opacity="{weight / strongest:.3f}" stroke="#d0d7e2" stroke-width="0.5">'
                    f"<title>{escape(names[i])} attends to {escape(names[j])}: {weight:.4f}</title></rect>"
                )
        for j, name in enumerate(names):
            x, y = left + j * _CELL + 15, top + side + 8
            parts.append(
                f'<text transform="translate({x},{y}) rotate(-90)" text-anchor="end">{escape(name)}</text>'
            )
    return "\n".join([*parts, "</svg>"]) + "\n"
