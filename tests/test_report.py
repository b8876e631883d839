"""The report: one file, no network, no user text taken as HTML, every number in its place."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import mock_trajectory as mock
import numpy as np
import pytest
import xarray as xr

from polarflow.plotting import path_figure
from polarflow.report import write_path_report, write_report
from polarflow.report._charts import payload, rounded, script_literal
from polarflow.report._numbers import exponential, number


@pytest.fixture(scope="module")
def line() -> xr.Dataset:
    return mock.two_points()


@pytest.fixture(scope="module")
def many() -> xr.Dataset:
    return mock.many_inputs(steps=1500)


def written(dataset: xr.Dataset, folder: Path, **changes: Any) -> str:
    """The page of a run, without Plotly itself."""
    path = folder / "report.html"
    write_report(dataset, {**mock.summary(dataset), **changes}, path)
    page = path.read_text(encoding="utf-8")
    assert len(page) < 8e6
    start = page.index("</script>", page.index('id="run"')) + len("</script>")
    end = page.index("</script>", start)
    return page[:start] + page[end:]


class Outside(HTMLParser):
    """Collects what a page would fetch, and where its links go."""

    def __init__(self) -> None:
        super().__init__()
        self.fetched: list[str] = []
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name in ("src", "data", "poster") or (tag == "link" and name == "href"):
                self.fetched.append(str(value))
            elif name == "href":
                self.links.append(str(value))


def test_the_page_fetches_nothing(line: xr.Dataset, tmp_path: Path) -> None:
    page = written(line, tmp_path)
    seen = Outside()
    seen.feed(page)
    assert seen.fetched == []
    assert all(link.startswith("https://arxiv.org/abs/") for link in seen.links)
    assert "default-src 'none'" in page
    assert "url(" not in page and "@import" not in page
    assert "sendChartToCloud" not in page and "modeBarButtons:" in page


def test_plotly_is_inside(line: xr.Dataset, tmp_path: Path) -> None:
    write_report(line, mock.summary(line), tmp_path / "report.html")
    assert "plotly.js v" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_what_a_user_wrote_is_text(line: xr.Dataset, tmp_path: Path) -> None:
    evil = "<script>alert(1)</script>&"
    spec = {"data": {"file": evil, "x": [0.0]}, "network": {evil: evil}, "init": {"kind": evil}}
    page = written(
        line.assign_attrs(title=evil, spec=json.dumps(spec), loss_kind=evil),
        tmp_path,
        spec=spec,
        status=evil,
        message=evil,
        stop_reason=evil,
        versions={evil: evil},
    )
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;&amp;" in page


def test_data_cannot_end_the_script() -> None:
    literal = script_literal({"a": "</script><!--&"})
    assert not set("<>&") & set(literal)
    assert json.loads(literal) == {"a": "</script><!--&"}


def test_the_story_and_the_numbers(line: xr.Dataset, tmp_path: Path) -> None:
    text = re.sub(r"<[^>]+>", "", written(line, tmp_path))
    assert "A two-layer ReLU network of 60 neurons" in text
    assert "2 examples with 1 input and a bias" in text
    assert "balanced initialisation of scale 10\u22126" in text
    assert "because the time asked for was reached" in text
    assert "41 / 3 / 0" in text and "1\u202f234" in text
    assert "The saddles" in text and "KKT residual" in text
    assert "arXiv:2206.00939" in text and "arXiv:2402.09226" in text


def test_each_saddle_is_a_row(line: xr.Dataset, tmp_path: Path) -> None:
    page = written(line, tmp_path)
    body = page[page.index("<tbody>") : page.index("</tbody>")]
    rows = [re.findall(r"<td>(.*?)</td>", row) for row in body.split("</tr>") if row]
    assert [row[0] for row in rows] == ["0", "1", "2"]
    assert rows[0][1] == "0" and rows[0][3] == "–"
    assert rows[1][2] == number(float(np.exp(line["saddle_log_time_leave"][1])))
    assert rows[2][2] == "–"


def test_a_run_without_saddles(line: xr.Dataset, tmp_path: Path) -> None:
    page = written(mock.without_saddles(line), tmp_path, saddles=[])
    assert "The flow visited no saddle." in page and "<tbody>" not in page


def test_margins_are_told_where_there_are_some(line: xr.Dataset, tmp_path: Path) -> None:
    assert "Margins and alignment" not in written(line, tmp_path)
    late = {"normalized_margin": 0.125, "smoothed_margin": 0.0625, "smoothed_margin_drop": None}
    page = written(line, tmp_path, late=late)
    assert "Margins and alignment in the end" in page and ">0.125<" in page and ">0.0625<" in page


@pytest.mark.parametrize("which", ["line", "many"])
def test_a_run_interrupted_at_its_start(
    which: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    page = written(mock.first_instant(request.getfixturevalue(which)), tmp_path)
    assert "The run was interrupted" in page
    assert 'max="0"' in page


def test_a_summary_may_lack_what_it_does_not_know(line: xr.Dataset, tmp_path: Path) -> None:
    write_report(line.assign_attrs(spec="{}"), {"status": "ok"}, tmp_path / "report.html")
    final = {"time": None, "log_time": 2000.0, "loss": None, "log_loss": -5000.0}
    page = written(line, tmp_path, final=final, saddles=[], work=None, events=None)
    assert exponential(2000.0) in page and exponential(-5000.0) in page


@pytest.mark.parametrize("change", ["deepened", "without_saddles", "first_instant"])
@pytest.mark.parametrize("which", ["line", "many"])
def test_charts_are_finite_json(which: str, change: str, request: pytest.FixtureRequest) -> None:
    dataset = getattr(mock, change)(request.getfixturevalue(which))
    drawn = json.loads(script_literal(payload(dataset)))
    frames = drawn["frames"]
    count = len(frames["position"])
    assert count <= 60 and frames["kind"] == ("line" if which == "line" else "wheel")
    assert all(len(frames[name]) == count for name in ("time", "loss", "visit", "x", "y"))
    assert len(drawn["norms"]["lines"]) == dataset.sizes["block"]


def test_wide_networks_are_drawn_in_part(many: xr.Dataset, tmp_path: Path) -> None:
    wide = many.isel(block=np.arange(5000) % many.sizes["block"])
    page = written(wide, tmp_path)
    assert "500 of 5\u202f000 neurons are shown." in page
    assert len(page) < 1.5e6


def test_rounding_keeps_the_picture() -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(size=(3, 50)) * 1e-9
    values[1, 3] = np.nan
    kept = rounded(values)
    assert kept[1][3] is None
    kept[1][3] = values[1, 3] = 0.0
    np.testing.assert_allclose(kept, values, atol=1e-4 * np.ptp(values))


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"),
        (float("nan"), "–"),
        (0.0, "0"),
        (12345, "12\u202f345"),
        (15.0, "15"),
        (0.49998, "0.5"),
        (-0.25, "\u22120.25"),
        (99999.0, "99999"),
        (1e-6, "10<sup>\u22126</sup>"),
        (4.0977e-5, "4.098\u202f·\u202f10<sup>\u22125</sup>"),
    ],
)
def test_numbers(value: Any, text: str) -> None:
    assert number(value) == text


def test_numbers_beyond_a_float() -> None:
    assert exponential(-1000 * np.log(10.0)) == "10<sup>\u22121000</sup>"
    assert exponential(float(np.log(2.5))) == "2.5"
    assert exponential(None) == exponential(float("-inf")) == "–"


def entry(index: int, loss: float, log_rate: float | None, **changes: Any) -> dict[str, Any]:
    rate = None if log_rate is None else float(np.exp(min(log_rate, 700.0)))
    return {
        "index": index,
        "loss": loss,
        "grad_norm": 1e-16,
        "residual_norm": 0.5,
        "active_blocks": index,
        "escape_rate": rate,
        "log_escape_rate": log_rate,
        "escape_order": 2,
        "leaving_blocks": [index] if log_rate is not None else [],
        "escape_growth": 0.3,
        "kkt_residual": None,
        "next_exponent": -0.25,
        "hessian_index": 0,
        "hessian_kernel": 1,
        **changes,
    }


def path_page(saddles: list[dict[str, Any]], folder: Path, **more: Any) -> str:
    summary = {"status": "ok", "saddles": saddles, "ties": [], "notes": [], **more}
    write_path_report(summary, "a <path>", folder / "report.html")
    return (folder / "report.html").read_text(encoding="utf-8")


def test_the_page_of_a_path_shows_its_rest_points_and_needs_nothing_else(tmp_path: Path) -> None:
    saddles = [entry(0, 0.5, np.log(2.0)), entry(1, 0.25, np.log(3.5)), entry(2, 0.0, None)]
    page = path_page(
        saddles,
        tmp_path,
        ties=[{"saddle": 1, "blocks": [[0], [1]]}],
        notes=["1 < 2"],
        status="incomplete",
    )
    assert "a &lt;path&gt;" in page and "1 &lt; 2" in page and "<script" not in page
    assert "could not be followed" in page and "2 KKT points leave" in page
    rows = re.findall(r"<tr>(.*?)</tr>", page[page.index("<tbody>") : page.index("</tbody>")])
    cells = [re.findall(r"<td>(.*?)</td>", row)[1:3] for row in rows]
    assert cells == [["2", "0.5"], ["3.5", "0.25"], ["–", "0"]]
    parser = Outside()
    parser.feed(page)
    assert parser.fetched == []


def test_the_staircase_stands_at_the_losses_between_the_escape_rates() -> None:
    saddles = [entry(0, 0.5, np.log(2.0)), entry(1, 0.25, np.log(3.5)), entry(2, 0.0, None)]
    (ax,) = path_figure(saddles).axes
    (steps,) = ax.patches
    values, edges, _ = steps.get_data()  # type: ignore[attr-defined]
    np.testing.assert_allclose(values, [0.5, 0.25, 0.0])
    np.testing.assert_allclose(edges[1:3], [2.0, 3.5])
    assert edges[0] == 0.0 and edges[3] > 3.5


@pytest.mark.parametrize("log_rates, orders", [([-9.0, 2.0], [2, 2]), ([0.1, 2300.0], [2, 3])])
def test_rates_far_apart_and_on_several_scales_can_be_drawn(
    log_rates: list[float], orders: list[int], tmp_path: Path
) -> None:
    saddles = [
        entry(k, 1.0 / (k + 1), r, escape_order=o)
        for k, (r, o) in enumerate(zip(log_rates, orders, strict=True))
    ]
    page = path_page([*saddles, entry(2, 0.1, None)], tmp_path)
    assert "<svg" in page
    alone = path_page([entry(0, 0.3, None)], tmp_path)
    assert "no rest point is left" in alone
