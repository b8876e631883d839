"""The report of a path in the limit of vanishing initialisation: one HTML file without scripts."""

import io
from collections.abc import Iterable, Mapping
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

from ._numbers import exponential, number
from ._page import comparison, notes, resolved
from ._words import plural

_PAGE = Template("""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none';
 style-src 'unsafe-inline'; img-src data:">
<title>$title – polarflow</title>
<style>
$css
.path svg { width: 100%; height: auto; }
</style>
</head>
<body>
<main>
<header>
<p class="eyebrow">polarflow · report of a path from saddle to saddle</p>
<h1>$title</h1>
<p class="lead">$account</p>
</header>
$notice
<div class="cards">$cards</div>
<section>
<h2>The loss along the path</h2>
<p class="note">$clock A full dot is where a rest point is left, an open one where the next is
reached: the flow between takes no time on this scale. Numbers are those of the table.</p>
<div class="path" role="img" aria-label="Loss at the rest points over scaled time">$figure</div>
</section>
<section>
<h2>The rest points</h2>
<div class="scroll"><table><thead><tr>$head</tr></thead><tbody>$rows</tbody></table></div>
$ties
<dl class="columns">$meaning</dl>
</section>
$comparison
<section>
<h2>What was asked</h2>
$notes
$spec
</section>
<section>
<h2>Sources</h2>
<ul class="note">$sources</ul>
</section>
<footer>Made by polarflow$version. This file needs no network.</footer>
</main>
</body>
</html>
""")

_COLUMNS = (
    ("#", "number of the rest point; 0 is the origin"),
    (
        "escape rate",
        "coefficient of −ln δ, or of δ<sup>−(<i>L</i>−2)</sup>, in the time at which it is left; a "
        "dash where the path ends",
    ),
    ("loss", "at the rest point, refined to rounding"),
    ("gradient norm", "norm of the gradient of the loss there, in the active weights"),
    ("residual norm", "norm of <i>r</i> = −∂ℓ/∂<i>h</i> there"),
    ("active", "number of blocks (neurons) that are not zero there"),
    ("leave", "number of blocks that leave it"),
    ("growth", "largest rate at which they grow"),
    (
        "KKT residual",
        "how far the directions of microscopic blocks are from KKT points of their correlation "
        "with the residual; a dash where <i>r</i> ≈ 0 or none grows or decays",
    ),
    (
        "next exponent",
        "largest <i>E</i> < 0 (size δ<sup>−<i>E</i></sup>) on leaving, of blocks that stay small: "
        "near 0, the limit is seen from very small starts only",
    ),
    ("index", "number of falling directions of the active weights"),
    ("kernel", "dimension of the kernel of their Hessian"),
    (
        "ball",
        "largest radius, in units of |<i>w<sub>n</sub></i>|, up to which "
        "⟨<i>w</i> − <i>w<sub>n</sub></i>, ∇ℓ⟩ ≥ 0 was found",
    ),
)

_SOURCES = (
    (
        "A. Kumar, J. Haupt (2024). Directional convergence near small initializations and "
        "saddles in two-homogeneous neural networks.",
        "arXiv:2402.09226",
        "https://arxiv.org/abs/2402.09226",
    ),
    (
        "S. Pesme, N. Flammarion (2023). Saddle-to-saddle dynamics in diagonal linear networks.",
        "arXiv:2304.00488",
        "https://arxiv.org/abs/2304.00488",
    ),
)


def write_path_report(summary: Mapping[str, Any], title: str, path: str | Path) -> None:
    """Write the report of a path from saddle to saddle as one HTML file that needs no network.

    **Arguments:**

    - `summary`: what `summary.json` of `polarflow saddles` holds.
    - `title`: of the page.
    - `path`: the file to write.
    """
    saddles = summary["saddles"]
    css = files(__package__).joinpath("report.css").read_text(encoding="utf-8")
    page = _PAGE.substitute(
        title=escape(title),
        css=css,
        account=_account(saddles),
        notice=_notice(summary),
        cards="".join(
            f'<div class="card"><b>{value}</b><span>{name}</span></div>'
            for value, name in _cards(summary)
        ),
        clock=_clock(saddles),
        figure=_figure(saddles),
        head="".join(f'<th scope="col">{name}</th>' for name, _ in _COLUMNS),
        rows="".join(
            f"<tr>{''.join(f'<td>{cell}</td>' for cell in _cells(saddle))}</tr>"
            for saddle in saddles
        ),
        ties=_ties(summary.get("ties") or []),
        meaning="".join(f"<div><dt>{name}</dt><dd>{text}</dd></div>" for name, text in _COLUMNS),
        comparison=comparison(summary.get("comparison") or []),
        notes=notes(summary.get("notes") or ()),
        spec=resolved(summary.get("spec")),
        sources="".join(
            f'<li>{text} <a href="{link}" rel="noreferrer">{name}</a></li>'
            for text, name, link in _SOURCES
        ),
        version=_version(summary),
    )
    Path(path).write_text(page, encoding="utf-8")


def _version(summary: Mapping[str, Any]) -> str:
    version = (summary.get("versions") or {}).get("polarflow")
    return f" {escape(str(version))}" if version else ""


def _figure(saddles: list[Mapping[str, Any]]) -> str:
    """The staircase as an SVG element."""
    from ..plotting.path import path_figure
    from ..plotting.style import style

    figure, text = path_figure(saddles), io.StringIO()
    with style():
        figure.savefig(text, format="svg", metadata={"Date": None})
    return text.getvalue()[text.getvalue().index("<svg") :]


def _account(saddles: list[Mapping[str, Any]]) -> str:
    left = sum(s["escape_rate"] is not None or s["log_escape_rate"] is not None for s in saddles)
    end = saddles[-1]
    return (
        "As all initial weights are multiplied by δ → 0, the gradient flow jumps from rest point "
        f"to rest point: {plural(left, 'saddle')} left, loss {number(end['loss'])} in the end with "
        f"{plural(end['active_blocks'], 'active block')}. No plateau was integrated."
    )


def _notice(summary: Mapping[str, Any]) -> str:
    if summary.get("status", "ok") == "ok":
        return ""
    return (
        '<section class="notice" role="alert"><p>The path could not be followed to its end; the '
        "notes below say why.</p></section>"
    )


def _cards(summary: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    final, work = summary.get("final") or {}, summary.get("work") or {}
    yield number(len(summary["saddles"])), "rest points"
    yield number(final.get("loss")), "loss in the end"
    yield number(final.get("param_norm")), "norm of the weights in the end"
    yield number(len(summary.get("ties") or ())), "ties"
    yield f"{number(work.get('seconds'), 3)} s", "of computing"


def _clock(saddles: list[Mapping[str, Any]]) -> str:
    orders = sorted({s["escape_order"] for s in saddles if s["log_escape_rate"] is not None})
    said = [
        "Saddle <i>k</i> is left at <i>c<sub>k</sub></i> · (−ln δ) + O(1)."
        if order == 2
        else f"Saddle <i>k</i> is left at <i>c<sub>k</sub></i> · δ<sup>−{order - 2:g}</sup> "
        "to leading order."
        for order in orders
    ]
    if len(orders) > 1:
        said.append("Each scale is infinite beside those before it.")
    return " ".join(said)


def _cells(saddle: Mapping[str, Any]) -> list[str]:
    rate = saddle["escape_rate"]
    leaving = saddle["leaving_blocks"]
    return [
        number(saddle["index"]),
        number(rate, 6) if rate else exponential(saddle["log_escape_rate"], 6),
        number(saddle["loss"], 6),
        number(saddle["grad_norm"], 2),
        number(saddle["residual_norm"]),
        number(saddle["active_blocks"]),
        number(len(leaving)),
        number(saddle["escape_growth"]),
        number(saddle["kkt_residual"], 2),
        number(saddle["next_exponent"]),
        number(saddle["hessian_index"]),
        number(saddle["hessian_kernel"]),
        number((saddle.get("neighbourhood") or {}).get("radius"), 1),
    ]


def _ties(ties: list[Mapping[str, Any]]) -> str:
    if not ties:
        return ""
    texts = "".join(
        f"<li>Saddle {number(tie['saddle'])}: {plural(len(tie['blocks']), 'KKT point')} leave at "
        "one scaled time; their order depends on the sizes of the start, not on δ alone.</li>"
        for tie in ties
    )
    return f'<ul class="note">{texts}</ul>'
