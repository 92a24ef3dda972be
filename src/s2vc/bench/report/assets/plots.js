"use strict";
// Plots by plotly.js. It reads a little HTML in its texts, so every name is escaped on its way in.

const SYMBOLS = ["circle", "square", "diamond", "triangle-up", "x", "cross", "star", "triangle-down"];
const TICKS = [1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1, 10].flatMap((power) => [1, 2, 5].map((digit) => digit * power));

const plotText = (text) => String(text).replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
const colourOf = (series) => cssColour(`--series-${series % 8}`);

/** A count that a person reads: at most six digits that matter. */
const figure = (value) => (value === null || value === undefined ? "n/a" : String(Number(value.toPrecision(6))));

async function loadPlotly() {
  const script = document.createElement("script");
  script.textContent = await unpack("plotly");
  document.head.append(script);
}

const marked = (metric, text) => text + (metric.trained.length ? " †" : "");

function plotLayout(x, y) {
  const [front, line, back] = [cssColour("--front"), cssColour("--line"), cssColour("--back")];
  const axis = { gridcolor: line, linecolor: line, zeroline: false, automargin: true };
  return {
    paper_bgcolor: back,
    plot_bgcolor: back,
    font: { color: front, family: "system-ui, sans-serif", size: 13 },
    margin: { l: 50, r: 12, t: 8, b: 40 },
    hovermode: "closest",
    hoverlabel: { align: "left", bgcolor: back, bordercolor: front, font: { color: front } },
    legend: { orientation: "h", x: 0, y: 1, yanchor: "bottom" },
    showlegend: true,
    xaxis: { ...axis, ...x },
    yaxis: { ...axis, ...y },
  };
}

const PLOT_OPTIONS = {
  responsive: true,
  displaylogo: false,
  showSendToCloud: false, // nothing leaves the page; plotly.js 4 would offer it
  modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d"],
};

/**
 * A rate–quality plot in `place`. `points`: of one clip or means, each with its `index` among all; `about(point)`:
 * more lines for its hover; `complete(point)`: false draws it hollow.
 */
function drawRates(place, report, points, metric, { about, complete = () => true, picked = () => {} }) {
  const traces = [];
  report.series.forEach((series, number) => {
    const own = points.filter((p) => p.series === number && metric.name in p.metrics).sort((p, q) => p.bpp - q.bpp);
    if (!own.length) return;
    const open = own.map((point) => (complete(point) ? "" : "-open"));
    traces.push({
      type: "scatter",
      mode: "lines+markers",
      name: plotText(series.name),
      x: own.map((point) => point.bpp),
      y: own.map((point) => point.metrics[metric.name]),
      customdata: own.map((point) => point.index),
      hoverinfo: "text",
      hovertext: own.map((point) => [
        `<b>${plotText(series.name)} ${plotText(point.label)}</b>`,
        `${figure(point.bpp)} bits a pixel, ${figure(point.bytes)} bytes`,
        ...about(point),
        `${plotText(metric.label)} ${point.metrics[metric.name]}`,
      ].join("<br>")),
      line: { color: colourOf(number), width: 2, dash: ["solid", "dash", "dot", "dashdot"][Math.floor(number / 8) % 4] },
      marker: { color: colourOf(number), size: 9, symbol: open.map((end) => SYMBOLS[number % SYMBOLS.length] + end) },
    });
  });
  const layout = plotLayout(
    { title: { text: "bits a pixel" }, type: "log", tickvals: TICKS, ticktext: TICKS.map((tick) => figure(tick)) },
    { title: { text: plotText(marked(metric, metric.name) + (metric.unit && `, ${metric.unit}`)) } },
  );
  const drawn = Plotly.react(place, traces, layout, PLOT_OPTIONS);
  place.removeAllListeners("plotly_click");
  place.on("plotly_click", (click) => picked(click.points[0].customdata, click.event));
  return drawn;
}

/** Curves over frames in `place`. `curves`: {name, series, dash, first, step, values}; `frame`: where the player is. */
function drawFrames(place, curves, metric, frame, picked) {
  const traces = curves.map(({ name, series, dash, first, step, values }) => ({
    type: "scatter",
    mode: values.length < 40 ? "lines+markers" : "lines",
    name: plotText(name),
    x: values.map((value, number) => first + number * step),
    y: values,
    hoverinfo: "text",
    hovertext: values.map((value, number) => `${plotText(name)}<br>frame ${first + number * step}: ${value}`),
    line: { color: colourOf(series), width: 2, dash },
  }));
  const layout = plotLayout(
    { title: { text: "frame" }, rangemode: "tozero" },
    { title: { text: plotText(marked(metric, metric.name) + (metric.unit && `, ${metric.unit}`)) } },
  );
  layout.shapes = [frameMark(frame)];
  const drawn = Plotly.react(place, traces, layout, PLOT_OPTIONS);
  place.removeAllListeners("plotly_click");
  place.on("plotly_click", (click) => picked(click.points[0].x - 1));
  return drawn;
}

function frameMark(frame) {
  return { type: "line", xref: "x", yref: "paper", x0: frame + 1, x1: frame + 1, y0: 0, y1: 1,
    line: { color: cssColour("--quiet"), width: 1, dash: "dot" } };
}
