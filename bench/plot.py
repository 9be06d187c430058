"""The command `python -m bench.plot bench.json performance.svg`: draws the ratios to native replication as an SVG.

Left out are parts without a comparison with native replication, or without a count of rows or changes.
"""

import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple
from xml.sax.saxutils import escape

#: The contenders that are drawn, and the classes of their bars.
_ENGINES: Final = {"rosetta pgoutput": "pgoutput", "rosetta debezium": "debezium"}

#: Everything is in pixels. Bars begin at `_LEFT`, and a ratio of 1 is `_UNIT` wide.
_WIDTH, _LEFT, _UNIT, _TOP, _BAR, _GAP = 760, 270, 360, 64, 15, 12

#: Bars of larger ratios are cut at this one; their labels show the figure.
_LONGEST: Final = 1.2

_STYLE: Final = """
text { font: 13px system-ui, sans-serif; fill: #1f2328 } .label { text-anchor: end } .line { stroke: #59636e }
.pgoutput { fill: #2f6fd0 } .debezium { fill: #c2660c }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3 } .line { stroke: #9198a1 } .pgoutput { fill: #6ea8fe } .debezium { fill: #f0a35e }
}
"""


class Group(NamedTuple):
    """The bars of a part: class and ratio of each."""

    part: str
    bars: Sequence[tuple[str, float]]

    @property
    def height(self) -> int:
        return _BAR * len(self.bars) + _GAP


def main() -> int:
    measured, drawn = map(Path, sys.argv[1:])
    groups = read_groups(json.loads(measured.read_text()))
    if not groups:
        sys.stderr.write(f"{measured} compares nothing with native replication, so {drawn} is left as it is.\n")
        return 1
    drawn.write_text(svg(groups))
    return 0


def read_groups(measured: dict[str, Any]) -> list[Group]:
    """Return the bars for a file that the benchmark has written."""
    groups = []
    for part in measured["parts"]:
        counted = {each["contender"] for each in part["medians"] if each["amount"]}
        bars = [(_ENGINES[name], ratio) for name, ratio in part["ratios"].items() if name in counted & _ENGINES.keys()]
        if bars:
            groups.append(Group(part["part"], bars))
    return groups


def svg(groups: Sequence[Group]) -> str:
    """Return the SVG: a group of bars for each part, and a line at native replication."""
    bottom = _TOP + sum(group.height for group in groups)
    native = _LEFT + _UNIT
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {bottom + 8}" role="img">',
            "<title>Speed of both engines, as a ratio to native logical replication: more is better</title>",
            f"<style>{_STYLE}</style>",
            *_legend(),
            *_groups(groups),
            f'<line class="line" x1="{native}" y1="{_TOP - 12}" x2="{native}" y2="{bottom}"/>',
            f'<text x="{native}" y="{_TOP - 18}" text-anchor="middle">native = 1</text>',
            "</svg>\n",
        ]
    )


def _legend() -> Iterator[str]:
    for number, name in enumerate(_ENGINES.values()):
        x = 12 + 120 * number
        yield f'<rect class="{name}" x="{x}" y="12" width="12" height="12"/><text x="{x + 18}" y="22">{name.upper()}</text>'


def _groups(groups: Sequence[Group]) -> Iterator[str]:
    y = _TOP
    for group in groups:
        middle = y + _BAR * len(group.bars) / 2 + 4
        yield f'<text class="label" x="{_LEFT - 10}" y="{middle:.0f}">{escape(group.part)}</text>'
        for number, (name, ratio) in enumerate(group.bars):
            yield from _bar(y + _BAR * number, name, ratio)
        y += group.height


def _bar(y: int, name: str, ratio: float) -> Iterator[str]:
    width = _UNIT * min(ratio, _LONGEST)
    yield f'<rect class="{name}" x="{_LEFT}" y="{y}" width="{width:.0f}" height="{_BAR - 2}"/>'
    yield f'<text x="{_LEFT + width + 6:.0f}" y="{y + 11}">{ratio:.2f}</text>'


if __name__ == "__main__":
    sys.exit(main())
