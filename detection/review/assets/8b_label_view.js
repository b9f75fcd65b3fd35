// One clip of a label page: a person at a time is looked at in a loop and given labels, all of the
// track at once or a span of it.

class LabelView extends ClipView {
  makeParts() {
    this.span = null; // [first place, last place] of the chosen track that picks are for; null: all of it
    this.gap = null; // the span that has no pick while the others have, once Enter was pressed
    this.stage = new Stage(this);
    this.timeline = new LabelTimeline(this);
    this.panels = new LabelPanels(this);
  }

  // The person that the page leads to, else the first one who is not decided.
  begin() {
    const { page, clip } = this;
    const open = (track) => !this.edits.isWhole(clip.index, track);
    const ordered = page.order.filter(([index]) => index === clip.index).map(([, id]) => this.trackOf(id));
    const track = ordered.find(({ id }) => id === page.wanted) ?? ordered.find(open) ?? ordered[0];
    page.wanted = null;
    this.root.classList.add("labelling");
    // Buttons leave the focus where it is, so that the keys go on working.
    this.root.addEventListener("mousedown", (event) => {
      if (event.target.closest("button, label")) event.preventDefault();
    });
    for (const control of [this.rate, this.position, this.slider]) control.addEventListener("change", () => control.blur());
    if (track) this.choose("guess", track.id);
    else if (clip.times.length) this.player.seek(clip.times[0]);
  }

  options() {
    const check = (text, value, title, act) => el("label", { title }, el("input", { type: "checkbox", checked: value,
      onchange: (event) => act(event.target.checked) }), text);
    const { page } = this;
    return [this.doc.suggests && this.doc.classes.some((_, column) => this.doc.groupOf[column] === undefined)
      ? el("label", {}, "Suggest from", this.slider, this.sliderText) : "",
    check("Loop", page.looping, "Play the person's stretch again and again", (on) => { page.looping = on; }),
    this.doc.exclusive.length ? check("Move on by itself", page.movesOn,
      "Go to the next person once something is picked of each one-of group", (on) => { page.movesOn = on; }) : ""];
  }

  setRate(rate) {
    this.page.rate = rate;
    super.setRate(rate);
  }

  changed() {
    super.changed();
    if (this.player.video.playbackRate !== this.page.rate) this.setSpeed(this.page.rate);
  }

  setSpeed(rate) {
    this.rate.value = rate;
    this.setRate(rate);
  }

  render() {
    super.render();
    this.play();
  }

  // Begin to play once the first frame of the stretch is there, and begin again at its end.
  play() {
    const { player } = this;
    if (player.broken || player.offset === null || player.seeking || !this.track) return;
    if (this.starting) {
      this.starting = false;
      player.start();
      return;
    }
    if (!this.page.looping) return;
    const [from, to] = this.stretch();
    if (player.video.ended || (player.playing && (player.time >= to || player.time < from - 0.5))) {
      player.seek(from);
      player.start();
    }
  }

  // When the chosen person is there, a second at least.
  stretch() {
    const { clip, track } = this;
    const slack = Math.max(0.5, clip.spacing / 2);
    return [Math.max(clip.start, clip.times[track.k[0]] - slack), clip.times[track.k.at(-1)] + slack];
  }

  // People

  trackOf(id) {
    return this.clip.tracks.find((track) => track.id === id);
  }

  get track() {
    return this.chosen ? this.trackOf(this.chosen.id) : undefined;
  }

  cells(track = this.track) {
    return this.edits.cells(this.clip.index, track);
  }

  // The places that picks are for.
  places() {
    return this.span ?? [0, this.track.k.length - 1];
  }

  choose(kind, id) {
    if (kind === null || kind === undefined) return; // a click beside all boxes
    const other = this.chosen?.id !== id;
    super.choose(kind, id);
    if (!other) return;
    this.span = null;
    this.gap = null;
    this.picking = null;
    this.starting = true;
    this.player.pause();
    this.player.seek(this.stretch()[0]);
    this.timeline.reveal();
    this.timeline.draw();
    this.panels.render();
    this.tell();
  }

  goToPerson(kind, id) {
    this.panels.tab = "person";
    this.choose(kind, id);
  }

  tell() {
    if (!this.track) return;
    const [from, to] = [this.track.k[0], this.track.k.at(-1)].map((k) => clock(this.clip.times[k], 1));
    this.page.announce(`Person ${this.chosen.id}, ${from} to ${to}, ${this.stateText(this.track)}`);
  }

  // In words: what is decided about a track, span by span where it changes.
  stateText(track) {
    const runs = runsOf(this.cells(track).map((cell) => (cell === null ? null : { ...cell, done: this.edits.isDecided(cell) })));
    const texts = runs.map(([cell]) => cellText(this.doc, cell));
    return texts.filter((text, i) => text !== texts[i - 1]).join(" → ");
  }

  shownPeople() {
    const { clip } = this;
    const at = clip.exactly(this.player.time);
    const moment = at >= 0 && !this.player.playing ? clip.times[at] : this.player.time;
    const people = clip.times.length ? clip.peopleAt(moment, (k) => clip.guesses[k]) : [];
    return { truth: [], both: false, crowd: people.length > 7, guess: people.map((person) => {
      const cell = this.cells(person.track)[person.place];
      return { ...person, cell, shownLabels: cell?.labels ?? [], faint: person.id !== this.chosen?.id };
    }) };
  }

  tagText(kind, person, brief = false) {
    const text = this.edits.isDecided(person.cell) ? cellText(this.doc, person.cell)
      : person.shownLabels.map((column) => this.doc.classes[column].name).join(", ");
    return [String(person.id), brief && text.length > 12 ? `${text.slice(0, 11)}…` : text];
  }

  isEditable() {
    return false;
  }

  // Picks

  // Change the chosen cells as one step.
  put(change) {
    const [from, to] = this.places();
    this.gap = null;
    this.edits.set(this.clip.index, this.track, from, to, change);
  }

  // How many of the chosen cells have a class.
  having(column) {
    const [from, to] = this.places();
    return this.cells().slice(from, to + 1).filter((cell) => cell?.labels.includes(column)).length;
  }

  toggle(column) {
    if (!this.track) return;
    const [from, to] = this.places();
    const on = this.having(column) <= to - from;
    this.put((cell) => withLabel(this.doc, cell, column, on));
    const { name } = this.doc.classes[column];
    this.page.announce(`${name} ${on ? "picked" : "taken back"}`);
    const whole = this.edits.isWhole(this.clip.index, this.track);
    if (on && whole && !this.span && this.page.movesOn && this.doc.groupOf[column] !== undefined) this.next();
  }

  // What the picker of many classes does.
  setLabel(_, column) {
    this.picking = null;
    this.toggle(column);
    this.render();
  }

  nobody() {
    if (!this.track) return;
    const [from, to] = this.places();
    const on = !this.cells().slice(from, to + 1).every((cell) => cell?.nobody);
    this.put(() => (on ? { labels: [], nobody: true, done: true } : null));
    this.page.announce(on ? "Nobody: the box is wrong" : "Taken back");
    if (on && !this.span) this.next();
  }

  clear() {
    if (!this.track || !this.cells().some(Boolean)) return;
    this.put(() => null);
    this.page.announce("Taken back");
  }

  // The score of each class over the chosen cells together, in thousandths.
  meanScores() {
    const [from, to] = this.places();
    const sums = this.doc.classes.map(() => 0);
    for (const flat of this.track.s.slice(from, to + 1)) for (const [column, score] of pairsOf(flat)) sums[column] += score;
    return sums.map((sum) => sum / (to - from + 1));
  }

  // The labels that the scores stand for: [[column, thousandths], ...].
  suggestion() {
    const { doc } = this;
    if (!doc.suggests || !this.track) return [];
    const mean = this.meanScores();
    const likeliest = doc.exclusive.map((columns) => columns.reduce((best, column) => (mean[column] > mean[best] ? column : best)));
    const free = doc.classes.map((_, column) => column)
      .filter((column) => doc.groupOf[column] === undefined && mean[column] >= this.thresholds[column]);
    return [...likeliest.filter((column) => mean[column] > 0), ...free].map((column) => [column, mean[column]]);
  }

  accept() {
    if (!this.doc.suggests || !this.track || !this.track.s.some((scores) => scores.length)) return;
    const labels = this.suggestion().map(([column]) => column).sort((a, b) => a - b);
    this.put(() => ({ labels, nobody: false, done: true }));
    this.page.announce(`Accepted: ${cellText(this.doc, this.cells()[this.places()[0]])}`);
    if (!this.span) this.next();
  }

  // Enter: the person is decided as picked, without a pick does none of these; and on to the next one.
  decide() {
    if (this.track && !this.edits.isWhole(this.clip.index, this.track)) {
      const gap = this.firstGap();
      if (gap && !this.gap) {
        this.gap = gap;
        this.setSpan(...gap);
        this.page.announce(this.gapText());
        return;
      }
      this.span = null;
      this.put((cell) => (this.edits.isDecided(cell) ? cell : { labels: [], nobody: false, ...cell, done: true }));
    }
    this.next();
  }

  // The first cells without a pick of some group, where other cells of the track have one.
  firstGap() {
    const cells = this.cells();
    const fine = cells.map((cell) => cell !== null && (cell.nobody || this.doc.exclusive.length === 0 || this.edits.isComplete(cell) || cell.done));
    if (!this.doc.exclusive.length || !fine.some(Boolean)) return null;
    const from = fine.indexOf(false);
    const end = fine.indexOf(true, from);
    return from < 0 ? null : [from, (end < 0 ? fine.length : end) - 1];
  }

  gapText() {
    return `Nothing is picked of a group at ${this.timesText(this.gap)}: pick, or press Enter once more for none there.`;
  }

  timesText([from, to]) {
    const { times } = this.clip;
    if (from === to) return clock(times[this.track.k[from]], 1);
    return `${clock(times[this.track.k[from]], 1)} to ${clock(times[this.track.k[to]], 1)}`;
  }

  next() {
    this.page.next(this.chosen?.id);
  }

  // Spans

  setSpan(from, to) {
    const last = this.track.k.length - 1;
    this.span = from <= 0 && to >= last ? null : [clamp(from, 0, last), clamp(to, 0, last)];
    this.render();
    this.timeline.draw();
  }

  // The place of the chosen track that is nearest to a time.
  placeAt(time) {
    const { clip, track } = this;
    let best = 0;
    track.k.forEach((k, j) => { if (Math.abs(clip.times[k] - time) < Math.abs(clip.times[track.k[best]] - time)) best = j; });
    return best;
  }

  mark(which) {
    if (!this.track) return;
    const here = this.placeAt(this.player.time);
    const [from, to] = this.places();
    this.gap = null;
    if (which === "start") this.setSpan(here, here > to ? this.track.k.length - 1 : to);
    else this.setSpan(here < from ? 0 : from, here);
    this.page.announce(this.span ? `Picks are for ${this.timesText(this.span)}` : "Picks are for the whole person");
  }

  key(event) {
    const { key } = event;
    const digit = /^[0-9]$/.test(key) ? key : /^(?:Digit|Numpad)([0-9])$/.exec(event.code ?? "")?.[1];
    if (key === "Escape") {
      if (this.picking !== null) this.pick(null);
      else if (this.span && this.track) { this.gap = null; this.setSpan(0, Infinity); }
    } else if (key === "Enter" || key === "Tab") {
      if (event.shiftKey) this.page.before(this.chosen?.id);
      else this.decide();
    } else if (key === "[" || key === "i") this.mark("start");
    else if (key === "]" || key === "o") this.mark("end");
    else if (key === "x" || digit === "0") this.nobody();
    else if (digit) { if (this.doc.classes[digit - 1]) this.toggle(Number(digit) - 1); }
    else if (key === "a") this.accept();
    else if (key === "n") this.next();
    else if (key === "l" && this.track) { this.panels.tab = "person"; this.pick(this.chosen.id); }
    else if (key === "Delete" || key === "Backspace") this.clear();
    else if (key === "+" || key === "=" || key === "-") {
      this.setSpeed(SPEEDS[clamp(SPEEDS.indexOf(this.page.rate) + (key === "-" ? -1 : 1), 0, SPEEDS.length - 1)]);
    } else if (key === " " || key.startsWith("Arrow") || key === "Home" || key === "End" || key === "," || key === ".") {
      return super.key(event);
    } else return false;
    return true;
  }

  // As in reviews, but a step does not end the choice, and says nothing about a keyframe's people.
  step(count) {
    this.starting = false;
    super.step(count);
  }

  seek(time) {
    this.starting = false;
    super.seek(time);
  }

  classCounts() {
    const none = this.doc.classes.map(() => 0);
    return { guess: none, truth: none };
  }

  errorKeyframes() {
    return new Map();
  }
}

// A cell with a class more or less; of an exclusive group one at most.
function withLabel(doc, cell, column, on) {
  const group = doc.groupOf[column];
  const kept = (cell?.labels ?? []).filter((other) => other !== column && !(on && group !== undefined && doc.groupOf[other] === group));
  const labels = on ? [...kept, column].sort((a, b) => a - b) : kept;
  return labels.length || cell?.done ? { labels, nobody: false, done: Boolean(cell?.done && !cell.nobody) } : null;
}
