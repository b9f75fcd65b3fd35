// A label page: who is next over all clips, what has been decided, and the keys.

class LabelPage extends Page {
  constructor(doc) {
    super(doc);
    this.top.addEventListener("mousedown", (event) => { if (event.target.closest("button")) event.preventDefault(); });
  }

  makeEdits() {
    // What views need, before the first one is made.
    this.order = this.doc.order;
    this.looping = true;
    this.rate = 1;
    this.movesOn = this.doc.classes.every((_, column) => this.doc.groupOf[column] !== undefined);
    return new Picks(this.doc, (index) => this.clipOf(index), () => this.editsChanged());
  }

  makeView(index) {
    return index >= 0 ? new LabelView(this, index) : new LabelSheet(this);
  }

  get exportWords() {
    return "Export labels";
  }

  progress() {
    const { decided, people, done, videos } = this.edits.counts;
    const number = (value) => value.toLocaleString("en");
    return [decided, people, `${number(decided)} of ${counted(people, "person", "people")}, ${number(done)} of ${counted(videos, "video")}`];
  }

  // Who is chosen: a place in the order, -1 where nobody is.
  placeOf(id) {
    return this.order.findIndex(([index, other]) => index === this.index && other === id);
  }

  isOpen([index, id]) {
    return !this.edits.isWhole(index, this.clipOf(index).tracks.find((track) => track.id === id));
  }

  // Go to the next person in the order who is not decided, round about; without one there is only to export.
  next(id) {
    const at = this.placeOf(id);
    const rest = [...this.order.slice(at + 1), ...this.order.slice(0, Math.max(0, at))];
    const found = rest.find((entry) => this.isOpen(entry));
    if (found) this.show(...found);
    else if (at >= 0 && this.isOpen(this.order[at])) this.announce("This is the last person who is not decided");
    else this.openExport();
  }

  before(id) {
    const at = this.placeOf(id);
    if (at > 0) this.show(...this.order[at - 1]);
    else if (at < 0 && this.order.length) this.next();
  }

  show(index, id) {
    if (index === this.index && this.view.choose) {
      this.view.panels.tab = "person";
      this.view.choose("guess", id);
    } else {
      this.wanted = id;
      this.goToVideo(index);
    }
  }

  follow(step, words) {
    if (!step) return;
    this.announce(words);
    this.show(step.index, step.k);
  }

  key(event) {
    // Tab leads to the next person, but moves the focus as ever once it is on a control.
    const free = this.index >= 0 && (document.activeElement === document.body || event.target.closest?.(".stage"));
    if (event.key === "Tab" && !free) return;
    super.key(event);
  }

  exportFacts(videos, again) {
    const { decided, people, begun } = this.edits.counts;
    const exported = videos.reduce((sum, video) => sum + video.people.length + video.nobody.length, 0);
    return [el("p", {}, people && decided === people ? `Everybody is decided: ${counted(people, "person", "people")}.`
      : `${decided.toLocaleString("en")} of ${counted(people, "person", "people")} decided.`,
    exported > decided ? ` Of ${counted(exported - decided, "other")} a part is decided, and exported.` : "",
    videos.length ? "" : " There is nothing to export yet."),
    begun ? el("p", { class: "soft" }, `${counted(begun, "person has", "people have")} picks and ${begun === 1 ? "is" : "are"} not decided as a whole. `,
      el("button", { type: "button", id: "decide-begun", onclick: again(() => this.decideBegun()) }, "They are as picked")) : null];
  }

  // Cells without a pick stay open: only what was picked is taken for decided.
  decideBegun() {
    this.edits.together(() => this.order.forEach(([index, id]) => {
      const track = this.clipOf(index).tracks.find((one) => one.id === id);
      const cells = this.edits.cells(index, track);
      if (!cells.some((cell) => this.edits.isPicked(cell) && !this.edits.isDecided(cell))) return;
      this.edits.change(index, id, cells.map((cell) => (this.edits.isPicked(cell) ? { ...cell, done: true } : cell)));
    }));
  }

  exportCommands() {
    const folder = this.datasetFolder();
    const typed = folder === null ? "DATASET" : /^[\w./:-]+$/.test(folder) ? folder : `'${folder.replaceAll("'", "'\\''")}'`;
    const which = folder === null ? ` (DATASET is the folder of ${this.doc.title})` : "";
    return [el("p", {}, `Save it into the folder `, el("code", {}, `${folder ?? "DATASET"}/labels/`), `${which}, then:`),
      el("pre", {}, `python -m ava_tools.teach --dataset ${typed}`),
      el("p", { class: "soft" }, "That learns from it and writes this page again with suggestions, the most useful people first. "
        + "Picks stay in this browser too.")];
  }

  // The data set folder, where this page lies in it as `label` writes it; else null.
  datasetFolder() {
    const found = location.protocol === "file:" && /^(.+)\/label\/[^/]+$/.exec(decodeURIComponent(location.pathname));
    return found ? found[1].replace(/^\/(?=[A-Za-z]:)/, "") : null;
  }

  get importUnits() {
    return ["person", "people"];
  }

  keys() {
    const { doc } = this;
    return [["1 … 9", "pick a class for the person: all of the track, or the span. Digits choose no person here"],
      ["Enter", "decided as picked (without a pick: none of these), next undecided person; Tab does the same"],
      ["Shift+Enter", "the person before"], ["N", "next person, this one stays undecided"],
      ["0 X", "nobody: the box is wrong"], ...(doc.suggests ? [["A", "accept the suggestion, next person"]] : []),
      ["[ ]", "the span that picks are for starts, ends here (also I, O; or drag along the person in the timeline)"],
      ["Esc", "picks are for the whole person again"], ["Delete", "take picks back"],
      ...(doc.classes.length > 9 ? [["L", "find a class by typing"]] : []),
      ["Space", "play, pause"], ["← →", "keyframe before, next; with Shift ten"], [", .", "a frame back, on"], ["− +", "slower, faster"],
      ["Ctrl+Z, Ctrl+Shift+Z", "undo, redo"], ["E", "export"], ["?", "this list"]];
  }
}

// All clips; the button, or Enter, leads to the next person.
class LabelSheet extends Sheet {
  orders() {
    return [["given", "As given"], ["name", "By name"], ["open", "Least decided first"]];
  }

  actions() {
    return [el("button", { type: "button", class: "main", id: "begin", onclick: () => this.page.next() }, "Label the next person ", el("kbd", {}, "Enter"))];
  }

  share(i) {
    return this.page.edits.counts.byVideo[i];
  }

  facts(i) {
    const [done, all] = this.share(i);
    return [el("span", { class: "soft small" }, all ? `${done} of ${counted(all, "person", "people")} decided` : "nobody detected")];
  }

  changed() {
    this.fill();
  }

  key(event) {
    if (event.key !== "Enter") return false;
    this.page.next();
    return true;
  }
}

const reviewed = readDocument();
window.review = reviewed.mode === "label" ? new LabelPage(reviewed) : new Page(reviewed);
