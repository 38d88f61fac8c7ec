"""Draws curves beside each other as SVG, by hand: no package is needed, and diffs are small."""

import html
import math
from dataclasses import dataclass

WIDTH, HEIGHT = 460, 300
# Room around the curves: for numbers and words.
LEFT, RIGHT, TOP, BOTTOM = 56, 110, 48, 46
COLOURS = ("#1b6ca8", "#c2410c", "#15803d")
GREY = "#6b7280"


@dataclass
class Panel:
    """One picture: its words, and points by name."""

    title: str
    across: str
    up: str
    series: dict
    is_logarithmic: bool = False


def draw(panels):
    """The SVG of all panels, two in a row."""
    columns = min(2, len(panels))
    rows = math.ceil(len(panels) / columns)
    width, height = columns * WIDTH, rows * HEIGHT
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        f'width="{width}" height="{height}" font-family="sans-serif" font-size="11">',
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
    ]
    for place, panel in enumerate(panels):
        x, y = place % columns * WIDTH, place // columns * HEIGHT
        parts += [f'<g transform="translate({x} {y})">', *draw_panel(panel), "</g>"]
    return "\n".join([*parts, "</svg>", ""])


def draw_panel(panel):
    points = [point for found in panel.series.values() for point in found]
    numbers = sorted({x for x, _ in points})
    steps = ticks(max(y for _, y in points))
    across, up = scales(numbers, steps[-1], panel.is_logarithmic)
    yield text(LEFT, 18, panel.title, size=13, fill="#111827")
    yield text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 10, panel.across, anchor="middle")
    for step in steps:
        yield line([(LEFT, up(step)), (WIDTH - RIGHT, up(step))], "#e5e7eb", 1)
        yield text(LEFT - 6, up(step) + 4, f"{step:g}", anchor="end")
    yield text(LEFT - 6, TOP - 14, panel.up, anchor="end")
    for number in numbers:
        yield text(across(number), HEIGHT - BOTTOM + 16, f"{number:g}", anchor="middle")
    ends = []
    for colour, (name, found) in zip(COLOURS, panel.series.items(), strict=False):
        found = [(across(x), up(y)) for x, y in sorted(found)]
        yield line(found, colour, 2)
        yield from (f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in found)
        ends.append((found[-1][1], found[-1][0], name, colour))
    yield from names(ends)


def names(ends):
    """The name of each curve at its end, below that of a curve which ends close above it."""
    lowest = 0
    for y, x, name, colour in sorted(ends):
        lowest = max(y, lowest + 14)
        yield text(x + 8, lowest + 4, name, fill=colour)


def scales(numbers, highest, is_logarithmic):
    """From numbers to places in the picture, across and up."""
    bend = math.log if is_logarithmic else float
    low, high = bend(numbers[0]), bend(numbers[-1])
    wide, high_up = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM

    def across(number):
        return LEFT + wide * (bend(number) - low) / ((high - low) or 1)

    def up(number):
        return TOP + high_up * (1 - number / highest)

    return across, up


def ticks(highest):
    """Round numbers from 0 to just above the highest."""
    unit = 10 ** math.floor(math.log10(highest))
    step = next(unit * part for part in (0.2, 0.5, 1, 2) if highest <= 5 * unit * part)
    return [step * place for place in range(math.ceil(highest / step) + 1)]


def line(points, colour, width):
    places = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return f'<polyline points="{places}" fill="none" stroke="{colour}" stroke-width="{width}"/>'


def text(x, y, words, anchor="start", size=11, fill=GREY):
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}" '
        f'fill="{fill}">{html.escape(words)}</text>'
    )
