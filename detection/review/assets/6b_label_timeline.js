// The timeline of a label page: a row a person, lanes of what is picked; suggestions are faint.

class LabelTimeline extends Timeline {
  refresh() {
    const { app } = this;
    const groups = app.clip.tracks.map((track) => {
      const chosen = track === app.track;
      const cells = app.cells(track);
      const lanes = new Map();
      const lane = (column) => {
        if (!lanes.has(column)) lanes.set(column, { spans: [], truth: new Set() });
        return lanes.get(column);
      };
      cells.forEach((cell, j) => cell?.labels.forEach((column) => lane(column).truth.add(track.k[j])));
      if (chosen && app.doc.suggests) for (const [column] of app.suggestion()) lane(column);
      for (const [column, { spans }] of lanes) {
        track.k.forEach((k, j) => {
          const score = pairsOf(track.s[j]).find(([other]) => other === column)?.[1];
          if (score) spans.push([k, score]);
        });
      }
      return { name: `Person ${track.id}`, color: colorOf(track.id), ks: track.k, target: ["guess", track.id], first: track.k[0],
        track, cells, chosen, whole: app.edits.isWhole(app.clip.index, track),
        lanes: [...lanes].sort((a, b) => a[0] - b[0]).map(([column, { spans, truth }]) => ({ column, spans, truth })) };
    });
    this.place(groups);
    this.root.querySelector(".legend").textContent = groups.length ? "drag along the chosen person: the span that picks are for" : "";
    this.layout();
  }

  // Scroll to the row of the chosen person; lanes are gathered anew, since the chosen one shows suggestions.
  reveal() {
    this.revealing = true;
    this.refresh();
  }

  layout() {
    super.layout();
    // Not before the page has given it a size.
    if (!this.revealing || !this.rows || !this.scroller.clientHeight) return;
    this.revealing = false;
    const row = this.rows.find((one) => !one.lane && one.group.chosen);
    if (!row) return;
    const { scrollTop, clientHeight } = this.scroller;
    const bottom = row.y + HEAD + LANE * row.group.lanes.length;
    if (row.y < scrollTop + RULER) this.scroller.scrollTop = row.y - RULER;
    else if (bottom > scrollTop + clientHeight) this.scroller.scrollTop = bottom - clientHeight + 8;
  }

  press(event) {
    if (!this.size) return;
    const frame = this.canvas.getBoundingClientRect();
    const [x, y] = [event.clientX - frame.left, event.clientY - frame.top];
    const { app } = this;
    const time = app.clip.start + (x - this.left - 4 + this.scroller.scrollLeft) / this.perSecond;
    if (event.type === "pointermove") {
      if (this.from === undefined) { if (this.ruling) app.seek(time); return; }
      if (Math.abs(x - this.fromX) < 5 && !this.dragging) return;
      this.dragging = true;
      app.gap = null;
      app.setSpan(...[app.placeAt(this.from), app.placeAt(time)].sort((a, b) => a - b));
      return;
    }
    this.from = undefined;
    this.dragging = false;
    this.ruling = false;
    if (x < this.left) return;
    const row = y > RULER ? this.rows.find((r) => y + this.scroller.scrollTop >= r.y && y + this.scroller.scrollTop < r.y + r.height) : null;
    this.canvas.setPointerCapture(event.pointerId);
    if (row && !row.group.chosen) {
      app.choose(...row.group.target);
      return;
    }
    this.ruling = !row;
    if (row) [this.from, this.fromX] = [time, x];
    app.seek(time);
  }

  drawHead(g, row, y, width, edges, color) {
    const { group } = row;
    if (group.chosen) {
      g.fillStyle = color("hover");
      g.fillRect(this.left, y, width, HEAD + LANE * group.lanes.length);
    }
    g.fillStyle = color("line");
    g.fillRect(this.left, y, width, 1);
    const span = group.chosen ? this.app.span : null;
    group.ks.forEach((k, j) => {
      const [from, to] = edges(k);
      if (to <= this.left || from >= width) return;
      const cell = group.cells[j];
      const decided = this.app.edits.isDecided(cell);
      g.globalAlpha = span && (j < span[0] || j > span[1]) ? 0.25 : 1;
      g.fillStyle = cell?.nobody ? color("strong-line") : inkOf(group.color, this.dark);
      const high = group.chosen ? 10 : 6;
      if (decided) g.fillRect(from, y + (HEAD - high) / 2, to - from + 0.5, high);
      else { // an outline: still to be decided
        g.fillRect(from, y + (HEAD - high) / 2, to - from + 0.5, 2);
        g.fillRect(from, y + (HEAD + high) / 2 - 2, to - from + 0.5, 2);
      }
    });
    g.globalAlpha = 1;
    if (!span) return;
    const [[from], [, to]] = [edges(group.ks[span[0]]), edges(group.ks[span[1]])];
    g.fillStyle = color("accent");
    g.fillRect(from - 1, y + 2, 3, HEAD - 4);
    g.fillRect(to - 2, y + 2, 3, HEAD - 4);
    g.fillRect(from, y + 2, 8, 3);
    g.fillRect(from, y + HEAD - 5, 8, 3);
    g.fillRect(to - 8, y + 2, 8, 3);
    g.fillRect(to - 8, y + HEAD - 5, 8, 3);
  }

  drawLane(g, row, y, width, edges, color) {
    if (!row.group.chosen) {
      g.fillStyle = color("lane");
      g.fillRect(this.left, y + 1, width, LANE - 2);
    }
    g.fillStyle = inkOf(row.group.color, this.dark);
    const bar = (k, alpha, top, high) => {
      const [from, to] = edges(k);
      if (to <= this.left || from >= width) return;
      g.globalAlpha = alpha;
      g.fillRect(from, y + top, Math.max(1, to - from + 0.5), high);
    };
    for (const [k, score] of row.lane.spans) if (!row.lane.truth.has(k)) bar(k, 0.1 + (0.35 * score) / 1000, 3, LANE - 6);
    for (const k of row.lane.truth) bar(k, 1, 4, LANE - 8);
    g.globalAlpha = 1;
  }

  rowName(group) {
    return `${group.name}${group.whole ? "  ✓" : ""}`;
  }
}
