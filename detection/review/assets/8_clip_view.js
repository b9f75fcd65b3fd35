// One clip on the page: what is chosen, what is shown, and every correction as one step.

const SPEEDS = [0.25, 0.5, 1, 2, 4];

class ClipView {
  constructor(page, index) {
    Object.assign(this, { page, doc: page.doc, edits: page.edits, clip: page.clipOf(index) });
    this.classOn = page.classOn;
    this.revision = 0;
    this.chosen = null;
    this.picking = null;
    this.show = { guess: true, truth: true };
    this.thresholds = thresholdsOf(this.doc, page.slider);
    this.player = new Player(this.clip, () => this.render());
    this.makeParts();
    this.root = el("main", { class: "clip" },
      el("div", { class: "left" }, this.stage.root, this.controls(), this.timeline.root), this.panels.root);
    this.k = this.clip.nearest(this.clip.start);
    this.begin();
  }

  makeParts() {
    this.stage = new Stage(this);
    this.timeline = new Timeline(this);
    this.panels = new Panels(this);
  }

  begin() {
    if (this.clip.times.length) this.player.seek(this.clip.times[this.clip.firstShown(this.thresholds)]);
  }

  close() {
    this.player.close();
  }

  // Everything that depends on thresholds, filters and corrections.
  changed() {
    this.revision += 1;
    this.filtered = !this.classOn.every(Boolean);
    this.thresholds = thresholdsOf(this.doc, this.page.slider);
    this.runs = null;
    this.timeline.refreshSoon();
    this.render();
  }

  render() {
    const { time } = this.player;
    this.k = this.clip.nearest(time);
    this.atKeyframe = this.clip.exactly(time) >= 0;
    this.filtered = !this.classOn.every(Boolean);
    this.stage.render();
    this.panels.render();
    if (this.player.playing) this.timeline.follow();
    this.timeline.point();
    this.clockText.textContent = `${clock(time)} / ${clock(this.clip.end)}`;
    this.position.value = time;
    this.position.setAttribute("aria-valuetext", clock(time, 1));
    const playing = this.player.playing;
    if (this.playButton.dataset.on !== String(playing)) {
      this.playButton.dataset.on = String(playing);
      this.playButton.textContent = playing ? "Pause" : "Play";
    }
    this.page.renderTop();
  }

  controls() {
    const button = (text, name, keys, act, more = {}) => el("button", { type: "button", "aria-label": name,
      title: `${name} (${keys})`, onclick: act, ...more }, text);
    this.playButton = el("button", { type: "button", title: "Space", style: { "min-width": "72px" },
      onclick: () => this.player.toggle() }, "Play");
    this.clockText = el("span", { class: "time soft" });
    this.position = el("input", { type: "range", min: this.clip.start, max: this.clip.end, step: "any",
      "aria-label": "Position in the video", 
      oninput: (event) => this.seek(Number(event.target.value)) });
    this.sliderText = el("output", {}, this.page.slider.toFixed(2));
    this.slider = el("input", { type: "range", min: 0, max: 1, step: 0.01, value: this.page.slider,
      "aria-label": "Least score of a label", style: { width: "110px" },
      oninput: (event) => this.setThreshold(Number(event.target.value)) });
    const layer = (kind, text, swatch) => el("label", {}, el("input", { type: "checkbox", checked: true,
      onchange: (event) => { this.show[kind] = event.target.checked; this.render(); } }),
    el("span", { class: swatch, "aria-hidden": "true" }), text);
    this.rate = el("select", { "aria-label": "Speed", onchange: (event) => this.setRate(Number(event.target.value)) },
      ...SPEEDS.map((speed) => el("option", { value: speed, selected: speed === 1 }, `${speed}×`)));
    return el("div", { role: "group", "aria-label": "Controls" },
      el("div", { class: "position" }, this.position, this.clockText), el("div", { class: "controls" },
      el("div", { class: "group" }, button("◀", "Keyframe before", "←", () => this.step(-1)), this.playButton,
        button("▶", "Next keyframe", "→", () => this.step(1)), this.rate),
      el("span", { class: "grow" }), ...this.options(layer)));
  }

  options(layer) {
    return [el("label", {}, "Score from", this.slider, this.sliderText), layer("guess", "Predictions", "swatch dashed"),
      layer("truth", this.clip.hasTruth ? "Ground truth" : "Corrections", "swatch")];
  }

  setRate(rate) {
    this.player.video.playbackRate = rate;
  }

  // What is shown

  labels(k = this.k) {
    return this.clip.labelsAt(k, this.edits.of(this.clip.index), this.thresholds);
  }

  shownPeople() {
    const { clip } = this;
    const edits = this.edits.of(clip.index);
    const time = this.player.time;
    const at = clip.exactly(time);
    const moment = at >= 0 && !this.player.playing ? clip.times[at] : time;
    const near = clip.nearest(moment);
    let guesses = [];
    let truth = [];
    if (clip.times.length) {
      // Where labels came from the prediction, a corrected keyframe shows the correction alone.
      const replaced = !clip.hasTruth && edits.has(near);
      if (this.show.guess && !replaced) guesses = clip.peopleAt(moment, (k) => clip.guesses[k]);
      if (this.show.truth) truth = clip.peopleAt(moment, (k) => edits.get(k)?.people ?? clip.truth[k] ?? []);
    }
    const on = (column) => this.classOn[column];
    guesses = guesses.map((guess) => ({ ...guess, shownLabels: [...clip.proposed(guess, this.thresholds)].filter(on) }));
    truth = truth.map((person) => ({ ...person, shownLabels: [...person.labels].filter(on) }));
    const kept = (person) => !this.filtered || person.shownLabels.length > 0;
    return { guess: guesses.filter(kept), truth: truth.filter(kept), both: truth.length > 0 || clip.hasTruth,
      crowd: guesses.length + truth.length > 7 };
  }

  tagText(kind, person, short = false) {
    const names = person.shownLabels.map((column) => {
      const score = kind === "guess" ? person.scores.find(([other]) => other === column)?.[1] : undefined;
      const { name } = this.doc.classes[column];
      return score === undefined || short ? name : `${name} ${percent(score)}`;
    });
    const shown = this.isChosen(kind, person.id) ? names : names.slice(0, short ? 1 : 2);
    const more = names.length > shown.length ? ` +${names.length - shown.length}` : "";
    return [person.id < 0 ? "–" : String(person.id), shown.join(", ") + more];
  }

  isChosen(kind, id) {
    return this.chosen !== null && this.chosen.kind === kind && this.chosen.id === id;
  }

  get chosenKey() {
    return this.chosen ? `${this.chosen.kind}:${this.chosen.id}` : "";
  }

  // Only labels as they stand are edited, at a keyframe, in rest.
  isEditable(kind) {
    if (!this.atKeyframe || this.player.playing || this.k < 0) return false;
    return (kind === "guess") === (this.labels().source === "guess");
  }

  // How often each class is predicted and labelled, over all keyframes.
  classCounts() {
    const guess = this.doc.classes.map(() => 0);
    const truth = this.doc.classes.map(() => 0);
    for (const people of this.clip.guesses) {
      for (const { scores } of people) for (const [column, score] of scores) if (score >= this.thresholds[column]) guess[column] += 1;
    }
    for (const people of this.clip.truth) for (const { labels } of people ?? []) for (const column of labels) truth[column] += 1;
    return { guess, truth };
  }

  // Moving about

  seek(time) {
    this.player.pause();
    this.picking = null;
    this.player.seek(time);
    this.timeline.follow();
  }

  step(count) {
    const { times } = this.clip;
    if (!times.length) return;
    const at = this.clip.exactly(this.player.time);
    let k = at + count;
    if (at < 0) {
      const after = upperBound(times, this.player.time);
      k = count > 0 ? after + count - 1 : after + count;
    }
    this.seek(times[clamp(k, 0, times.length - 1)]);
    this.tell();
  }

  tell() {
    if (this.k < 0) return;
    const { source, people } = this.labels();
    const edit = this.edits.of(this.clip.index).get(this.k);
    this.page.announce(`Keyframe ${this.k + 1} of ${this.clip.times.length}, ${clock(this.clip.times[this.k], 1)}, `
      + `${counted(people.length, "person", "people")}${source === "guess" ? " predicted" : ""}${edit?.reviewed ? ", reviewed" : ""}`);
  }

  choose(kind, id) {
    this.chosen = kind ? { kind, id } : null;
    this.render();
    this.panels.reveal();
  }

  goToPerson(kind, id, first) {
    const here = kind === "guess" ? this.clip.guesses[this.k] : this.labels().people;
    if (!here?.some((person) => person.id === id)) this.seek(this.clip.times[first]);
    this.panels.tab = "keyframe";
    this.choose(kind, id);
  }

  setThreshold(value) {
    this.page.slider = value;
    this.sliderText.textContent = value.toFixed(2);
    this.changed();
  }

  // Errors: those of the threshold, neighbours of one kind, class and person in one entry.

  errorRuns() {
    if (this.runs) return this.runs;
    const runs = [];
    const open = new Map();
    for (const [k, kind, column, score, who] of [...this.clip.errors].sort((a, b) => a[0] - b[0])) {
      const name = this.doc.errorKinds[kind];
      if (!this.classOn[column]) continue;
      const missed = name.startsWith("missed");
      const threshold = this.thresholds[column];
      if (name !== "unsure" && (missed ? score >= threshold : score < threshold)) continue;
      const weight = name === "unsure" ? 1 - Math.abs(score - threshold) / 150 : (missed ? 1000 - score : score) / 1000;
      if (weight <= 0) continue;
      const key = `${kind}:${column}:${who}`;
      const run = open.get(key);
      if (run && k - run.ks.at(-1) <= 1) {
        run.ks.push(k);
        if (weight > run.worst) Object.assign(run, { worst: weight, score, at: k });
      } else {
        const fresh = { name: `${key}:${k}`, kind: name, column, who, ks: [k], worst: weight, score, at: k };
        open.set(key, fresh);
        runs.push(fresh);
      }
    }
    runs.sort((a, b) => b.worst - a.worst || b.ks.length - a.ks.length || a.at - b.at);
    this.marked = new Map();
    for (const run of runs) for (const k of run.ks) this.marked.set(k, Math.max(this.marked.get(k) ?? 0, run.worst));
    this.runs = runs;
    return runs;
  }

  errorKeyframes() {
    this.errorRuns();
    return this.clip.hasTruth ? this.marked : new Map();
  }

  errorTarget(error) {
    return error.kind.startsWith("missed") ? ["truth", error.who] : ["guess", error.who];
  }

  errorPerson(error) {
    const [kind, id] = this.errorTarget(error);
    if (id < 0) return "a person without id";
    return `${kind === "truth" ? "person" : "prediction"} ${id}`;
  }

  goToError(error) {
    this.seek(this.clip.times[error.at]);
    this.chosenError = error.name;
    this.choose(...this.errorTarget(error));
    this.tell();
  }

  nextError(step) {
    const runs = this.errorRuns();
    if (!runs.length) return;
    const at = runs.findIndex((run) => run.name === this.chosenError);
    this.goToError(runs[at < 0 ? 0 : clamp(at + step, 0, runs.length - 1)]);
  }

  // Corrections. Each takes the whole list of people at the keyframe, changes a copy, and is one step.

  correct(change, more = {}) {
    if (this.k < 0) return;
    if (!this.atKeyframe || this.player.playing) this.seek(this.clip.times[this.k]);
    const { source, people } = this.labels();
    const copy = people.map((person) => ({ id: person.id, box: person.box, labels: new Set(person.labels) }));
    const edit = this.edits.of(this.clip.index).get(this.k);
    if (this.chosen?.kind === "guess" && source === "guess") this.chosen.kind = "truth";
    this.edits.change(this.clip.index, this.k, { people: change(copy) ?? copy, reviewed: edit?.reviewed ?? false, ...more });
  }

  setLabel(id, column, on) {
    const exclusive = this.doc.exclusive[this.doc.groupOf[column]] ?? [];
    this.chosen = { kind: "truth", id };
    this.correct((people) => {
      const person = people.find((other) => other.id === id);
      if (!person) return;
      if (on) {
        for (const other of exclusive) person.labels.delete(other);
        person.labels.add(column);
      } else person.labels.delete(column);
    });
  }

  setBox(id, box) {
    this.correct((people) => {
      const person = people.find((other) => other.id === id);
      if (person) person.box = box;
    });
  }

  removePerson(id) {
    this.correct((people) => people.filter((person) => person.id !== id));
    this.chosen = null;
    this.picking = null;
    this.render();
    this.page.announce("Box deleted");
  }

  draw() {
    if (this.k < 0) return;
    if (!this.atKeyframe || this.player.playing) this.seek(this.clip.times[this.k]);
    this.drawing = true;
    this.render();
    this.page.announce("Drag a box on the video, or press Enter for a box in the middle");
  }

  addPerson(box, labels = []) {
    this.drawing = false;
    const id = this.idFor(box);
    this.chosen = { kind: "truth", id };
    this.correct((people) => { people.push({ id, box, labels: new Set(labels) }); });
    this.picking = labels.length ? null : id;
    this.panels.tab = "keyframe";
    this.render();
    const input = this.panels.panel.querySelector(".picker input");
    input?.focus();
  }

  adopt(guess) {
    this.addPerson(guess.box, this.clip.proposed(guess, this.thresholds));
  }

  // The id of the person who is there in a neighbouring keyframe, else a new one.
  idFor(box) {
    const taken = new Set(this.labels().people.map((person) => person.id));
    for (const k of [this.k - 1, this.k + 1]) {
      if (k < 0 || k >= this.clip.times.length) continue;
      const near = this.labels(k).people.map((person) => [iou(person.box, box), person.id])
        .filter(([overlap, id]) => overlap > 0.4 && id >= 0 && !taken.has(id)).sort((a, b) => b[0] - a[0]);
      if (near.length) return near[0][1];
    }
    let most = Math.max(-1, ...this.clip.tracks.map((track) => track.id));
    const edits = this.edits.of(this.clip.index);
    for (const list of [...this.clip.truth, ...[...edits.values()].map((edit) => edit.people)]) {
      for (const person of list ?? []) most = Math.max(most, person.id);
    }
    return most + 1;
  }

  review() {
    const edit = this.edits.of(this.clip.index).get(this.k);
    this.correct(() => undefined, { reviewed: !edit?.reviewed });
    this.tell();
  }

  revert() {
    this.chosen = null;
    this.edits.change(this.clip.index, this.k, null);
  }

  pick(id) {
    this.picking = id;
    this.pickText = "";
    this.render();
    this.panels.panel.querySelector(id === null ? "[data-home]" : ".picker input")?.focus();
  }

  key(event) {
    const { key } = event;
    if (key === "Escape") {
      if (this.drawing) { this.drawing = false; this.render(); } else this.choose(null);
    } else if (key === "Enter" && this.drawing) this.addPerson([0.4, 0.25, 0.6, 0.85]);
    else if (key === " ") this.player.toggle();
    else if (key === "ArrowLeft" || key === "ArrowRight") {
      this.step((key === "ArrowLeft" ? -1 : 1) * (event.shiftKey ? 10 : 1));
    } else if (key === "Home" || key === "End") this.seek(key === "Home" ? this.clip.start : this.clip.end);
    else if (key === "," || key === ".") this.seek(this.player.time + (key === "," ? -0.04 : 0.04));
    else if (key === "j" || key === "k") this.nextError(key === "j" ? 1 : -1);
    else if (key === "r") this.review();
    else if (key === "n") this.draw();
    else if (key === "l" && this.chosenLabelled()) { this.panels.tab = "keyframe"; this.pick(this.chosen.id); }
    else if (key === "p" || key === "g") this.showNext(key === "p" ? "guess" : "truth");
    else if ((key === "Delete" || key === "Backspace") && this.chosenLabelled()) this.removePerson(this.chosen.id);
    else if (/^[1-9]$/.test(key)) this.chooseNth(Number(key) - 1);
    else return false;
    return true;
  }

  chosenLabelled() {
    return this.chosen !== null && this.k >= 0
      && (this.chosen.kind === "guess") === (this.labels().source === "guess")
      && this.labels().people.some((person) => person.id === this.chosen.id);
  }

  chooseNth(n) {
    if (this.k < 0) return;
    const { source, people } = this.labels();
    if (!people[n]) return;
    const kind = source === "guess" ? "guess" : "truth";
    this.choose(kind, people[n].id);
    this.stage.nodes.get(`${kind}:${people[n].id}`)?.focus();
  }

  showNext(kind) {
    const box = this.root.querySelectorAll(".controls input[type=checkbox]")[kind === "guess" ? 0 : 1];
    box.checked = !box.checked;
    this.show[kind] = box.checked;
    this.render();
  }
}
