"use strict";
// The player: a source and two sides in step. A frame is a row of a sheet (media.py); all sides of a frame are drawn
// together once all are there, so they cannot drift apart.

const CACHED_PIXELS = 12e6; // of decoded sheets, for each side
const LARGEST_ZOOM = 16;
const SIDES = ["source", "a", "b"];

/** One side's frames. `pictures`: {folder, width, height, frames, rows}. */
class Reel {
  constructor(pictures) {
    this.pictures = pictures;
    this.sheets = new Map(); // in order of use
    this.limit = Math.max(3, Math.floor(CACHED_PIXELS / (pictures.width * pictures.height * pictures.rows)));
  }

  sheet(number) {
    const found = this.sheets.get(number);
    this.sheets.delete(number);
    const sheet = found || this.load(`${this.pictures.folder}/${number}.webp`);
    this.sheets.set(number, sheet);
    for (const [old, waiting] of this.sheets) {
      if (this.sheets.size <= this.limit) break;
      this.sheets.delete(old);
      waiting.then((bitmap) => bitmap.close(), () => {});
    }
    return sheet;
  }

  async load(url) {
    const image = new Image();
    image.src = url;
    try {
      await image.decode();
    } catch (error) {
      throw new Error(`${url} is not beside this page, or is damaged`);
    }
    return createImageBitmap(image);
  }

  /** A function that draws the frame: a side that ends earlier stays on its last. The next sheet is fetched ahead. */
  async frame(index) {
    const { width, height, frames, rows } = this.pictures;
    const shown = Math.min(index, frames - 1);
    const number = Math.floor(shown / rows);
    const bitmap = await this.sheet(number);
    const next = (number + 1) * rows < frames ? number + 1 : 0;
    if (next !== number) this.sheet(next).catch(() => {});
    return (canvas) => {
      if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
      // At its own size: scaling is left to CSS, so that no row of the sheet runs into the next.
      canvas.getContext("2d").drawImage(bitmap, 0, (shown % rows) * height, width, height, 0, 0, width, height);
    };
  }

  close() {
    for (const sheet of this.sheets.values()) sheet.then((bitmap) => bitmap.close(), () => {});
    this.sheets.clear();
  }
}

class Player {
  /** `root`: the element .player of the page. Events: "frame" when one is drawn; "swap" when A and B are to change places. */
  constructor(root) {
    this.root = root;
    this.stage = root.querySelector(".stage");
    this.bands = Object.fromEntries(SIDES.map((side) => [side, this.stage.querySelector(`[data-side="${side}"]`)]));
    this.wipes = [...this.stage.querySelectorAll(".wipe")];
    this.places = [33.3, 66.7]; // of the wipes, in percent of the stage
    this.sides = {};
    this.events = new EventTarget();
    this.count = 0;
    this.rate = 25;
    this.opened = 0; // how often: what was begun for an earlier clip is not drawn into a later one
    this.frame = 0; // drawn last
    this.wanted = 0;
    this.zoom = 1;
    this.shift = [0, 0]; // of the zoomed picture, in parts of the stage
    this.listen();
    this.arrange();
  }

  /**
   * `sides`: {source, a, b}, each null or {label, pictures} with pictures a Reel's, or {why} what is missing.
   * `options`: rate (frames a second), aspect (width / height as shown), keep (stay on the frame).
   */
  async open(sides, { rate, aspect, keep }) {
    this.pause();
    if (!this.opened && !sides.source) this.places = [0, 50];
    this.opened += 1;
    const old = this.sides;
    this.sides = {};
    for (const side of SIDES) {
      const given = sides[side] || null;
      const pictures = given && given.pictures && given.pictures.folder ? given.pictures : null;
      const same = old[side] && pictures && old[side].reel && old[side].reel.pictures.folder === pictures.folder;
      if (old[side] && old[side].reel && !same) old[side].reel.close();
      const reel = same ? old[side].reel : pictures && new Reel(pictures);
      const why = pictures ? null : (given && given.pictures && given.pictures.why) || "nothing to show";
      this.sides[side] = given && { label: given.label, reel, why };
      const said = this.bands[side].querySelector(".why");
      said.textContent = given ? `${given.label}: no pictures: ${why}` : "";
      said.hidden = Boolean(!given || reel);
      const canvas = this.bands[side].querySelector("canvas");
      canvas.hidden = !reel;
    }
    this.count = Math.max(0, ...this.reels().map((reel) => reel.pictures.frames));
    this.rate = rate || 25;
    this.stage.style.setProperty("--aspect", aspect || 1.5);
    const seek = this.control("seek");
    seek.max = Math.max(0, this.count - 1);
    for (const id of ["seek", "play", "back", "forward"]) this.control(id).disabled = this.count < 2;
    this.arrange();
    if (!keep) this.reset();
    this.frame = -1; // whatever is there, it is another clip's
    this.root.classList.toggle("empty", !this.count);
    await this.seek(keep ? Math.min(this.wanted, Math.max(0, this.count - 1)) : 0);
  }

  control(id) { return this.root.querySelector(`#${id}`); }

  reels() { return SIDES.map((side) => this.sides[side] && this.sides[side].reel).filter(Boolean); }

  layout() { return this.root.querySelector("input[name=layout]:checked").value; }

  // Frames

  async seek(index) {
    this.wanted = Math.max(0, Math.min(index, this.count - 1));
    if (this.drawing) return this.drawing;
    this.drawing = this.draw();
    try {
      await this.drawing;
    } finally {
      this.drawing = null;
    }
  }

  async draw() {
    while (this.frame !== this.wanted && this.count) {
      const [index, opened] = [this.wanted, this.opened];
      const sides = SIDES.filter((side) => this.sides[side] && this.sides[side].reel);
      const reels = sides.map((side) => this.sides[side].reel);
      const drawings = await Promise.allSettled(reels.map((reel) => reel.frame(index)));
      if (opened !== this.opened) continue;
      sides.forEach((side, number) => {
        const now = this.sides[side];
        const { status, value, reason } = drawings[number];
        const band = this.bands[side];
        const failed = status !== "fulfilled";
        if (!failed) value(band.querySelector("canvas"));
        band.querySelector("canvas").hidden = failed;
        band.querySelector(".why").hidden = !failed;
        if (failed) band.querySelector(".why").textContent = `${now.label}: ${reason.message}`;
      });
      this.frame = index;
    }
    this.say();
    this.events.dispatchEvent(new Event("frame"));
  }

  say() {
    const text = this.count ? `Frame ${this.frame + 1} of ${this.count}` : "No pictures";
    this.control("frame").textContent = text;
    this.control("seek").value = this.frame;
    this.control("seek").setAttribute("aria-valuetext", text);
    for (const side of SIDES) {
      const now = this.sides[side];
      const ended = now && now.reel && this.frame >= now.reel.pictures.frames;
      this.bands[side].querySelector(".tag").textContent = now ? now.label + (ended ? " (ended)" : "") : "";
    }
  }

  play() {
    if (this.playing || this.count < 2) return;
    this.playing = true;
    this.root.classList.add("playing");
    this.control("play").setAttribute("aria-label", "Pause");
    let position = this.wanted;
    let before = performance.now();
    const tick = (now) => {
      if (!this.playing) return;
      // While a frame is waited for, the clock stands: nothing is left out because a disk is slow.
      if (!this.drawing) {
        const speed = Number(this.control("speed").value);
        if (Math.floor(position) !== this.wanted) position = this.wanted; // someone stepped meanwhile
        position = (position + ((now - before) / 1000) * this.rate * speed) % this.count;
        if (Math.floor(position) !== this.wanted) this.seek(Math.floor(position));
      }
      before = now;
      requestAnimationFrame(tick);
    };
    requestAnimationFrame(tick);
  }

  pause() {
    this.playing = false;
    this.root.classList.remove("playing");
    this.control("play").setAttribute("aria-label", "Play");
  }

  step(frames) {
    this.pause();
    this.seek(this.wanted + frames);
  }

  // Where things are

  /** Lay out bands and wipes for the chosen layout. */
  arrange() {
    const layout = this.layout();
    const withSource = Boolean(this.sides.source) && this.control("with-source").checked;
    const side = layout === "side";
    this.stage.classList.toggle("side", side);
    const [first, second] = [withSource ? this.places[0] : 0, this.places[1]];
    const wiped = { source: [0, first], a: [first, second], b: [second, 100] };
    for (const name of SIDES) {
      const band = this.bands[name];
      const there = Boolean(this.sides[name]);
      const [from, to] = layout === "wipe" ? wiped[name] : [0, 100];
      band.hidden = !there || !(side || layout === name || (layout === "wipe" && to > from));
      band.style.clipPath = layout === "wipe" ? `inset(0 ${100 - to}% 0 ${from}%)` : "";
      for (const label of band.querySelectorAll(".tag, .why")) {
        label.style.left = `${from}%`;
        label.style.maxWidth = `${to - from}%`;
      }
    }
    this.wipes.forEach((wipe, number) => {
      wipe.hidden = layout !== "wipe" || (number === 0 && !withSource);
      wipe.style.left = `${this.places[number]}%`;
      wipe.setAttribute("aria-label", `Wipe between ${number === 0 ? "source and A" : "A and B"}`);
      wipe.setAttribute("aria-valuenow", Math.round(this.places[number]));
      wipe.setAttribute("aria-valuetext", `${Math.round(this.places[number])} % from the left`);
    });
    for (const radio of this.root.querySelectorAll("input[name=layout]")) {
      radio.disabled = radio.value === "source" && !this.sides.source;
    }
    this.control("with-source").disabled = !this.sides.source;
    this.place();
  }

  moveWipe(number, percent) {
    this.places[number] = Math.max(0, Math.min(100, percent));
    // one pushes the other: they never cross
    if (number === 0) this.places[1] = Math.max(this.places[1], this.places[0]);
    else this.places[0] = Math.min(this.places[0], this.places[1]);
    this.arrange();
  }

  /** Zoom by a factor; the point (x, y) of the picture's frame, in parts of it, stays where it is. */
  zoomBy(factor, x = 0.5, y = 0.5) {
    const zoom = Math.max(1, Math.min(LARGEST_ZOOM, this.zoom * factor));
    this.shift = [x, y].map((at, axis) => at - ((at - this.shift[axis]) * zoom) / this.zoom);
    this.zoom = zoom;
    this.place();
  }

  pan(x, y) {
    this.shift = [this.shift[0] + x, this.shift[1] + y];
    this.place();
  }

  reset() {
    this.zoom = 1;
    this.shift = [0, 0];
    this.place();
  }

  place() {
    this.shift = this.shift.map((shift) => Math.min(0, Math.max(1 - this.zoom, shift)));
    this.stage.style.setProperty("--zoom", this.zoom);
    this.stage.style.setProperty("--x", `${this.shift[0] * 100}%`);
    this.stage.style.setProperty("--y", `${this.shift[1] * 100}%`);
    this.stage.classList.toggle("zoomed", this.zoom > 1);
    this.control("zoom").textContent = `${Number(this.zoom.toFixed(1))}×`;
  }

  // Hands

  listen() {
    const on = (id, event, action) => this.control(id).addEventListener(event, action);
    on("play", "click", () => (this.playing ? this.pause() : this.play()));
    on("back", "click", () => this.step(-1));
    on("forward", "click", () => this.step(1));
    on("seek", "input", () => { this.pause(); this.seek(Number(this.control("seek").value)); });
    on("zoom-in", "click", () => this.zoomBy(2));
    on("zoom-out", "click", () => this.zoomBy(0.5));
    on("zoom-fit", "click", () => this.reset());
    on("with-source", "change", () => this.arrange());
    on("layout", "change", () => this.arrange());
    on("sharp", "change", () => this.root.classList.toggle("sharp", this.control("sharp").checked));
    on("swap", "click", () => this.events.dispatchEvent(new Event("swap")));
    on("fullscreen", "click", () => {
      if (document.fullscreenElement) document.exitFullscreen();
      else this.root.requestFullscreen().catch(() => {}); // the browser has said why
    });
    this.wipes.forEach((wipe, number) => this.listenToWipe(wipe, number));
    this.stage.addEventListener("keydown", (event) => this.key(event));
    this.stage.addEventListener("wheel", (event) => {
      if (!event.ctrlKey) return; // the page scrolls
      event.preventDefault();
      this.zoomBy(2 ** (-event.deltaY / 200), ...this.within(event));
    }, { passive: false });
    this.stage.addEventListener("pointerdown", (event) => {
      if (event.button !== 0 || this.zoom === 1) return;
      const [width, height] = this.extent(event);
      let [x, y] = [event.clientX, event.clientY];
      this.drag(this.stage, event, (move) => {
        this.pan((move.clientX - x) / width, (move.clientY - y) / height);
        [x, y] = [move.clientX, move.clientY];
      });
    });
  }

  listenToWipe(wipe, number) {
    wipe.addEventListener("pointerdown", (event) => {
      if (event.button !== 0) return;
      event.stopPropagation();
      wipe.focus();
      const box = this.stage.getBoundingClientRect();
      this.drag(wipe, event, (move) => this.moveWipe(number, (100 * (move.clientX - box.left)) / box.width));
    });
    wipe.addEventListener("keydown", (event) => {
      const steps = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1, PageDown: -10, PageUp: 10 };
      const ends = { Home: 0, End: 100 };
      if (event.key in steps) this.moveWipe(number, this.places[number] + steps[event.key]);
      else if (event.key in ends) this.moveWipe(number, ends[event.key]);
      else return;
      event.preventDefault();
      event.stopPropagation();
    });
  }

  drag(element, event, move) {
    element.setPointerCapture(event.pointerId);
    const end = () => {
      element.removeEventListener("pointermove", move);
      element.removeEventListener("lostpointercapture", end);
    };
    element.addEventListener("pointermove", move);
    element.addEventListener("lostpointercapture", end);
  }

  /** The band that an event is over, as a box; bands of a wipe all fill the stage. */
  box(event) {
    const band = this.layout() === "side" ? event.target.closest(".band") : null;
    return (band || this.stage).getBoundingClientRect();
  }

  extent(event) {
    const box = this.box(event);
    return [box.width, box.height];
  }

  within(event) {
    const box = this.box(event);
    return [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
  }

  choose(layout) {
    const radio = this.root.querySelector(`input[name=layout][value=${layout}]`);
    if (radio.disabled) return;
    radio.checked = true;
    this.arrange();
  }

  key(event) {
    if (event.ctrlKey || event.altKey || event.metaKey) return;
    const pans = { ArrowLeft: [0.1, 0], ArrowRight: [-0.1, 0], ArrowUp: [0, 0.1], ArrowDown: [0, -0.1] };
    const keys = {
      " ": () => (this.playing ? this.pause() : this.play()),
      ArrowLeft: () => this.step(-1),
      ArrowRight: () => this.step(1),
      PageUp: () => this.step(-10),
      PageDown: () => this.step(10),
      Home: () => this.step(-this.count),
      End: () => this.step(this.count),
      "[": () => this.moveWipe(1, this.places[1] - 2),
      "]": () => this.moveWipe(1, this.places[1] + 2),
      "+": () => this.zoomBy(2),
      "=": () => this.zoomBy(2),
      "-": () => this.zoomBy(0.5),
      0: () => this.reset(),
      w: () => this.choose("wipe"),
      e: () => this.choose("side"),
      1: () => this.choose("source"),
      2: () => this.choose("a"),
      3: () => this.choose("b"),
      x: () => this.events.dispatchEvent(new Event("swap")),
    };
    const action = event.shiftKey && event.key in pans ? () => this.pan(...pans[event.key]) : keys[event.key];
    if (!action) return;
    event.preventDefault();
    action();
  }
}
