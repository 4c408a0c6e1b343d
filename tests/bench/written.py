"""What the benchmark of the receivers writes into docs: its tables between two marks, and a bar chart as SVG."""

from collections.abc import Mapping
from html import escape
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"
BEGIN, END = "<!-- receiver: begin, written by make bench -->", "<!-- receiver: end -->"

WIDTH, BAR, GAP, TOP, LEFT, RIGHT = 760, 26, 14, 52, 190, 90
# The colours follow the reader's scheme; both sets have a contrast of more than 4.5 to their ground.
STYLE = """
  text { font: 14px system-ui, sans-serif; fill: #1f2328; }
  .title { font-weight: 600; font-size: 16px; }
  .other { fill: #8c959f; }
  .ours { fill: #0969da; }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3; }
    .other { fill: #6e7681; }
    .ours { fill: #58a6ff; }
  }
"""


def write(text: str, chart: str | None, *, docs: Path = DOCS) -> None:
    """Put the text between the marks of docs/benchmarks.md, and the chart beside it, where there is one."""
    page = docs / "benchmarks.md"
    before, begin, rest = page.read_text("utf-8").partition(BEGIN)
    _, end, after = rest.partition(END)
    assert begin, f"{page} lacks the mark {BEGIN}"
    assert end, f"{page} lacks the mark {END}"
    page.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{after}", "utf-8")
    if chart is not None:
        (docs / "receiver.svg").write_text(chart, "utf-8")


def bars(title: str, values: Mapping[str, float]) -> str:
    """A bar for each value, ours in a colour of their own, each with its name and its figure."""
    longest = max(values.values())
    height = TOP + len(values) * (BAR + GAP)
    said = "; ".join(f"{name}: {value:,.0f}" for name, value in values.items())
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img"'
        f' aria-label="{escape(f"{title}. {said}")}">',
        f"<style>{STYLE}</style>",
        f'<text class="title" x="8" y="28">{escape(title)}</text>',
    ]
    for number, (name, value) in enumerate(values.items()):
        top = TOP + number * (BAR + GAP)
        length = max(2.0, value / longest * (WIDTH - LEFT - RIGHT))
        kind = "ours" if name.startswith("onelane") else "other"
        lines += [
            f'<text x="{LEFT - 10}" y="{top + 18}" text-anchor="end">{escape(name)}</text>',
            f'<rect class="{kind}" x="{LEFT}" y="{top}" width="{length:.0f}" height="{BAR}" rx="3"/>',
            f'<text x="{LEFT + length + 8:.0f}" y="{top + 18}">{value:,.0f}</text>',
        ]
    return "\n".join([*lines, "</svg>", ""])
