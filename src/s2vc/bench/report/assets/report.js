"use strict";
// The page of `s2vc bench report`: one metric, one clip and two points are chosen, and every section shows them.

class Report {
  constructor(data) {
    Object.assign(this, data);
    this.points.forEach((point, index) => { point.index = index; });
    this.metric = (this.metrics.find((metric) => metric.name === "dists") || this.metrics[0]);
    this.clip = Math.max(0, this.clips.findIndex((clip) => clip.pictures.folder));
    this.player = new Player(document.querySelector(".player"));
    this.figures = new Map(); // clip -> each point's figures of its frames
    this.chosen = { a: null, b: null }; // points
  }

  async start() {
    this.fill();
    this.choosePoints();
    await loadPlotly();
    this.player.events.addEventListener("frame", () => this.markFrame());
    this.player.events.addEventListener("swap", () => this.pick(this.chosen.b, this.chosen.a));
    themeListeners.push(() => this.drawPlots());
    await this.showClip(false);
  }

  own() { return this.points.filter((point) => point.clip === this.clip); }

  name(point) { return `${this.series[point.series].name} ${point.label}`; }

  kbps(point) {
    const { rate, frames } = this.clips[point.clip];
    return rate ? (8e-3 * point.bytes * rate) / frames : null;
  }

  // Choices

  fill() {
    const [metric, clip, anchor] = ["metric", "clip", "anchor"].map(byId);
    this.metrics.forEach((one) => metric.append(make("option", { value: one.name }, marked(one, one.label))));
    metric.value = this.metric.name;
    this.clips.forEach((one, number) => clip.append(make("option", { value: number }, one.name)));
    metric.addEventListener("change", () => {
      this.metric = this.metrics.find((one) => one.name === metric.value);
      this.showMetric();
    });
    clip.addEventListener("change", () => this.pickClip(Number(clip.value)));
    byId("previous-clip").addEventListener("click", () => this.pickClip(this.clip - 1));
    byId("next-clip").addEventListener("click", () => this.pickClip(this.clip + 1));
    const codecs = [...new Set(this.series.map((one) => one.codec))];
    codecs.forEach((codec) => anchor.append(make("option", { value: codec }, codec)));
    anchor.value = codecs.find((codec) => codec.startsWith("x265")) || codecs.at(-1);
    anchor.addEventListener("change", () => this.showComparison());
    for (const side of ["a", "b"]) {
      byId(`choose-${side}`).addEventListener("change", (event) => {
        this.pick(...["a", "b"].map((one) => (one === side ? this.points[Number(event.target.value)] : this.chosen[one])));
      });
    }
  }

  pickClip(number) {
    if (!this.clips[number]) return;
    this.clip = number;
    this.choosePoints();
    this.showClip(false);
  }

  /** The points chosen before where this clip has them; else one of the first codec, and another's of about its rate. */
  choosePoints() {
    const own = this.own();
    const same = (old) => old && own.find((point) => point.series === old.series && point.label === old.label);
    const shown = own.filter((point) => point.pictures.folder);
    const among = shown.length ? shown : own;
    const first = among.filter((point) => point.series === among[0].series);
    const a = same(this.chosen.a) || first[Math.floor((first.length - 1) / 2)];
    const far = (point) => Math.abs(Math.log(point.bpp / a.bpp));
    const others = among.filter((point) => this.series[point.series].codec !== this.series[a.series].codec);
    const rest = others.length ? others : among.filter((point) => point !== a);
    const b = same(this.chosen.b) || rest.sort((p, q) => far(p) - far(q))[0] || a;
    this.chosen = { a, b };
  }

  pick(a, b) {
    this.chosen = { a, b };
    this.showSides(true);
    this.drawFrames();
    this.showPoints();
  }

  // Sections

  async showClip(keep) {
    byId("clip").value = this.clip;
    byId("previous-clip").disabled = this.clip === 0;
    byId("next-clip").disabled = this.clip === this.clips.length - 1;
    for (const side of ["a", "b"]) this.fillPoints(byId(`choose-${side}`));
    const shown = this.showSides(keep);
    const number = this.clip;
    if (!this.figures.has(number)) this.figures.set(number, JSON.parse((await unpack(`frames-${number}`)) || "{}"));
    if (number !== this.clip) return; // another was chosen meanwhile
    this.showMetric();
    await shown;
  }

  fillPoints(select) {
    const groups = this.series.map((series, number) => {
      const own = this.own().filter((point) => point.series === number);
      const options = own.map((point) => make("option", { value: point.index },
        `${this.name(point)} · ${figure(Number(point.bpp.toPrecision(3)))} bpp${point.pictures.folder ? "" : " · no pictures"}`));
      return options.length ? make("optgroup", { label: series.name }, ...options) : "";
    });
    select.replaceChildren(...groups);
  }

  showSides(keep) {
    const clip = this.clips[this.clip];
    const side = (point) => ({ label: `${this.name(point)} · ${figure(Number(point.bpp.toPrecision(3)))} bpp`, pictures: point.pictures });
    for (const one of ["a", "b"]) byId(`choose-${one}`).value = this.chosen[one].index;
    return this.player.open(
      { source: clip.pictures.folder ? { label: "source", pictures: clip.pictures } : null,
        a: side(this.chosen.a), b: side(this.chosen.b) },
      { rate: clip.rate, aspect: clip.width ? clip.width / clip.height : null, keep },
    );
  }

  showMetric() {
    const { trained, label, higher } = this.metric;
    const direction = higher === null ? "" : `${higher ? "Higher" : "Lower"} is better. `;
    const models = [...new Set(this.metrics.flatMap((metric) => metric.trained))].join(", ");
    byId("metric-note").textContent = direction + (trained.length
      ? `† ${trained.join(", ")} was trained on ${label} or on the network it stands on: no witness for that model.`
      : models ? `† marks metrics that ${models} was trained on, or on their network; ${label} is none of them.` : "");
    this.showComparison();
    this.showPoints();
    this.drawPlots();
  }

  showComparison() {
    const compared = (this.comparisons[this.metric.name] || {})[byId("anchor").value]
      || { error: "Nothing to compare: there is one codec, or the metric's direction is not known." };
    const table = comparisonTable(compared, (name) => this.pickClip(this.clips.findIndex((clip) => clip.name === name)));
    byId("comparison-table").replaceChildren(table);
  }

  showPoints() {
    const speed = (what) => (point) => (point[what] ? figure(Number(point[what].toPrecision(3))) : "n/a");
    const own = this.own();
    const { name, width, height, frames, rate } = this.clips[this.clip];
    byId("points-caption").textContent = `${name}: ${width ? `${width}×${height}, ` : ""}${frames} frames${rate ? `, ${figure(rate)} a second` : ""}. `
      + "Frames a second are of the whole command, its start included.";
    const columns = [["encoded frames/s", speed("encode")], ["decoded frames/s", speed("decode")]];
    const memory = (point) => point.memory.map((bytes) => (bytes ? Math.round(bytes / 1e6) : "n/a")).join(" / ");
    if (own.some((point) => point.memory.some(Boolean))) columns.push(["peak MB, encode / decode", memory]);
    if (rate) columns.unshift(["kbit/s", (point) => this.kbps(point).toFixed(1)]);
    byId("points-table").replaceChildren(
      pointsTable(this, own, columns, (point) => point === this.chosen.a || point === this.chosen.b));
    byId("means-table").replaceChildren(pointsTable(this, this.means, [["clips", (point) => String(point.clips)]]));
  }

  drawPlots() {
    const clips = this.clips.length;
    byId("mean-caption").textContent = `Mean of ${clips} clip${clips === 1 ? "" : "s"}`;
    byId("clip-caption").textContent = this.clips[this.clip].name;
    drawRates(byId("mean-plot"), this, this.means, this.metric, {
      about: (point) => (point.clips === clips ? [] : [`only ${point.clips} of ${clips} clips`]),
      complete: (point) => point.clips === clips,
    });
    drawRates(byId("clip-plot"), this, this.own(), this.metric, {
      about: (point) => (this.kbps(point) === null ? [] : [`${figure(this.kbps(point))} kbit/s`]),
      picked: (index, event) => {
        const point = this.points[index];
        this.pick(...(event && event.shiftKey ? [point, this.chosen.b] : [this.chosen.a, point]));
      },
    });
    this.drawFrames();
  }

  drawFrames() {
    const figures = this.figures.get(this.clip) || {};
    const curves = [];
    for (const [side, point] of Object.entries(this.chosen)) {
      const found = (figures[point.index] || {})[this.metric.name];
      if (found) {
        const [first, step, values] = found;
        curves.push({ name: `${side.toUpperCase()}: ${this.name(point)}`, series: point.series, first, step, values,
          dash: side === "b" ? "dash" : "solid" });
      }
    }
    byId("frames-caption").textContent = `${this.metric.label} of ${this.clips[this.clip].name}`;
    drawFrames(byId("frames-plot"), curves, this.metric, Math.max(0, this.player.frame), (frame) => this.player.seek(frame));
  }

  /** The mark follows the player a few times a second: redrawing the plot for every frame would slow the pictures. */
  markFrame() {
    if (this.marking) return;
    this.marking = setTimeout(() => {
      this.marking = null;
      const place = byId("frames-plot");
      if (place.layout) Plotly.relayout(place, { shapes: [frameMark(Math.max(0, this.player.frame))] });
    }, this.player.playing ? 250 : 0);
  }
}

guarded(async () => {
  setUpTheme();
  await new Report(JSON.parse(await unpack("data"))).start();
});
