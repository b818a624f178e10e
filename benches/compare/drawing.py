"""The picture: bars of processor time a request, legible on light and on dark."""

from statistics import median
from xml.sax.saxutils import escape

PANELS = {
    "cached key": "API key, HTTP/1.1",
    "key and token": "API key and ES256 access token",
    "TLS": "API key over TLS, HTTP/1.1",
    "HTTP/2": "API key over TLS, HTTP/2",
}
NAMES = {"gatelet": "gatelet", "nginx": "nginx", "haproxy": "HAProxy", "envoy": "Envoy", "pingora": "Pingora",
         "relay": "bare relay"}
WIDTH, LEFT, RIGHT = 760, 96, 70
BAR, GAP, HEADING, MARGIN = 18, 6, 34, 16

STYLE = """
text { font: 13px system-ui, -apple-system, "Segoe UI", "Helvetica Neue", Arial, sans-serif; fill: #24292f; }
.title { font-size: 15px; font-weight: 600; }
.panel { font-weight: 600; }
.note { fill: #57606a; }
.own { font-weight: 600; }
rect { fill: #afb8c1; }
rect.own { fill: #0969da; }
rect.floor { fill: none; stroke: #8c959f; stroke-dasharray: 3 2; }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3; }
  .note { fill: #9198a1; }
  rect { fill: #59636e; }
  rect.own { fill: #4493f8; }
  rect.floor { stroke: #9198a1; }
}
"""


def drawn(measured):
    """SVG for the panels that were measured, all on one scale."""
    panels = {
        title: {name: median(each["cpu_us"] for each in rounds) for name, rounds in measured[scenario].items()
                if name in NAMES}
        for scenario, title in PANELS.items() if measured.get(scenario)
    }
    most = max(value for bars in panels.values() for value in bars.values())
    scale = (WIDTH - LEFT - RIGHT) / most
    marks, y = [], MARGIN + 16
    marks.append(text(MARGIN, y, "Processor time a request, in microseconds: less is better", "title"))
    for title, bars in panels.items():
        y += HEADING
        marks.append(text(MARGIN, y, title, "panel"))
        y += 10
        for name, value in sorted(bars.items(), key=lambda bar: bar[1]):
            kind = {"gatelet": "own", "relay": "floor"}.get(name, "")
            middle = y + BAR - 5
            marks.append(text(LEFT - 8, middle, NAMES[name], kind if kind == "own" else "note", "end"))
            marks.append(f'<rect class="{kind}" x="{LEFT}" y="{y}" width="{value * scale:.1f}" height="{BAR}" rx="2"/>')
            marks.append(text(LEFT + value * scale + 8, middle, f"{value:.1f}", kind if kind == "own" else "note"))
            y += BAR + GAP
    height = y + MARGIN
    return "\n".join([
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
        'role="img" aria-label="Processor time a request of gatelet and of other proxies">',
        f"<style>{STYLE}</style>",
        *marks,
        "</svg>\n",
    ])


def text(x, y, words, kind, anchor="start"):
    return f'<text class="{kind}" x="{x:.1f}" y="{y}" text-anchor="{anchor}">{escape(words)}</text>'
