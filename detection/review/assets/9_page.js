// The page: a sheet of clips or one clip, what has been reviewed, export, and the keys.

class Page {
  constructor(doc) {
    this.doc = doc;
    this.slider = this.doc.slider;
    this.classOn = this.doc.classes.map(() => true);
    this.clips = new Map();
    this.edits = this.makeEdits();
    this.top = el("header", { class: "top" });
    this.message = el("div", { class: "message", role: "alert", hidden: true });
    this.live = el("div", { class: "hidden", "aria-live": "polite" });
    document.body.append(this.top, this.message, this.live);
    if (this.doc.notes.length) {
      this.message.before(el("div", { class: "notes", role: "note" }, ...this.doc.notes.map((line) => el("p", {}, line))));
    }
    this.buildTop();
    document.addEventListener("keydown", (event) => this.key(event));
    window.addEventListener("hashchange", () => this.route());
    this.route();
    this.editsChanged();
  }

  makeEdits() {
    return new Edits(this.doc, (index) => this.clipOf(index), () => this.editsChanged());
  }

  makeView(index) {
    return index >= 0 ? new ClipView(this, index) : new Sheet(this);
  }

  clipOf(index) {
    if (!this.clips.has(index)) this.clips.set(index, new Clip(this.doc, index));
    return this.clips.get(index);
  }

  route() {
    let wanted = /^#clip=(.*)$/.exec(location.hash)?.[1] ?? "";
    try { wanted = decodeURIComponent(wanted); } catch { /* an address typed by hand: the sheet */ }
    let index = this.doc.videos.findIndex((video) => video.id === wanted);
    if (index < 0 && this.doc.videos.length === 1) index = 0;
    this.view?.close?.();
    this.view?.root.remove();
    this.index = index;
    this.view = this.makeView(index);
    document.body.append(this.view.root);
    document.title = index >= 0 && this.doc.videos.length > 1 ? `${this.doc.videos[index].id} – ${this.doc.title}` : this.doc.title;
    this.back.hidden = index < 0 || this.doc.videos.length === 1;
    const name = index >= 0 ? this.doc.videos[index].id : counted(this.doc.videos.length, "clip");
    const line = [name === this.doc.title ? "" : name, this.doc.note].filter(Boolean).join(" · ");
    this.subtitle.textContent = line;
    this.subtitle.title = line;
    if (index >= 0) this.view.changed();
    this.renderTop();
    window.scrollTo(0, 0);
  }

  buildTop() {
    const { doc } = this;
    this.back = el("button", { type: "button", onclick: () => { location.hash = ""; } }, "← All clips");
    this.subtitle = el("div", { class: "note soft small" });
    this.fill = el("div", { class: "fill" });
    this.reviewed = el("span", { class: "soft small" });
    this.undoButton = el("button", { type: "button", title: "Ctrl+Z", onclick: () => this.undo() }, "Undo");
    this.redoButton = el("button", { type: "button", title: "Ctrl+Shift+Z", onclick: () => this.redo() }, "Redo");
    this.top.append(this.back,
      el("div", { class: "names" }, el("h1", { title: doc.title }, doc.title),
        this.subtitle),
      el("div", { class: "progress" }, el("div", { class: "track", "aria-hidden": "true" }, this.fill), this.reviewed),
      this.undoButton, this.redoButton,
      el("button", { type: "button", id: "import", title: "A labels.json of this page, from another browser or a colleague",
        onclick: () => this.chooseFile() }, "Import"),
      el("button", { type: "button", class: "main", id: "export", title: "E", onclick: () => this.openExport() }, this.exportWords),
      el("button", { type: "button", "aria-label": "Keys", title: "Keys (?)", onclick: () => this.openHelp() }, "?"));
  }

  get exportWords() {
    return "Export corrections";
  }

  // How much is done: [done, of all, in words].
  progress() {
    const { doc, edits } = this;
    const indexes = this.index >= 0 ? [this.index] : doc.videos.map((_, i) => i);
    const total = indexes.reduce((sum, i) => sum + doc.videos[i].keyframes, 0);
    const done = indexes.reduce((sum, i) => sum + edits.count(i, true), 0);
    return [done, total, `${done.toLocaleString("en")} of ${counted(total, "keyframe")} reviewed`];
  }

  renderTop() {
    const { edits } = this;
    const [done, total, text] = this.progress();
    if (this.reviewed.textContent !== text) {
      this.reviewed.textContent = text;
      this.fill.style.width = `${total ? (100 * done) / total : 0}%`;
    }
    this.undoButton.disabled = !edits.past.length;
    this.redoButton.disabled = !edits.future.length;
  }

  editsChanged() {
    this.message.hidden = !this.edits.trouble;
    if (this.edits.trouble) this.message.replaceChildren(el("span", {}, this.edits.trouble));
    this.view?.changed?.();
    this.renderTop();
  }

  goToVideo(index) {
    location.hash = `#clip=${encodeURIComponent(this.doc.videos[index].id)}`;
  }

  announce(text) {
    this.live.textContent = text;
  }

  undo() {
    this.follow(this.edits.undo(), "Undone");
  }

  redo() {
    this.follow(this.edits.redo(), "Done again");
  }

  // Show the keyframe that an undo or redo changed.
  follow(step, words) {
    if (!step) return;
    this.announce(words);
    if (step.index !== this.index) {
      this.goToVideo(step.index);
      return;
    }
    const time = this.view.clip.times[step.k];
    if (this.view.k !== step.k || !this.view.atKeyframe) this.view.seek(time);
  }

  key(event) {
    if (event.defaultPrevented || document.querySelector("dialog[open]")) return;
    const { target } = event;
    const control = event.ctrlKey || event.metaKey;
    const typing = target.matches("input[type=text], input[type=search], select, textarea");
    if (control && event.key.toLowerCase() === "z" && !typing) {
      event.preventDefault();
      if (event.shiftKey) this.redo();
      else this.undo();
      return;
    }
    if (control || event.altKey || typing) return;
    // Space and Enter press the button that has the focus, arrows move a slider of scores.
    if ((event.key === " " || event.key === "Enter") && target.matches("button:not(.box), a, input") && !this.view.drawing) return;
    if (event.key.startsWith("Arrow") && target === this.view.slider) return;
    if ((event.key === "Home" || event.key === "End") && target.matches("input, .scroller")) return;
    if (event.key === "?") this.openHelp();
    else if (event.key === "e") this.openExport();
    else if (!this.view.key?.(event.key.length === 1 ? new Key(event) : event)) return;
    event.preventDefault();
  }

  dialog(title, ...content) {
    const opener = document.activeElement;
    const dialog = el("dialog", { "aria-label": title }, el("div", { class: "content" }, el("h2", {}, title), ...content,
      el("div", { class: "row" }, el("button", { type: "button", onclick: () => dialog.close() }, "Close"))));
    dialog.addEventListener("close", () => { dialog.remove(); opener?.focus?.(); });
    dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
    document.body.append(dialog);
    dialog.showModal();
    return dialog;
  }

  openExport() {
    const { doc, edits } = this;
    const videos = edits.exported();
    const save = () => {
      const text = labelFileText(doc, videos);
      const link = el("a", { href: URL.createObjectURL(new Blob([text], { type: "application/json" })), download: LABEL_FILE });
      link.click();
      setTimeout(() => URL.revokeObjectURL(link.href), 10000);
    };
    const again = (act) => () => { act(); dialog.close(); this.openExport(); };
    const dialog = this.dialog(this.exportWords, ...this.exportFacts(videos, again),
      ...(videos.length ? [el("p", {}, el("button", { type: "button", class: "main", id: "save-labels", onclick: save }, `Save ${LABEL_FILE}`),
        el("span", { class: "soft" }, "  one file for all videos")), ...this.exportCommands()] : []));
  }

  // What is exported and what is not. again(act): does something and shows the dialog anew.
  exportFacts(videos, again) {
    const { doc, edits } = this;
    const count = videos.reduce((sum, video) => sum + video.keyframes.length, 0);
    const pending = doc.videos.reduce((sum, _, index) => sum + edits.count(index, false), 0);
    return [el("p", {}, count ? `${counted(count, "reviewed keyframe")} in ${counted(videos.length, "video")}.`
      : "No keyframe is marked as reviewed yet, so there is nothing to export."),
    pending ? el("p", { class: "soft" }, `${counted(pending, "keyframe")} ${pending === 1 ? "is" : "are"} edited and not marked as reviewed: left out. `,
      el("button", { type: "button", id: "review-edited", onclick: again(() => this.reviewEdited()) }, "Mark as reviewed")) : null];
  }

  exportCommands() {
    const videos = this.doc.inDataset ? "" : " --videos FOLDER";
    return [el("p", {}, "Then merge it into a copy of the data set:"),
      el("pre", {}, `python -m ava_tools.import_dataset corrections \\\n    --dataset DATASET --split SPLIT \\\n`
        + `    --corrections ${LABEL_FILE}${videos} --out NEW_DATASET`),
      el("p", { class: "soft" }, this.doc.inDataset
        ? "DATASET is the folder of the data set that this page was made of, SPLIT its split."
        : "FOLDER is where the video lies; leave --videos out if the data set has the video already.")];
  }

  chooseFile() {
    const input = el("input", { type: "file", accept: ".json,application/json", id: "import-file", hidden: true,
      "aria-label": "Label file", onchange: async () => { const [file] = input.files; input.remove(); if (file) await this.import(file); } });
    byId("import-file")?.remove();
    document.body.append(input);
    input.click();
  }

  async import(file) {
    let result;
    try {
      result = this.edits.merge(readLabelFile(await file.text(), this.doc, (index) => this.clipOf(index)));
    } catch (error) {
      this.dialog("Not imported", el("p", { class: "trouble-text" }, `${file.name}: ${error.message}. Nothing was taken from it.`));
      return;
    }
    const { taken, same, contradictions } = result;
    const [one, many] = this.importUnits;
    this.dialog("Imported", el("p", {}, `${counted(taken, one, many)} taken from ${file.name}, ${same.toLocaleString("en")} the same already.`),
      contradictions.length ? el("p", {}, `${counted(contradictions.length, one, many)} contradict what is here, which stays:`) : null,
      contradictions.length ? el("ul", { class: "against" }, ...contradictions.slice(0, 20).map((text) => el("li", {}, text)),
        contradictions.length > 20 ? el("li", { class: "soft" }, `and ${contradictions.length - 20} more`) : null) : null);
  }

  get importUnits() {
    return ["keyframe", "keyframes"];
  }

  reviewEdited() {
    this.edits.together(() => this.doc.videos.forEach((_, index) => {
      for (const [k, edit] of this.edits.of(index)) {
        if (!edit.reviewed) this.edits.change(index, k, { ...edit, reviewed: true });
      }
    }));
  }

  openHelp() {
    this.dialog("Keys", el("table", {}, el("tbody", {}, ...this.keys().map(([key, what]) => el("tr", {},
      el("td", {}, el("kbd", {}, key)), el("td", {}, what))))));
  }

  keys() {
    return [["Space", "play, pause"], ["← →", "keyframe before, next; with Shift ten"], [", .", "a frame back, on"],
      ["J K", "next error, error before"], ["1 … 9", "choose a person"], ["Arrows", "move the chosen box (focus it first); with Shift its lower right corner"],
      ["L", "add or remove a label of the chosen person"], ["N", "add a box; Enter puts one in the middle"], ["Delete", "delete the chosen box"],
      ["R", "mark the keyframe as reviewed"], ["P G", "predictions, labels on and off"], ["Ctrl+Z, Ctrl+Shift+Z", "undo, redo"], ["E", "export"], ["?", "this list"]];
  }
}

// A key whose letter counts whether or not Caps Lock is on.
class Key {
  constructor(event) {
    this.key = event.key.toLowerCase();
    this.code = event.code;
    this.shiftKey = event.shiftKey;
  }
}

// All clips, the worst first; each leads to its own view.
class Sheet {
  constructor(page) {
    this.page = page;
    this.list = el("ul", { class: "clips" });
    this.order = el("select", { "aria-label": "Order", onchange: () => this.fill() },
      ...this.orders().map(([value, text]) => el("option", { value }, text)));
    this.find = el("input", { type: "search", placeholder: "Find a clip", "aria-label": "Find a clip", oninput: () => this.fill() });
    this.root = el("main", { class: "sheet" },
      el("div", { class: "bar" }, el("h2", {}, "Clips"), ...this.actions(), el("span", { class: "grow" }), this.find, el("label", {}, "Order ", this.order)), this.list);
    this.fill();
  }

  orders() {
    const judged = this.page.doc.videos.some((video) => video.errors !== null);
    return [...(judged ? [["worst", "Worst first"]] : []), ["name", "By name"], ["open", "Least reviewed first"]];
  }

  actions() {
    return [];
  }

  // How much of a clip is done and how much there is.
  share(i) {
    return [this.page.edits.count(i, true), this.page.doc.videos[i].keyframes];
  }

  facts(i) {
    const { keyframes, people } = this.page.doc.videos[i];
    const done = this.page.edits.count(i, true);
    return [el("span", { class: "soft small" }, [counted(keyframes, "keyframe"), counted(people, "person", "people")].join(", ")),
      this.page.doc.videos[i].worst ? el("span", { class: "small" }, `Worst: ${this.page.doc.videos[i].worst}`) : null,
      done ? el("span", { class: "soft small" }, `${done} reviewed`) : null];
  }

  fill() {
    const { doc } = this.page;
    const wanted = this.find.value.trim().toLowerCase();
    const left = (i) => this.share(i)[1] - this.share(i)[0];
    const orders = { given: (a, b) => a - b, worst: (a, b) => (doc.videos[b].badness ?? -1) - (doc.videos[a].badness ?? -1),
      name: (a, b) => doc.videos[a].id.localeCompare(doc.videos[b].id, "en", { numeric: true }), open: (a, b) => left(b) - left(a) };
    const shown = doc.videos.map((_, i) => i).filter((i) => doc.videos[i].id.toLowerCase().includes(wanted)).sort(orders[this.order.value]);
    this.list.replaceChildren(...shown.map((i) => this.card(i)));
    if (!shown.length) this.list.append(el("li", { class: "empty" }, doc.videos.length ? "No such clip." : "There are no clips."));
  }

  card(i) {
    const video = this.page.doc.videos[i];
    const [done, all] = this.share(i);
    const picture = video.thumbnail ? el("img", { src: video.thumbnail.split("/").map(encodeURIComponent).join("/"), alt: "", loading: "lazy",
      onerror: (event) => event.target.replaceWith("no picture") }) : "no picture";
    return el("li", {}, el("a", { href: `#clip=${encodeURIComponent(video.id)}` },
      el("div", { class: "picture" }, picture, video.errors === null ? "" : el("span", { class: "badge" }, counted(video.errors, "error"))),
      el("div", { class: "done", "aria-hidden": "true" }, el("div", { style: { width: `${all ? (100 * done) / all : 0}%` } })),
      el("div", { class: "text" }, el("span", { class: "name" }, video.id), ...this.facts(i).filter(Boolean))));
  }
}
