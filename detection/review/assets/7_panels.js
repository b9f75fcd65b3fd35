// The side: people of the keyframe and their labels, errors worst first, classes to show.

const KINDS = { // what diagnosis calls it: [words, what the page adds]
  "missed label": ["Missed label", "the label is there, the prediction is below the threshold"],
  "missed person": ["Missed person", "no box overlaps this person"],
  "wrong class": ["Wrong class", "a person is there and does not carry this label"],
  "poor box": ["Poor box", "the label is right, the box overlaps too little"],
  "poor box and wrong class": ["Poor box, wrong class", "neither fits"],
  duplicate: ["Duplicate", "a second box for the same label"],
  background: ["Nobody there", "the box overlaps nobody"],
  unsure: ["Least sure", "close to the threshold"],
};

const MOST_CHIPS = 8;

class Panels {
  constructor(app) {
    this.app = app;
    this.limit = 100;
    this.whole = new Set(); // people of whom all labels are shown
    this.names = this.tabNames();
    [this.tab] = Object.keys(this.names);
    this.tabs = el("div", { class: "tabs", role: "tablist", "aria-label": "Side panels" },
      ...Object.entries(this.names).map(([tab, name]) => el("button", { type: "button", role: "tab", id: `tab-${tab}`,
        "aria-controls": "panel", "data-key": `tab:${tab}`, onclick: () => this.open(tab) }, name)));
    this.tabs.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (!step) return;
      event.preventDefault();
      event.stopPropagation();
      const all = Object.keys(this.names);
      this.open(all[(all.indexOf(this.tab) + step + all.length) % all.length]);
      byId(`tab-${this.tab}`).focus();
    });
    this.panel = el("div", { class: "panel", id: "panel", role: "tabpanel" });
    this.root = el("aside", { class: "side", "aria-label": "Labels and errors" }, this.tabs, this.panel);
  }

  tabNames() {
    return { keyframe: "Keyframe", errors: this.app.clip.hasTruth ? "Errors" : "Least sure", classes: "Classes" };
  }

  // What the panel's content depends on.
  stateKey() {
    const { app } = this;
    return [this.tab, this.tab === "classes" ? "" : app.k, app.revision, app.chosenKey, app.picking, this.limit,
      app.atKeyframe].join("|");
  }

  content() {
    return { keyframe: () => this.keyframe(), errors: () => this.errors(), classes: () => this.classes() }[this.tab]();
  }

  open(tab) {
    this.tab = tab;
    this.render(true);
    this.panel.scrollTop = 0;
  }

  render(force = false) {
    const key = this.stateKey();
    if (key === this.key && !force) return;
    this.key = key;
    for (const tab of this.tabs.children) {
      const selected = tab.id === `tab-${this.tab}`;
      tab.setAttribute("aria-selected", String(selected));
      tab.tabIndex = selected ? 0 : -1;
    }
    this.panel.setAttribute("aria-labelledby", `tab-${this.tab}`);
    const focused = document.activeElement?.closest?.("#panel") ? document.activeElement.dataset.key : null;
    const scroll = this.panel.scrollTop;
    this.panel.replaceChildren(...this.content());
    this.panel.scrollTop = scroll;
    if (focused) {
      const all = [...this.panel.querySelectorAll("[data-key]")];
      (all.find((node) => node.dataset.key === focused) ?? this.panel.querySelector("[data-home]"))?.focus();
    }
  }

  // Scroll the panel alone, not the page, to the person that is chosen.
  reveal() {
    const card = this.panel.querySelector(".person.chosen");
    if (!card) return;
    const [frame, box] = [this.panel.getBoundingClientRect(), card.getBoundingClientRect()];
    if (box.bottom > frame.bottom) this.panel.scrollTop += Math.min(box.bottom - frame.bottom + 8, box.top - frame.top - 8);
    else if (box.top < frame.top) this.panel.scrollTop += box.top - frame.top - 8;
  }

  keyframe() {
    const { app } = this;
    const { clip, k } = app;
    if (k < 0) return [el("p", { class: "empty" }, "This clip has no keyframes.")];
    const { source, people } = app.labels();
    const edit = app.edits.of(clip.index).get(k);
    const state = edit ? (edit.reviewed ? "reviewed" : "edited") : "";
    const words = { reviewed: "Reviewed", edited: "Edited, not reviewed", "": "Not reviewed" }[state];
    const guesses = clip.guesses[k];
    const pairs = new Map(source === "guess" ? people.map((_, i) => [i, i]) : pairUp(people, guesses, 0.5));
    const paired = new Set(pairs.values());
    const origin = { edited: "Corrected labels", truth: "Ground truth", guess: "Labels from the prediction" }[source];
    return [
      el("div", { class: "head" }, el("h2", { tabIndex: -1, "data-home": true, "data-key": "home" },
        `Keyframe ${k + 1} of ${clip.times.length}`), el("span", { class: "soft" }, clock(clip.times[k])),
      el("span", { class: "grow" }), el("span", { class: `pill ${state}` }, words)),
      el("div", { class: "head" },
        el("button", { type: "button", class: edit?.reviewed ? "" : "main", "data-key": "review",
          "aria-keyshortcuts": "R", title: "R", onclick: () => app.review() },
        edit?.reviewed ? "Mark not reviewed" : "Mark reviewed"),
        el("button", { type: "button", "data-key": "add", "aria-keyshortcuts": "N", title: "N", onclick: () => app.draw() },
          "Add box"),
        edit ? el("button", { type: "button", class: "bare", "data-key": "revert", onclick: () => app.revert() },
          "Take back") : null),
      el("h3", {}, `${origin}: ${people.length ? counted(people.length, "person", "people") : "nobody"}`),
      ...people.map((person, i) => this.person(person, guesses[pairs.get(i)], source)),
      ...this.others(guesses.filter((_, j) => !paired.has(j)), source),
    ];
  }

  person(person, guess, source) {
    const { app } = this;
    const kind = source === "guess" ? "guess" : "truth";
    const name = person.id < 0 ? "Person, no id" : `Person ${person.id}`;
    const color = source === "guess" ? colorOf(guess.id) : "#ffffff";
    const labels = [...person.labels];
    const shown = this.whole.has(person.id) ? labels : labels.slice(0, MOST_CHIPS);
    const score = (column) => guess?.scores.find(([other]) => other === column)?.[1] ?? 0;
    return el("section", { class: `person${app.isChosen(kind, person.id) ? " chosen" : ""}`, "aria-label": name },
      el("div", { class: "top" },
        el("button", { type: "button", class: "choose", "data-key": `choose:${kind}:${person.id}`,
          "aria-pressed": null, onclick: () => app.choose(kind, person.id) },
        el("span", { class: "dot", style: { "--c": color } }), name),
        el("span", { class: "grow" }),
        el("button", { type: "button", class: "bare", "data-key": `delete:${person.id}`,
          "aria-label": `Delete the box of ${name}`, onclick: () => app.removePerson(person.id) }, "Delete box")),
      el("div", { class: "chips" },
        ...shown.map((column) => el("span", { class: "chip" },
          named(app.doc.classes[column].name),
          source === "guess" ? el("span", { class: "score" }, percent(score(column))) : null,
          el("button", { type: "button", "data-key": `remove:${person.id}:${column}`,
            "aria-label": `Remove ${app.doc.classes[column].name} from ${name}`,
            onclick: () => app.setLabel(person.id, column, false) }, "×"))),
        labels.length ? null : el("span", { class: "soft small" }, source === "guess" ? this.likeliest(guess) : "no label"),
        labels.length > shown.length ? el("button", { type: "button", class: "bare", "data-key": `whole:${person.id}`,
          onclick: () => { this.whole.add(person.id); this.render(true); } }, `${labels.length - shown.length} more`) : null,
        el("button", { type: "button", "data-key": `pick:${person.id}`, "aria-expanded": String(app.picking === person.id),
          onclick: () => app.pick(app.picking === person.id ? null : person.id) }, "+ Label")),
      app.picking === person.id ? picker(app, person, score, name) : null,
      source === "guess" || !guess ? null : this.compare(person, guess),
      source !== "guess" && !guess && app.clip.guesses[app.k].length
        ? el("p", { class: "small soft" }, "No predicted box overlaps this person.") : null);
  }

  likeliest(guess) {
    if (!guess.scores.length) return "no label";
    const [column, score] = guess.scores[0];
    return `no label; likeliest: ${this.app.doc.classes[column].name} ${percent(score)}`;
  }

  // What was predicted for a labelled person, judged against the labels.
  compare(person, guess) {
    const { app } = this;
    const columns = guess.scores.filter(([column, score]) => score >= app.thresholds[column] || person.labels.has(column));
    const missing = [...person.labels].filter((column) => !columns.some(([other]) => other === column));
    const rows = [...columns, ...missing.map((column) => [column, 0])].filter(([column]) => app.classOn[column]);
    if (!rows.length) return null;
    return el("div", { class: "guesses" }, el("span", {}, `Predicted as person ${guess.id}`),
      ...rows.map(([column, score]) => {
        const has = person.labels.has(column);
        const above = score >= app.thresholds[column];
        const mark = has ? (above ? "right" : "missed") : "wrong";
        const [sign, says] = { right: ["✓", "right"], wrong: ["✗", "not in the labels"], missed: ["○", "missed"] }[mark];
        return el("div", { class: "guess" }, el("span", { class: `sign ${mark}`, title: says, role: "img", "aria-label": says }, sign),
          named(app.doc.classes[column].name), el("span", {}, percent(score)),
          el("div", { class: "meter", "aria-hidden": "true", style: { "--c": colorOf(guess.id) } },
            el("div", { style: { width: `${score / 10}%` } })),
          has ? el("span", {}) : el("button", { type: "button", "data-key": `take:${person.id}:${column}`,
            "aria-label": `Add ${app.doc.classes[column].name} to the labels`,
            onclick: () => app.setLabel(person.id, column, true) }, "Add"));
      }));
  }

  // Predicted boxes that no labelled person has.
  others(guesses, source) {
    const { app } = this;
    if (!guesses.length || source === "guess") return [];
    return [el("h3", {}, "Predicted, and in no label"), ...guesses.map((guess) => {
      const labels = [...app.clip.proposed(guess, app.thresholds)].map((column) => app.doc.classes[column].name);
      return el("section", { class: `person${app.isChosen("guess", guess.id) ? " chosen" : ""}`,
        "aria-label": `Prediction ${guess.id}` },
      el("div", { class: "top" }, el("button", { type: "button", class: "choose", "data-key": `choose:guess:${guess.id}`,
        onclick: () => app.choose("guess", guess.id) },
      el("span", { class: "dot", style: { "--c": colorOf(guess.id) } }), `Prediction ${guess.id}`),
      el("span", { class: "grow" }),
      el("button", { type: "button", class: "bare", "data-key": `adopt:${guess.id}`,
        onclick: () => app.adopt(guess) }, "Add to labels")),
      el("p", { class: "small soft" }, labels.join(", ") || "no action above the threshold"));
    })];
  }

  errors() {
    const { app } = this;
    const list = app.errorRuns();
    const edits = app.edits.of(app.clip.index);
    const intro = app.clip.hasTruth ? "Errors at this threshold, the worst first."
      : "No ground truth was given: these are the labels closest to the threshold.";
    if (!list.length) return [el("p", { class: "empty" }, app.clip.hasTruth ? "No errors at this threshold." : "No label is close to the threshold.")];
    const shown = list.slice(0, this.limit);
    return [el("p", { class: "soft small", tabIndex: -1, "data-home": true }, intro, " ", counted(list.length, "entry", "entries"), "."),
      el("ol", { class: "errors" }, ...shown.map((error, i) => {
        const reviewed = error.ks.every((k) => edits.get(k)?.reviewed);
        const { clip, doc } = app;
        const from = clock(clip.times[error.ks[0]], 1);
        const to = clock(clip.times[error.ks.at(-1)], 1);
        const when = error.ks.length > 1 ? `${from} – ${to}, ${error.ks.length} keyframes` : from;
        return el("li", {}, el("button", { type: "button", class: reviewed ? "done" : "", "data-key": `error:${i}`,
          title: KINDS[error.kind][1], "aria-current": String(error.ks.includes(app.k) && app.chosenError === error.name),
          onclick: () => app.goToError(error) },
        el("span", { class: "what clamp", title: doc.classes[error.column].name }, el("b", {}, doc.classes[error.column].name),
          clip.hasTruth ? ` · ${KINDS[error.kind][0]}` : ""),
        el("span", { class: "meter", "aria-hidden": "true", style: { "--c": "var(--wrong)" } },
          el("div", { style: { width: `${100 * error.worst}%` } })),
        el("span", { class: "soft small" }, `${app.errorPerson(error)} · ${when}`, reviewed ? " · reviewed" : ""),
        el("span", { class: "soft small" }, percent(error.score))));
      })),
      list.length > shown.length ? el("button", { type: "button", "data-key": "more",
        onclick: () => { this.limit += 200; this.render(); } }, `Show more of ${list.length.toLocaleString("en")}`) : null].filter(Boolean);
  }

  // Classes that occur here come first, the most frequent on top; hundreds of others wait behind a disclosure.
  classes() {
    const { app } = this;
    const { doc } = app;
    const { guess, truth } = app.classCounts();
    const often = (column) => guess[column] + truth[column];
    const seen = doc.classes.map((_, column) => column).filter(often).sort((a, b) => often(b) - often(a) || a - b);
    const toggle = (on) => () => { doc.classes.forEach((_, column) => { app.classOn[column] = on; }); app.changed(); };
    const search = el("input", { type: "search", placeholder: "Find a class", "aria-label": "Find a class", "data-key": "find",
      value: this.find ?? "" });
    const list = el("div", { class: "filters" });
    const row = (column) => el("label", {},
      el("input", { type: "checkbox", checked: app.classOn[column], "data-key": `class:${column}`,
        onchange: (event) => { app.classOn[column] = event.target.checked; app.changed(); } }),
      named(doc.classes[column].name),
      el("span", { class: "soft small" }, often(column) ? [guess[column], ...(app.clip.hasTruth ? [truth[column]] : [])].join(" / ") : ""));
    const fill = () => {
      this.find = search.value;
      const wanted = search.value.trim().toLowerCase();
      const fits = (column) => doc.classes[column].name.toLowerCase().includes(wanted);
      const others = doc.classes.map((_, column) => column).filter((column) => !often(column) && fits(column));
      const rest = el("div", { class: "filters" });
      const open = Boolean(wanted) || (this.othersOpen ?? doc.classes.length <= 20);
      const show = () => rest.replaceChildren(...grouped(doc, others).flatMap(([group, columns]) =>
        [group ? el("h3", { class: "soft small" }, group) : "", ...columns.map(row)]));
      if (open) show();
      const found = seen.filter(fits);
      list.replaceChildren(...found.map(row), others.length ? el("details", { open,
        ontoggle: (event) => {
          if (!wanted) this.othersOpen = event.target.open;
          if (event.target.open && !rest.childElementCount) show();
        } }, el("summary", { class: "soft small", "data-key": "others" }, `${counted(others.length, "class", "classes")} not seen here`), rest) : "",
      found.length + others.length ? "" : el("p", { class: "empty small" }, "No such class"));
    };
    search.addEventListener("input", fill);
    fill();
    const what = app.clip.hasTruth ? "how often each is predicted at this threshold / labelled" : "how often each is predicted at this threshold";
    return [el("p", { class: "soft small", tabIndex: -1, "data-home": true }, `Classes that are shown, with ${what}.`),
      el("div", { class: "head" }, search, el("button", { type: "button", "data-key": "all", onclick: toggle(true) }, "All"),
        el("button", { type: "button", "data-key": "none", onclick: toggle(false) }, "None")), list];
  }
}

// Classes by group, in the order of the label map: [[group, columns], ...].
function grouped(doc, among = doc.classes.keys()) {
  const groups = new Map();
  [...among].forEach((column) => {
    const { group } = doc.classes[column];
    const name = group ? group.toLowerCase().replaceAll("_", " ") : "";
    groups.set(name, [...(groups.get(name) ?? []), column]);
  });
  return [...groups];
}

// A list to choose a label from: type to narrow it, arrows and Enter to choose.
function picker(app, person, score, name) {
  const { doc } = app;
  const input = el("input", { type: "text", role: "combobox", "aria-expanded": "true", "aria-controls": "options",
    "aria-autocomplete": "list", "aria-label": `Label for ${name}`, placeholder: "Type to find a label",
    "data-key": `find:${person.id}`, autocomplete: "off", value: app.pickText ?? "" });
  const counts = app.classCounts().guess;
  const options = el("div", { class: "options", role: "listbox", id: "options", "aria-label": "Labels" });
  let shown = [];
  let active = 0;
  const mark = () => {
    [...options.querySelectorAll(".option")].forEach((node, i) => {
      node.classList.toggle("active", i === active);
      if (i === active) { node.scrollIntoView({ block: "nearest" }); input.setAttribute("aria-activedescendant", node.id); }
    });
  };
  const take = (column) => { app.pickText = ""; app.setLabel(person.id, column, !person.labels.has(column)); };
  const fill = () => {
    app.pickText = input.value;
    const wanted = input.value.trim().toLowerCase();
    shown = [];
    options.replaceChildren(...grouped(doc).flatMap(([group, columns]) => {
      const found = columns.filter((column) => doc.classes[column].name.toLowerCase().includes(wanted));
      if (!found.length) return [];
      found.sort((a, b) => score(b) - score(a) || counts[b] - counts[a]);
      return [group ? el("div", { class: "grouping", role: "presentation" }, group) : "", ...found.map((column) => {
        shown.push(column);
        return el("div", { class: "option", role: "option", id: `option-${column}`,
          "aria-selected": String(person.labels.has(column)), onclick: () => take(column) },
        el("span", { "aria-hidden": "true" }, person.labels.has(column) ? "✓" : "\u2002"),
        named(doc.classes[column].name, "grow"),
        score(column) ? el("span", { class: "soft small" }, percent(score(column))) : "");
      })];
    }));
    if (!shown.length) options.append(el("div", { class: "empty small" }, "No such class"));
    active = 0;
    mark();
  };
  input.addEventListener("input", fill);
  input.addEventListener("keydown", (event) => {
    event.stopPropagation();
    if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      active = clamp(active + (event.key === "ArrowDown" ? 1 : -1), 0, shown.length - 1);
      mark();
      event.preventDefault();
    } else if (event.key === "Enter" && shown.length) take(shown[active]);
    else if (event.key === "Escape") app.pick(null);
  });
  fill();
  return el("div", { class: "picker" }, input, options);
}
