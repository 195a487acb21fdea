"""The picture of the README: a server, four workers, one of them late. It is docs/idea.svg.

Run: ``python analysis/idea.py`` (at once; the standard library only). The code of the picture
exists: ``cyclic:n=4,delta=3`` with ``gaussian-exact`` and m = 2 loses nothing when one worker is
late. The picture has a background of its own, so that it reads on white and on dark pages, and
marks the straggler by dashes and words, so that it reads in grey.
"""

from __future__ import annotations

from pathlib import Path

FILE = Path(__file__).resolve().parents[1] / "docs" / "idea.svg"
WIDTH, HEIGHT = 840, 400
N, HELD, STRAGGLER = 4, 3, 2
INK, SOFT, PAPER, TILE, BLUE, RED = "#1a202c", "#5a6472", "#ffffff", "#e2e8f0", "#2b5c9e", "#b7410e"
SERVER_BOTTOM, WORKERS_TOP, WORKER_WIDTH = 132, 258, 176


def text(x: float, y: float, words: str, *, size: int = 15, fill: str = INK, more: str = "") -> str:
    """Return a line of text that is centred at x."""
    return (
        f'<text x="{x:g}" y="{y:g}" font-size="{size}" fill="{fill}" '
        f'text-anchor="middle"{more}>{words}</text>'
    )


def box(x: float, y: float, width: float, height: float, fill: str, *, more: str = "") -> str:
    """Return a rectangle."""
    return f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" fill="{fill}"{more}/>'


def arrow(x: float, top: float, bottom: float, colour: str, *, down: bool, more: str = "") -> str:
    """Return a vertical line with a head at one end."""
    tip, back = (bottom, bottom - 9) if down else (top, top + 9)
    return (
        f'<line x1="{x:g}" y1="{top:g}" x2="{x:g}" y2="{bottom:g}" stroke="{colour}" '
        f'stroke-width="2"{more}/>'
        f'<path d="M{x - 5:g} {back:g}L{x:g} {tip:g}L{x + 5:g} {back:g}" fill="none" '
        f'stroke="{colour}" stroke-width="2"/>'
    )


def server() -> list[str]:
    """Return the server with its parameters and the gradient that it decodes."""
    outline = f' rx="6" stroke="{INK}" stroke-width="2"'
    lines = [
        box(28, 22, 785, SERVER_BOTTOM - 22, PAPER, more=outline),
        text(420, 46, "server", more=' font-weight="bold"'),
        text(210, 76, "parameters θ"),
        text(210, 112, "θ ← θ - step · gradient"),
        text(590, 76, "gradient, decoded from 3 of 4 vectors"),
    ]
    for half in range(2):
        x = 490 + 100 * half
        lines += [
            box(x, 92, 100, 26, BLUE, more=f' stroke="{PAPER}"'),
            text(x + 50, 110, f"part {half + 1}", size=13, fill=PAPER),
        ]
    return lines


def worker(i: int) -> list[str]:
    """Return a worker with its subsets, the parameters that come and the coded vector that goes."""
    late = i == STRAGGLER
    left = 28 + i * (WORKER_WIDTH + 27)
    centre = left + WORKER_WIDTH / 2
    down, up = centre - 52, centre + 32
    edge = f' rx="6" stroke="{RED if late else INK}" stroke-width="2"'
    dashes = ' stroke-dasharray="6 5"'
    lines = [
        box(left, WORKERS_TOP, WORKER_WIDTH, 92, PAPER, more=edge + (dashes if late else "")),
        text(centre, WORKERS_TOP + 24, f"worker {i}", more=' font-weight="bold"'),
        arrow(down, SERVER_BOTTOM + 8, WORKERS_TOP - 8, SOFT, down=True),
        text(down - 12, 192, "θ", fill=SOFT),
    ]
    for place, j in enumerate(sorted((i + step) % N for step in range(HELD))):
        x = centre - 73 + 50 * place
        lines += [
            box(x, WORKERS_TOP + 40, 46, 34, TILE, more=f' stroke="{SOFT}"'),
            text(x + 23, WORKERS_TOP + 62, f"D{j}", size=14),
        ]
    if late:
        lines += [
            arrow(up, 212, WORKERS_TOP - 8, RED, down=False, more=dashes),
            text(up, 180, "late: a straggler,", size=14, fill=RED),
            text(up, 198, "not waited for", size=14, fill=RED),
        ]
    else:
        lines += [
            arrow(up, SERVER_BOTTOM + 8, 176, BLUE, down=False),
            box(up - 50, 178, 100, 26, BLUE, more=' rx="2"'),
            text(up, 196, "d/2 numbers", size=13, fill=PAPER),
            f'<line x1="{up:g}" y1="206" x2="{up:g}" y2="{WORKERS_TOP - 8}" stroke="{BLUE}" '
            'stroke-width="2"/>',
        ]
    return lines


def picture() -> str:
    """Return the picture as SVG."""
    title = "Gradient coding: a server and four workers with three subsets each; one is late"
    caption = "D0 to D3: the data in four subsets, each on three workers"
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" '
        f'height="{HEIGHT}" font-family="Helvetica, Arial, DejaVu Sans, sans-serif" role="img">',
        f"<title>{title}</title>",
        box(1, 1, WIDTH - 2, HEIGHT - 2, PAPER, more=f' rx="10" stroke="{SOFT}"'),
        *server(),
        *(line for i in range(N) for line in worker(i)),
        text(WIDTH / 2, HEIGHT - 20, caption, fill=SOFT),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


if __name__ == "__main__":
    FILE.write_text(picture(), encoding="utf-8")
    print(FILE)
