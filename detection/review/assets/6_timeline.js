// A timeline per person, a lane per action. Drawn on a canvas of the size of the window onto it, so
// that hours and hundreds of people cost no more than what is seen.

const GUTTER = 168;
const RULER = 30;
const HEAD = 24;
const LANE = 17;

class Timeline {
  constructor(app) {
    this.app = app;
    this.zoom = 1;
    this.canvas = el("canvas", { "aria-hidden": "true" });
    this.gutter = el("div", { class: "gutter" });
    this.head = el("div", { class: "playhead", "aria-hidden": "true" });
    this.view = el("div", { class: "view" }, this.canvas, this.head, this.gutter);
    this.inner = el("div", { class: "inner" }, this.view);
    this.scroller = el("div", { class: "scroller", tabIndex: 0, role: "region",
      "aria-label": "Timeline of people and actions; click to seek" }, this.inner);
    this.scroller.addEventListener("scroll", () => this.draw());
    this.canvas.addEventListener("pointerdown", (event) => this.press(event));
    this.canvas.addEventListener("pointermove", (event) => { if (event.buttons & 1) this.press(event); });
    this.zoomers = [["−", 1 / 2, "Zoom out"], ["+", 2, "Zoom in"]].map(([text, factor, name]) => el("button",
      { type: "button", class: "bare", "aria-label": name, title: name, onclick: () => this.zoomBy(factor) }, text));
    this.summary = el("span", { class: "soft small" });
    this.root = el("section", { class: "timeline", "aria-label": "Timeline" },
      el("div", { class: "head" }, el("h2", {}, "Timeline"), this.summary, el("span", { class: "grow" }),
        el("span", { class: "soft small legend" }), ...this.zoomers), this.scroller);
    new ResizeObserver(() => this.layout()).observe(this.scroller);
    window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.draw());
  }

  // Gather the lanes soon: once for a drag of the slider, and after what was clicked has answered.
  refreshSoon() {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => { if (this.root.isConnected) this.refresh(); }, this.app.clip.size > 5000 ? 200 : 0);
  }

  // Gather the lanes: once for each threshold, filter and correction, not for each frame.
  refresh() {
    const { app } = this;
    const { clip, thresholds } = app;
    const groups = [];
    const truth = this.truthRuns();
    const used = new Set();
    for (const track of clip.tracks) {
      const lanes = new Map();
      track.k.forEach((k, j) => {
        for (let i = 0; i < track.s[j].length; i += 2) {
          const [column, score] = [track.s[j][i], track.s[j][i + 1]];
          if (!app.classOn[column] || !clip.isBar(track, j, column, score, thresholds)) continue;
          if (!lanes.has(column)) lanes.set(column, []);
          lanes.get(column).push([k, score]);
        }
      });
      const mine = truth.filter((person) => person.track === track.id);
      mine.forEach((person) => used.add(person));
      if (app.filtered && !lanes.size && !mine.length) continue;
      groups.push(this.group(`Person ${track.id}`, colorOf(track.id), track.k, lanes, mine, ["guess", track.id]));
    }
    for (const person of truth) {
      if (used.has(person)) continue;
      const name = person.id < 0 ? "Label, no id" : `Label ${person.id}`;
      groups.push(this.group(name, null, person.k, new Map(), [person], ["truth", person.id]));
    }
    this.place(groups);
    this.root.querySelector(".legend").textContent = clip.hasTruth || app.edits.of(clip.index).size
      ? "bar: prediction · line below: label" : "bar: prediction, darker where it is surer";
    this.layout();
  }

  // Give each group its rows, the first to come first.
  place(groups) {
    groups.sort((a, b) => a.first - b.first);
    this.rows = [];
    let y = RULER;
    for (const group of groups) {
      this.rows.push({ y, height: HEAD, group });
      y += HEAD;
      for (const lane of group.lanes) {
        this.rows.push({ y, height: LANE, group, lane });
        y += LANE;
      }
    }
    this.height = y + 8;
    this.summary.textContent = groups.length ? counted(groups.length, "person", "people") : "nobody";
  }

  // Labelled people over time, each joined to the track it overlaps most often.
  truthRuns() {
    const { app } = this;
    const { clip } = app;
    const edits = app.edits.of(clip.index);
    const people = new Map();
    clip.times.forEach((_, k) => {
      const list = edits.get(k)?.people ?? clip.truth[k];
      if (!list?.length) return;
      for (const person of list) {
        if (!people.has(person.id)) people.set(person.id, { id: person.id, k: [], lanes: new Map(), votes: new Map() });
        const entry = people.get(person.id);
        entry.k.push(k);
        for (const column of person.labels) {
          if (!app.classOn[column]) continue;
          if (!entry.lanes.has(column)) entry.lanes.set(column, new Set());
          entry.lanes.get(column).add(k);
        }
      }
      for (const [i, j] of pairUp(list, clip.guesses[k], 0.5)) {
        const { votes } = people.get(list[i].id);
        const track = clip.guesses[k][j].id;
        votes.set(track, (votes.get(track) ?? 0) + 1);
      }
    });
    return [...people.values()].map((entry) => {
      const best = [...entry.votes].sort((a, b) => b[1] - a[1])[0];
      return { ...entry, track: best ? best[0] : null };
    });
  }

  group(name, color, ks, lanes, truths, target) {
    const columns = new Set([...lanes.keys(), ...truths.flatMap((person) => [...person.lanes.keys()])]);
    const order = [...columns].sort((a, b) => (lanes.get(b)?.length ?? 0) - (lanes.get(a)?.length ?? 0) || a - b);
    return { name, color, ks, target, first: Math.min(...ks, ...truths.flatMap((person) => person.k)),
      lanes: order.map((column) => ({ column, spans: lanes.get(column) ?? [],
        truth: new Set(truths.flatMap((person) => [...(person.lanes.get(column) ?? [])])) })) };
  }

  get left() {
    return Math.min(GUTTER, this.scroller.clientWidth * 0.4);
  }

  layout() {
    if (!this.rows) return;
    const width = this.scroller.clientWidth;
    this.span = Math.max(0.001, this.app.clip.end - this.app.clip.start);
    this.perSecond = (this.zoom * (width - this.left - 12)) / this.span;
    this.inner.style.width = `${this.left + 12 + this.perSecond * this.span}px`;
    this.inner.style.height = `${this.height}px`;
    this.scroller.style.height = `${Math.max(90, this.height) + 2}px`;
    const height = Math.min(this.scroller.clientHeight, Math.max(90, this.height));
    const scale = window.devicePixelRatio || 1;
    this.view.style.width = `${width}px`;
    this.view.style.height = `${height}px`;
    if (this.canvas.width !== Math.round(width * scale) || this.canvas.height !== Math.round(height * scale)) {
      this.canvas.width = Math.round(width * scale);
      this.canvas.height = Math.round(height * scale);
      this.canvas.style.width = `${width}px`;
      this.canvas.style.height = `${height}px`;
    }
    this.gutter.style.width = `${this.left}px`;
    this.gutter.style.height = `${height}px`;
    this.size = [width, height];
    this.zoomers[0].disabled = this.zoom <= 1;
    this.draw();
  }

  zoomBy(factor) {
    const most = Math.max(1, (60 * this.span) / Math.max(100, this.scroller.clientWidth) / this.app.clip.spacing);
    this.zoom = clamp(this.zoom * factor, 1, Math.max(4, most));
    this.layout();
    this.follow(true);
  }

  x(time) {
    return this.left + 4 + (time - this.app.clip.start) * this.perSecond - this.scroller.scrollLeft;
  }

  press(event) {
    if (!this.size) return;
    const frame = this.canvas.getBoundingClientRect();
    const x = event.clientX - frame.left;
    const y = event.clientY - frame.top + this.scroller.scrollTop;
    if (x < this.left) return;
    const { app } = this;
    const time = app.clip.start + (x - this.left - 4 + this.scroller.scrollLeft) / this.perSecond;
    const row = event.clientY - frame.top > RULER ? this.rows.find((r) => y >= r.y && y < r.y + r.height) : null;
    const k = app.clip.nearest(time);
    // Near a keyframe on screen: that keyframe.
    const near = k >= 0 && Math.abs(app.clip.times[k] - time) * this.perSecond < 5;
    app.seek(near || (row && k >= 0) ? app.clip.times[k] : time);
    if (row && event.type === "pointerdown") app.choose(...row.group.target);
  }

  // Keep the playhead in view.
  follow(center = false) {
    if (!this.size) return;
    const x = this.x(this.app.player.time);
    if (!center && x >= this.left && x <= this.size[0] - 30) return;
    this.scroller.scrollLeft += x - this.left - (this.size[0] - this.left) / (center ? 2 : 8);
  }

  draw() {
    if (!this.rows || !this.size) return;
    const style = getComputedStyle(document.documentElement);
    const color = (name) => style.getPropertyValue(`--${name}`).trim();
    const { app } = this;
    this.dark = window.matchMedia("(prefers-color-scheme: dark)").matches;
    const [width, height] = this.size;
    const scale = window.devicePixelRatio || 1;
    const g = this.canvas.getContext("2d");
    g.setTransform(scale, 0, 0, scale, 0, 0);
    g.clearRect(0, 0, width, height);
    const top = this.scroller.scrollTop;
    const visible = this.rows.filter((row) => row.y + row.height > top + RULER && row.y < top + height);
    const edges = this.edges();
    for (const row of visible) {
      const y = row.y - top;
      if (!row.lane) this.drawHead(g, row, y, width, edges, color);
      else this.drawLane(g, row, y, width, edges, color);
    }
    g.fillStyle = color("card");
    g.fillRect(0, 0, width, RULER);
    this.drawRuler(g, width, color);
    this.drawGutter(visible, top);
    this.point();
  }

  // Move the playhead: all that a seek changes here.
  point() {
    if (!this.size) return;
    const x = this.x(this.app.player.time);
    this.head.hidden = x < this.left - 1 || x > this.size[0];
    this.head.style.transform = `translateX(${x}px)`;
  }

  // Where a keyframe's stretch ends: half way to its neighbours.
  edges() {
    const { times, spacing } = this.app.clip;
    return (k) => {
      const before = k > 0 ? Math.min(spacing, times[k] - times[k - 1]) : spacing;
      const after = k + 1 < times.length ? Math.min(spacing * 1.5, times[k + 1] - times[k]) : spacing;
      return [this.x(times[k] - before / 2), this.x(times[k] + after / 2)];
    };
  }

  drawHead(g, row, y, width, edges, color) {
    g.fillStyle = color("line");
    g.fillRect(this.left, y, width, 1);
    g.fillStyle = row.group.color ? inkOf(row.group.color, this.dark) : color("truth");
    g.globalAlpha = 0.45;
    for (const k of row.group.ks) {
      const [from, to] = edges(k);
      if (to > this.left && from < width) g.fillRect(from, y + 11, to - from + 0.5, 3);
    }
    g.globalAlpha = 1;
  }

  drawLane(g, row, y, width, edges, color) {
    g.fillStyle = color("lane");
    g.fillRect(this.left, y + 1, width, LANE - 2);
    for (const [k, score] of row.lane.spans) {
      const [from, to] = edges(k);
      if (to <= this.left || from >= width) continue;
      g.globalAlpha = 0.3 + (0.7 * score) / 1000;
      g.fillStyle = inkOf(row.group.color, this.dark);
      g.fillRect(from, y + 2, Math.max(1, to - from), LANE - 7);
    }
    g.globalAlpha = 1;
    g.fillStyle = color("truth");
    for (const k of row.lane.truth) {
      const [from, to] = edges(k);
      if (to > this.left && from < width) g.fillRect(from, y + LANE - 4, Math.max(1, to - from), 2);
    }
  }

  drawRuler(g, width, color) {
    const { app } = this;
    const { clip } = app;
    g.fillStyle = color("line");
    g.fillRect(0, RULER - 1, width, 1);
    const steps = [0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400];
    const step = steps.find((seconds) => seconds * this.perSecond > 64) ?? 28800;
    g.font = "11px system-ui, sans-serif";
    g.textBaseline = "middle";
    const first = Math.max(clip.start, clip.start + (this.scroller.scrollLeft - 60) / this.perSecond);
    for (let n = Math.ceil(first / step); n * step <= clip.end + 1e-9; n += 1) {
      const x = this.x(n * step);
      if (x > width) break;
      if (x < this.left - 2) continue;
      g.fillStyle = color("strong-line");
      g.fillRect(Math.round(x), 4, 1, 8);
      g.fillStyle = color("soft");
      g.fillText(clock(n * step, step < 1 ? 1 : 0), x + 4, 9);
    }
    // Reviewed and edited keyframes, and those with errors, as ticks of their own shape.
    const edits = app.doc.mode === "label" ? new Map() : app.edits.of(clip.index);
    const wrong = app.errorKeyframes();
    let last = -1;
    clip.times.forEach((time, k) => {
      const x = Math.round(this.x(time));
      if (x < this.left || x > width) return;
      const edit = edits.get(k);
      // Thousands of dots on one pixel are one dot.
      if (!edit && x === last) return;
      last = x;
      if (edit) {
        g.fillStyle = color(edit.reviewed ? "right" : "warn");
        g.fillRect(x - 1, 17, 3, edit.reviewed ? 10 : 6);
      } else if (wrong.has(k)) {
        g.fillStyle = color("wrong");
        g.globalAlpha = 0.4 + 0.6 * Math.min(1, wrong.get(k));
        g.beginPath();
        g.arc(x, 22, 2, 0, 7);
        g.fill();
        g.globalAlpha = 1;
      }
    });
  }

  drawGutter(visible, top) {
    const { app } = this;
    const wanted = visible.map((row) => `${row.y}`).join() + `|${top}|${app.revision}|${app.chosenKey}`;
    if (this.gutterKey === wanted) return;
    this.gutterKey = wanted;
    const focused = document.activeElement?.dataset?.key;
    this.gutter.replaceChildren(el("div", { style: { position: "absolute", "z-index": 1, inset: "0 0 auto 0",
      height: `${RULER}px`, background: "var(--card)" } }), ...visible.map((row) => {
      const style = { top: `${row.y - top}px`, height: `${row.height}px`, "line-height": `${row.height}px` };
      if (!row.lane) {
        return el("button", { class: `row${row.group.chosen ? " chosen" : ""}`, type: "button", style, title: row.group.name,
          "data-key": `row:${row.group.target.join(":")}`,
          onclick: () => app.goToPerson(...row.group.target, row.group.first) },
        el("span", { class: "dot", style: { "--c": row.group.color ?? "var(--truth)" } }), this.rowName(row.group));
      }
      const { name } = app.doc.classes[row.lane.column];
      return el("div", { class: "row", style, title: name }, name);
    }));
    if (focused?.startsWith("row:")) {
      [...this.gutter.querySelectorAll("[data-key]")].find((node) => node.dataset.key === focused)?.focus();
    }
  }

  rowName(group) {
    return group.name;
  }
}
