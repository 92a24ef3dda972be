"use strict";
// Tables of a report. Cells are texts and elements, never HTML.

const percent = (value) => `${value > 0 ? "+" : value < 0 ? "−" : ""}${Math.abs(value).toFixed(1)} %`;
const better = (value) => (value < 0 ? "fewer" : value > 0 ? "more" : null);
const head = (...texts) => make("thead", {}, make("tr", {}, ...texts.map((text) => make("th", { scope: "col" }, text))));
const metricHead = (metric) => make("abbr", { title: metric.label }, marked(metric, metric.name));

/** BD-rates against an anchor: the codecs as columns, the mean over clips and each clip as rows. */
function comparisonTable(compared, pickClip) {
  if (compared.error) return make("p", { class: "quiet" }, compared.error);
  const codecs = compared.codecs;
  const title = (codec) => codec.codec + (codec.variant ? ` (${codec.variant})` : "");
  const row = (title, cell, kind) =>
    make("tr", { class: kind }, make("th", { scope: "row" }, title), ...codecs.map(cell));
  const rows = [
    row("Mean of the clips", meanCell, "mean"),
    row("Mean difference of the metric at equal rate", (codec) => make("td", {}, figure(codec.bd_metric))),
    row(`Encoding (the anchor: ${costText(compared.anchor_cost, "encode")})`, (codec) => make("td", {}, costText(codec.cost, "encode"))),
    row(`Decoding (the anchor: ${costText(compared.anchor_cost, "decode")})`, (codec) => make("td", {}, costText(codec.cost, "decode"))),
  ];
  for (const clip of [...new Set(codecs.flatMap((codec) => [...Object.keys(codec.clips), ...codec.missing]))].sort()) {
    const link = make("button", { type: "button", class: "link", onclick: () => pickClip(clip) }, clip);
    rows.push(row(link, (codec) => clipCell(codec.clips[clip])));
  }
  return make("table", {}, head("clip", ...codecs.map(title)), make("tbody", {}, ...rows));
}

function costText(cost, step) {
  const [speed, memory] = [cost[`${step}_frames_per_second`], cost[`${step}_peak_memory`]];
  if (speed === null) return "n/a";
  return `${figure(Number(speed.toPrecision(3)))} frames/s${memory === null ? "" : `, ${Math.round(memory / 1e6)} MB`}`;
}

function meanCell(codec) {
  const [low, high] = codec.interval_95;
  const clips = Object.keys(codec.clips).length;
  return make("td", {},
    make("span", { class: better(codec.bd_rate) }, percent(codec.bd_rate)),
    make("small", {}, `[${percent(low)}, ${percent(high)}] better on ${codec.won} of ${clips}`));
}

function clipCell(figures) {
  if (!figures) return make("td", {}, "missing");
  if (figures.bd_rate === null) return make("td", {}, "no overlap");
  const counted = figures.counted === figures.bd_rate ? "" : ", counted as 0";
  return make("td", {},
    make("span", { class: counted ? null : better(figures.bd_rate) }, percent(figures.bd_rate)),
    make("small", {}, `(${Math.round(100 * figures.overlap)} %${counted})`));
}

/** Points with all their figures; `columns`: more (title, point -> text) between point and metrics. */
function pointsTable(report, points, columns, chosen = () => false) {
  const rows = points.map((point) => {
    const dot = make("span", { class: "dot", "aria-hidden": "true" });
    dot.style.background = `var(--series-${point.series % 8})`;
    return make("tr", { class: chosen(point) ? "chosen" : null },
      make("th", { scope: "row" }, dot, `${report.series[point.series].name} ${point.label}`),
      make("td", {}, figure(point.bpp)),
      make("td", {}, figure(point.bytes)),
      ...columns.map(([, text]) => make("td", {}, text(point))),
      ...report.metrics.map((metric) => metricCell(point, metric)));
  });
  const titles = ["point", "bits a pixel", "bytes", ...columns.map(([title]) => title),
    ...report.metrics.map(metricHead)];
  return make("table", {}, head(...titles), make("tbody", {}, ...rows));
}

function metricCell(point, metric) {
  const value = point.metrics[metric.name];
  const why = point.missing && point.missing[metric.name];
  if (value === undefined || value === null) return make("td", { title: why }, "n/a");
  return make("td", {}, value.toFixed(Math.abs(value) < 2 ? 4 : 2));
}
