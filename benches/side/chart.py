"""Small charts in one SVG: a grid of panels, each with one line over a logarithmic axis, from nothing upwards."""

import math
from dataclasses import dataclass
from html import escape

# Readable on a light page and on a dark one.
INK, LINE, GRID = "#7a7f87", "#3b82f6", "#7a7f8740"
WIDTH, HEIGHT, LEFT, TOP, RIGHT, BOTTOM = 400, 170, 52, 30, 22, 26


@dataclass
class Panel:
    title: str
    points: list


def draw(rows):
    columns = max(map(len, rows))
    width, height = columns * WIDTH, len(rows) * HEIGHT
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        f'font-family="system-ui, sans-serif" font-size="11" fill="{INK}">'
    ]
    for down, row in enumerate(rows):
        for across, panel in enumerate(row):
            parts.append(f'<g transform="translate({across * WIDTH} {down * HEIGHT})">{of(panel)}</g>')
    return "\n".join([*parts, "</svg>"]) + "\n"


def of(panel):
    wide, high = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM
    first, last = math.log10(panel.points[0][0]), math.log10(panel.points[-1][0])
    step = tick(max(value for _, value in panel.points))
    top = step * math.ceil(max(value for _, value in panel.points) / step * 1.05)

    def place(at, value):
        along = (math.log10(at) - first) / ((last - first) or 1)
        return LEFT + along * wide, TOP + high - value / top * high

    parts = [f'<text x="{LEFT}" y="16" font-weight="600">{escape(panel.title)}</text>']
    value = 0
    while value <= top * 1.001:
        _, y = place(panel.points[0][0], value)
        parts.append(f'<path d="M{LEFT} {y:.1f}H{LEFT + wide}" stroke="{GRID}"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{value:,.3g}</text>')
        value += step
    places = [place(*point) for point in panel.points]
    line = "L".join(f"{x:.1f} {y:.1f}" for x, y in places)
    parts.append(f'<path d="M{line}" fill="none" stroke="{LINE}" stroke-width="2"/>')
    for (x, y), (at, value) in zip(places, panel.points):
        parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{LINE}"><title>{at:,}: {value:,.4g}</title></circle>')
        parts.append(f'<text x="{x:.1f}" y="{TOP + high + 16}" text-anchor="middle">{at:,}</text>')
    return "".join(parts)


def tick(most):
    """A step of 1, 2 or 5 of some power of ten, of which four or so come to the greatest value."""
    power = 10 ** math.floor(math.log10(most / 4))
    return next(step * power for step in (1, 2, 5, 10) if step * power >= most / 4)
