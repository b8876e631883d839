"""The report's page: sections put together, with style, script and Plotly inside the file."""

import json
from collections.abc import Iterable, Mapping
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Any

from . import _charts as charts
from ._numbers import NOTHING, exponential, number
from ._words import (
    ANSWERS,
    COLUMNS,
    COMPARED,
    ESTIMATE,
    ESTIMATED,
    LATE,
    PARTIAL,
    SOURCES,
    account,
    definitions,
    facts,
    plural,
    time_of,
)

if TYPE_CHECKING:
    from xarray import Dataset

LONGEST_SPEC = 20_000
"""Characters of the spec that the page shows."""

_PAGE = Template("""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none';
 script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:">
<title>$title – polarflow</title>
<style>
$css
</style>
</head>
<body>
<main>
<header>
<p class="eyebrow">polarflow · report of a run</p>
<h1>$title</h1>
<p class="lead">$account</p>
</header>
$notice
<div class="cards">$cards</div>
<noscript><section class="notice"><p>The charts need JavaScript; everything else is readable
without it.</p></section></noscript>
<section>
<h2>The loss</h2>
<p class="note">$loss_note</p>
<div class="bar"><button type="button" data-scale="linear" aria-pressed="true">linear</button>
<button type="button" data-scale="log" aria-pressed="false">logarithmic</button></div>
<div id="loss" class="chart" role="img" aria-label="Loss over flow time"></div>
</section>
$neurons
$saddles
<section>
<h2>The norms of the $blocks</h2>
<p class="note">$norms_note</p>
<div id="norms" class="chart tall" role="img" aria-label="Norms of all $blocks over flow time">
</div>
</section>
$late
$comparison
$estimate
<section>
<h2>What was run</h2>
<div class="scroll"><table class="facts">$facts</table></div>
$notes
$spec
</section>
<section>
<h2>What the words mean</h2>
<dl>$definitions</dl>
<p class="note">Sources</p>
<ul class="note">$sources</ul>
</section>
<footer>Made by polarflow$version. This file needs no network.</footer>
</main>
<script type="application/json" id="run">$payload</script>
<script>$plotly</script>
<script>
$script
</script>
</body>
</html>
""")


_NEURONS = Template("""<section>
<h2>The neurons over time</h2>
<p class="note">$note</p>
<div class="bar"><button type="button" id="play" aria-pressed="false">Play</button>
<input type="range" id="when" min="0" max="$last_frame" value="0" step="1" aria-label="Frame">
<output id="moment" for="when"></output></div>
<div id="neurons" class="chart $shape" role="img" aria-label="Neurons at one time"></div>
</section>""")


def write_report(dataset: "Dataset", summary: Mapping[str, Any], path: str | Path) -> None:
    """Write the report of a run as one HTML file that needs no network.

    **Arguments:**

    - `dataset`: the trajectory.
    - `summary`: what `summary.json` holds; missing keys are shown as dashes.
    - `path`: the file to write.
    """
    from plotly.offline import get_plotlyjs

    here = files(__package__)
    drawn = charts.payload(dataset)
    page = _PAGE.substitute(
        title=escape(str(dataset.attrs.get("title") or "Gradient flow of a two-layer network")),
        css=here.joinpath("report.css").read_text(encoding="utf-8"),
        account=account(dataset, summary),
        notice=_notice(summary),
        cards="".join(_cards(dataset, summary)),
        loss_note=_loss_note(drawn),
        neurons=_neurons(drawn["frames"]),
        blocks=f"{drawn['norms']['name']}s",
        saddles=_saddles(summary.get("saddles") or []),
        norms_note=_norms_note(drawn["norms"]),
        late=_late(summary.get("late") or {}),
        comparison=comparison(summary.get("comparison") or []),
        estimate=_estimate(summary.get("error_estimate") or {}),
        facts="".join(
            f'<tr><th scope="row">{name}</th><td>{text}</td></tr>'
            for name, text in facts(dataset, summary)
        ),
        notes=notes(summary.get("notes") or ()),
        spec=resolved(summary.get("spec")),
        definitions="".join(
            f"<dt>{name}</dt><dd>{text}</dd>" for name, text in definitions(dataset)
        ),
        sources="".join(
            f'<li>{text} <a href="{link}" rel="noreferrer">{name}</a></li>'
            for text, name, link in SOURCES
        ),
        version=_version(dataset),
        payload=charts.script_literal(drawn),
        plotly=get_plotlyjs(),
        script=here.joinpath("report.js").read_text(encoding="utf-8"),
    )
    Path(path).write_text(page, encoding="utf-8")


def _version(dataset: "Dataset") -> str:
    version = dataset.attrs.get("polarflow_version")
    return f" {escape(str(version))}" if version else ""


def _notice(summary: Mapping[str, Any]) -> str:
    status = str(summary.get("status", "ok"))
    if status == "ok":
        return ""
    if status == "interrupted":
        text = "The run was interrupted; this is what had been recorded until then."
    else:
        text = f"The flow could not go on ({escape(status)}); this is what had been recorded."
    if summary.get("message"):
        text += f" {escape(str(summary['message']))}"
    return f'<section class="notice" role="alert"><p>{text}</p></section>'


def _cards(dataset: "Dataset", summary: Mapping[str, Any]) -> Iterable[str]:
    final, work = summary.get("final") or {}, summary.get("work") or {}
    events, conserved = summary.get("events") or {}, summary.get("conserved") or {}
    saddles = summary.get("saddles") or []
    left = sum(s.get("log_time_leave") is not None for s in saddles)
    loss = final.get("loss")
    shown = (
        (number(loss) if loss is not None else exponential(final.get("log_loss")), "final loss"),
        (time_of(final) if final else NOTHING, "final flow time"),
        (number(left), "saddle left" if left == 1 else "saddles left"),
        (exponential(final.get("log_param_norm")), "final norm of the weights"),
        (
            " / ".join(number(events.get(k)) for k in ("crossings", "slides", "branchings")),
            "crossings / slides / branchings",
        ),
        (number(work.get("field_evaluations")), "field evaluations"),
        (f"{number(work.get('seconds'), 3)} s", "in the engine"),
        (number(conserved.get("balancedness_drift"), 2), "drift of balancedness"),
    )
    for value, name in shown:
        yield f'<div class="card"><b>{value}</b><span>{name}</span></div>'


def _loss_note(drawn: Mapping[str, Any]) -> str:
    text = "The flow visited no saddle."
    if drawn["visits"]:
        text = "Shaded: visits to saddles, where the loss hardly changes."
    if drawn["frames"] is None:
        return text
    return f"{text} Click the line to see the neurons at that time."


def _neurons(film: Mapping[str, Any] | None) -> str:
    if film is None:
        return ""
    return _NEURONS.substitute(
        note=_neurons_note(film),
        shape="tall" if film["kind"] == "line" else "square",
        last_frame=len(film["position"]) - 1,
    )


def _neurons_note(film: Mapping[str, Any]) -> str:
    if film["kind"] == "line":
        text = (
            "Each star is a neuron at its kink and height, the line is the learned function, dots "
            "are the data. Kinks outside the frame are not seen."
        )
    elif film["inputs"] > 2:
        text = (
            "Hidden weights projected onto the two principal components of their final state "
            f"({film['share']} % of their square norm), in polar layout: neurons of vanishing norm "
            "lie on the inner circle and still show their direction."
        )
    else:
        text = (
            "Hidden weights in polar layout: neurons of vanishing norm lie on the inner circle and "
            "still show their direction."
        )
    return text + _shown(len(film["block"]), film["total"])


def _norms_note(norms: Mapping[str, Any]) -> str:
    name, text = norms["name"], "Logarithmic axis."
    if name == "neuron":
        text = (
            "Logarithmic axis; blue for positive output weights, orange for negative ones. On a "
            "plateau the lines are straight, and their slopes are the neurons’ growth rates."
        )
    return text + _shown(len(norms["block"]), norms["total"], name)


def _shown(some: int, total: int, name: str = "neuron") -> str:
    return f" {number(some)} of {plural(total, name)} are shown." if some < total else ""


def _saddles(saddles: list[Mapping[str, Any]]) -> str:
    if not saddles:
        return ""
    head = "".join(f'<th scope="col">{name}</th>' for name, _ in COLUMNS)
    rows = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in _cells(s))}</tr>" for s in saddles)
    meaning = "".join(f"<div><dt>{name}</dt><dd>{text}</dd></div>" for name, text in COLUMNS)
    return f"""<section>
<h2>The saddles</h2>
<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>
<dl class="columns">{meaning}</dl>
</section>"""


def _cells(saddle: Mapping[str, Any]) -> list[str]:
    enter, leave = saddle.get("log_time_enter"), saddle.get("log_time_leave")
    return [
        number(saddle.get("index")),
        exponential(enter) if enter is not None else "0",
        exponential(leave),
        number(enter),
        number(leave),
        number(saddle.get("loss")),
        number(saddle.get("grad_norm"), 3),
        number(saddle.get("residual_norm")),
        number(saddle.get("active_blocks")),
        number(saddle.get("kkt_residual"), 3),
    ]


def _late(late: Mapping[str, Any]) -> str:
    if not late:
        return ""
    rows = "".join(
        f'<tr><th scope="row">{name}</th><td>{number(late.get(key))}</td><td>{text}</td></tr>'
        for key, name, text in LATE
    )
    return f"""<section>
<h2>Margins and alignment in the end</h2>
<div class="scroll"><table class="facts">{rows}</table></div>
</section>"""


def comparison(entries: list[Mapping[str, Any]]) -> str:
    if not entries:
        return ""
    columns = [(key, *words) for key, *words in COMPARED if any(key in e for e in entries)]
    head = "".join(f'<th scope="col">{name}</th>' for _, name, _ in columns)
    rows = "".join(
        f'<tr><th scope="row">{ANSWERS.get(str(e["name"]), (escape(str(e["name"])),))[0]}</th>'
        f"{''.join(f'<td>{_compared(key, e)}</td>' for key, _, _ in columns)}</tr>"
        for e in entries
    )
    said = "".join(
        f"<p>{ANSWERS[str(e['name'])][0]}: {escape(str(e['statement']))}</p>"
        for e in entries
        if e.get("statement") and e["name"] in ANSWERS
    )
    meaning = "".join(f"<div><dt>{name}</dt><dd>{text}</dd></div>" for _, name, text in columns)
    answers = "".join(
        f"<div><dt>{ANSWERS[str(e['name'])][0]}</dt><dd>{ANSWERS[str(e['name'])][1]}</dd></div>"
        for e in entries
        if e["name"] in ANSWERS
    )
    return f"""<section>
<h2>What it ended in, next to what it might have been</h2>
{said}
<div class="scroll"><table><thead><tr><th scope="col">answer</th>{head}</tr></thead>
<tbody>{rows}</tbody></table></div>
<dl class="columns">{answers}{meaning}</dl>
</section>"""


def _compared(key: str, entry: Mapping[str, Any]) -> str:
    value = entry.get(key)
    if key == "dual_value" and value is not None:
        sign = "≥" if "loss" in entry else "≤"
        sampled = "" if entry.get("exact") else " *"
        return f"{sign} {number(value, 6)}{sampled}"
    if key in ("loss", "angle", "angle_at_inputs"):
        return number(value, 3)
    return number(value, 6 if key in ("value", "flow") else 4)


def _estimate(estimate: Mapping[str, Any]) -> str:
    if not estimate:
        return ""
    rows = "".join(
        f'<tr><th scope="row">{name}</th><td>{number(estimate.get(key), 2)}</td>'
        f"<td>{text}</td></tr>"
        for key, name, text in ESTIMATE
    )
    ending = "" if estimate.get("complete", True) else f" {PARTIAL}"
    return f"""<section>
<h2>How far it is off</h2>
<p class="note">{ESTIMATED}{ending}</p>
<div class="scroll"><table class="facts">{rows}</table></div>
</section>"""


def notes(notes: Iterable[str]) -> str:
    texts = "".join(f"<li>{escape(str(note))}</li>" for note in notes)
    return f'<p class="note">To be known</p><ul class="note">{texts}</ul>' if texts else ""


def resolved(spec: Any) -> str:
    if not spec:
        return ""
    text = json.dumps(spec, indent=2, ensure_ascii=False)
    cut = "\n… (cut; summary.json holds it whole)" if len(text) > LONGEST_SPEC else ""
    return (
        "<details><summary>The spec, as resolved</summary>"
        f"<pre>{escape(text[:LONGEST_SPEC])}{cut}</pre></details>"
    )
