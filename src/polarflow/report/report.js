"use strict";
(function () {
  const run = JSON.parse(document.getElementById("run").textContent);
  const narrow = window.matchMedia("(max-width: 36rem)").matches;
  const config = {
    responsive: true,
    displaylogo: false,
    displayModeBar: narrow ? false : "hover",
    // A list of its own: the default one has a button that uploads the chart.
    modeBarButtons: [["toImage", "zoom2d", "pan2d", "resetScale2d"]],
    plotlyServerURL: "",
    toImageButtonOptions: { format: "svg" },
  };
  const ink = "#1d2733";
  const grid = "#e8ecf0";
  const ticked = (axis, ticks) =>
    ticks ? Object.assign(axis, { tickvals: ticks.values, ticktext: ticks.texts }) : axis;
  const axisOf = (label, range, ticks) =>
    ticked(
      {
        title: { text: label, standoff: 10 },
        range: range,
        gridcolor: grid,
        linecolor: "#9aa5b1",
        zeroline: false,
        ticks: "outside",
        tickcolor: "#9aa5b1",
        automargin: true,
      },
      ticks
    );
  const timeAxis = () => axisOf(run.axis.label, run.axis.range.slice(), run.axis.ticks);
  const base = () => ({
    font: { family: "system-ui, sans-serif", size: narrow ? 11 : 13, color: ink },
    margin: { l: narrow ? 52 : 64, r: 16, t: narrow ? 34 : 46, b: 48 },
    paper_bgcolor: "#ffffff",
    plot_bgcolor: "#ffffff",
    modebar: { bgcolor: "rgba(255,255,255,0)", color: "#9aa5b1", activecolor: ink },
    hoverlabel: { bgcolor: "#ffffff", bordercolor: "#9aa5b1", font: { color: ink } },
    showlegend: false,
    dragmode: narrow ? false : "zoom",
  });

  // Visits to saddles: bands, with labels where there is room.
  const width = run.axis.range[1] - run.axis.range[0];
  const bands = run.visits.map((v) => ({
    type: "rect", xref: "x", yref: "paper", x0: v.start, x1: v.end, y0: 0, y1: 1,
    fillcolor: run.colours.band, line: { width: 0 }, layer: "below",
  }));
  const labels = [];
  const room = narrow ? 0.2 : 0.09;
  let last = -Infinity;
  run.visits.forEach((v) => {
    const half = 0.5 * room * width;
    const middle = Math.min(
      Math.max(0.5 * (v.start + v.end), run.axis.range[0] + half), run.axis.range[1] - half);
    if (middle - half < last) return;
    last = middle + half;
    labels.push({
      x: middle, xref: "x", y: 1, yref: "paper", yanchor: "bottom", showarrow: false,
      text: v.name, font: { size: 12, color: "#5a6675" },
    });
  });

  // The staircase.
  let scale = "linear";
  const lossAxis = {
    linear: () => axisOf("loss", [0, run.loss.top]),
    log: () => axisOf("loss", run.loss.power.range.slice(), run.loss.power.ticks),
  };
  const alone = run.time.length === 1;
  const lossTrace = {
    x: run.time, y: run.loss.linear, text: run.timeText, customdata: run.loss.text,
    mode: alone ? "markers" : "lines", line: { color: "#000000", width: 2.2 },
    marker: { color: "#000000", size: 9 },
    hovertemplate: "t = %{text}<br>loss %{customdata}<extra></extra>",
  };
  const film = run.frames;
  const cursor = {
    x: [film ? film.position[0] : null], y: [film ? film.loss[0] : null],
    mode: "markers", hoverinfo: "skip",
    marker: { size: 12, color: run.colours.negative, line: { color: "#ffffff", width: 1.5 } },
    cliponaxis: false,
  };
  Plotly.newPlot(
    "loss", [lossTrace, cursor],
    Object.assign(base(), {
      xaxis: timeAxis(), yaxis: lossAxis.linear(), shapes: bands, annotations: labels,
      hovermode: "closest", hoverdistance: 60,
    }),
    config
  );

  // The norms of all neurons.
  const norms = run.norms;
  const colour = (sign) => (sign > 0 ? run.colours.positive : run.colours.negative);
  Plotly.newPlot(
    "norms",
    norms.lines.map((line, k) => ({
      x: run.time, y: line, text: run.timeText, mode: alone ? "markers" : "lines",
      opacity: norms.strong[k] ? 0.75 : 0.35,
      line: { color: colour(norms.sign[k]), width: norms.strong[k] ? 1.6 : 0.9 },
      marker: { color: colour(norms.sign[k]), size: 6 },
      hovertemplate:
        norms.name + " " + norms.block[k] + (norms.name === "neuron" ?
          " (a " + (norms.sign[k] > 0 ? "&gt;" : "&lt;") + " 0)<br>" : "<br>") +
        "t = %{text}<br>norm 10<sup>%{y:.2f}</sup><extra></extra>",
    })),
    Object.assign(base(), {
      xaxis: timeAxis(),
      yaxis: axisOf("norm of " + norms.name, norms.power.range.slice(), norms.power.ticks),
      shapes: bands, annotations: labels, hovermode: "closest",
    }),
    config
  );

  function moveCursor() {
    if (!film) return;
    const height = scale === "linear" ? film.loss[frame] : film.logLoss[frame];
    Plotly.restyle("loss", { x: [[film.position[frame]]], y: [[height]] }, [1]);
  }
  const scales = document.querySelectorAll("[data-scale]");
  scales.forEach((button) =>
    button.addEventListener("click", () => {
      scale = button.dataset.scale;
      scales.forEach((b) => b.setAttribute("aria-pressed", String(b === button)));
      Plotly.restyle("loss", { y: [run.loss[scale]] }, [0]);
      const axis = lossAxis[scale]();
      if (scale === "linear") Object.assign(axis, { tickvals: null, ticktext: null });
      Plotly.relayout("loss", { yaxis: axis });
      moveCursor();
    })
  );
  // A chart follows its box, also where the window itself has not changed.
  const boxes = new ResizeObserver((entries) =>
    entries.forEach((entry) => Plotly.Plots.resize(entry.target)));
  ["loss", "norms"].concat(film ? ["neurons"] : []).forEach(
    (id) => boxes.observe(document.getElementById(id)));
  let frame = 0;
  if (!film) return;

  // The neurons at one time.
  const ups = [];
  const downs = [];
  film.sign.forEach((s, k) => (s > 0 ? ups : downs).push(k));
  const pick = (row, which) => which.map((k) => row[k]);
  const star = (which, sign) => ({
    x: pick(film.x[0], which), y: pick(film.y[0], which), mode: "markers",
    name: "neurons, a " + (sign > 0 ? "&gt;" : "&lt;") + " 0",
    customdata: pick(film.block, which),
    marker: { symbol: "star", size: 10, color: colour(sign), opacity: 0.7 },
    hovertemplate: film.kind === "line"
      ? "neuron %{customdata}<br>kink %{x:.4g}, height %{y:.3g}<extra></extra>"
      : "neuron %{customdata}<extra></extra>",
  });
  const traces = [star(ups, 1), star(downs, -1)];
  const layout = base();
  layout.showlegend = true;
  layout.legend = { orientation: "h", y: 1.0, yanchor: "bottom", x: 0 };
  if (film.kind === "line") {
    traces.unshift(
      { x: film.grid, y: film.function[0], mode: "lines", name: "learned function",
        line: { color: run.colours.function, width: 2.4 },
        hovertemplate: "h(%{x:.3g}) = %{y:.4g}<extra></extra>" },
      { x: film.data.x, y: film.data.y, mode: "markers", name: "data",
        marker: { color: run.colours.function, size: 10 },
        hovertemplate: "example x = %{x:.4g}, y = %{y:.4g}<extra></extra>" });
    layout.xaxis = axisOf("input x, kinks of the neurons", film.window[0]);
    layout.yaxis = axisOf("function h(x), heights of the neurons", film.window[1]);
    layout.yaxis.zeroline = true;
    layout.yaxis.zerolinecolor = "#9aa5b1";
  } else {
    const edge = 1.08 * (1 + film.core);
    const hidden = { range: [-edge, edge], visible: false };
    layout.xaxis = Object.assign({ scaleanchor: "y" }, hidden);
    layout.yaxis = Object.assign({}, hidden);
    layout.margin = { l: 8, r: 8, t: 34, b: 8 };
    const ring = (radius, heavy) => ({
      type: "circle", x0: -radius, x1: radius, y0: -radius, y1: radius, layer: "below",
      line: { color: "#9aa5b1", width: heavy ? 1.6 : 0.8 },
    });
    layout.shapes = [ring(film.core, true)].concat(film.rings.map((r) => ring(r[0], false)));
    layout.annotations = film.rings.map((r) => ({
      x: r[0] * Math.SQRT1_2, y: r[0] * Math.SQRT1_2, text: r[1], showarrow: false,
      bgcolor: "#ffffff", font: { size: 11, color: "#5a6675" },
    })).concat([{ x: 0, y: 0, text: "0", showarrow: false, font: { size: 11, color: "#5a6675" } }]);
  }
  Plotly.newPlot("neurons", traces, layout, config);

  const slider = document.getElementById("when");
  const said = document.getElementById("moment");
  const first = film.kind === "line" ? 2 : 0;
  function show(k) {
    frame = k;
    slider.value = String(k);
    const visit = film.visit[k] ? " · " + film.visit[k] : "";
    said.innerHTML = "<i>t</i> = " + film.time[k] + " · loss " + film.lossText[k] + visit;
    slider.setAttribute("aria-valuetext", said.textContent);
    const xs = [pick(film.x[k], ups), pick(film.x[k], downs)];
    const ys = [pick(film.y[k], ups), pick(film.y[k], downs)];
    const which = [first, first + 1];
    if (film.kind === "line") {
      xs.unshift(film.grid);
      ys.unshift(film.function[k]);
      which.unshift(0);
    }
    Plotly.restyle("neurons", { x: xs, y: ys }, which);
    moveCursor();
  }
  slider.addEventListener("input", () => { stop(); show(Number(slider.value)); });

  // A film that starts only when asked to.
  const play = document.getElementById("play");
  let timer = null;
  function stop() {
    if (timer !== null) window.clearInterval(timer);
    timer = null;
    play.textContent = "Play";
    play.setAttribute("aria-pressed", "false");
  }
  play.addEventListener("click", () => {
    if (timer !== null) return stop();
    if (frame === film.position.length - 1) show(0);
    play.textContent = "Pause";
    play.setAttribute("aria-pressed", "true");
    timer = window.setInterval(() => {
      if (frame >= film.position.length - 1) return stop();
      show(frame + 1);
    }, 110);
  });

  // Clicking on the staircase goes to that time.
  document.getElementById("loss").on("plotly_click", (event) => {
    const at = event.points[0].x;
    let best = 0;
    film.position.forEach((p, k) => {
      if (Math.abs(p - at) < Math.abs(film.position[best] - at)) best = k;
    });
    stop();
    show(best);
  });
  show(0);
})();
