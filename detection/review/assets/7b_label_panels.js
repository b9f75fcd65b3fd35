// The side of a label page: what the chosen person does, and everybody in this clip.

class LabelPanels extends Panels {
  tabNames() {
    return { person: "Person", people: "People" };
  }

  stateKey() {
    const { app } = this;
    return [this.tab, app.revision, app.chosenKey, app.picking, app.span, app.gap].join("|");
  }

  content() {
    return this.tab === "person" ? this.chosen() : this.people();
  }

  chosen() {
    const { app } = this;
    const { clip, doc, track, edits } = app;
    if (!track) {
      return [el("p", { class: "empty" }, "Nobody was detected in this clip."),
        el("button", { type: "button", class: "main", "data-key": "next", onclick: () => app.next() }, "Next person ", el("kbd", {}, "Enter"))];
    }
    const cells = app.cells();
    const whole = edits.isWhole(clip.index, track);
    const picked = cells.some((cell) => edits.isPicked(cell));
    const suggestion = new Map(app.suggestion());
    const scores = new Map(suggestion.size ? [...app.meanScores().entries()].filter(([, score]) => score >= 5) : []);
    const free = doc.classes.map((_, column) => column).filter((column) => doc.groupOf[column] === undefined);
    return [
      el("div", { class: "head" }, el("span", { class: "dot", style: { "--c": colorOf(track.id) } }),
        el("h2", { tabIndex: -1, "data-home": true, "data-key": "home" }, `Person ${track.id}`),
        el("span", { class: "grow" }),
        el("span", { class: `pill ${whole ? "reviewed" : picked ? "edited" : ""}`, id: "state" },
          whole ? "Decided" : picked ? "Picked, not decided" : "Undecided")),
      this.when(),
      app.gap ? el("p", { class: "warn", role: "alert" }, app.gapText()) : null,
      suggestion.size ? this.suggested(suggestion) : null,
      ...doc.exclusive.map((columns, i) => this.choices(doc.exclusiveNames[i], "one of", columns, scores)),
      free.length ? this.choices(doc.exclusive.length ? "Also" : "Actions", "any number", free, scores) : null,
      doc.classes.length > 9 ? el("button", { type: "button", "data-key": "find", "aria-expanded": String(app.picking !== null),
        onclick: () => app.pick(app.picking === null ? track.id : null) }, "Find a class ", el("kbd", {}, "L")) : null,
      app.picking === null ? null : picker(app, { id: track.id, labels: new Set(doc.classes.map((_, c) => c).filter((c) => app.having(c))) },
        (column) => Math.round(scores.get(column) ?? 0), `person ${track.id}`),
      el("div", { class: "choices" }, this.choice("0", "Nobody: the box is wrong", cells.slice(app.places()[0], app.places()[1] + 1)
        .filter((cell) => cell?.nobody).length, "nobody", () => app.nobody())),
      el("div", { class: "head moves" },
        el("button", { type: "button", class: "main", "data-key": "next", onclick: () => app.decide() },
          whole ? "Next person " : picked ? "Decided, next " : "None of these, next ", el("kbd", {}, "Enter")),
        el("button", { type: "button", "data-key": "before", title: "Shift+Enter", onclick: () => app.page.before(app.chosen.id) }, "Before"),
        el("button", { type: "button", "data-key": "skip", title: "N: leave this person undecided", onclick: () => app.next() }, "Skip"),
        picked ? el("button", { type: "button", class: "bare", "data-key": "clear", title: "Delete", onclick: () => app.clear() }, "Take back") : null),
    ].filter(Boolean);
  }

  // The stretch, or the span of it that picks are for.
  when() {
    const { app } = this;
    const { track, span } = app;
    const all = `${app.timesText([0, track.k.length - 1])}, ${counted(track.k.length, "keyframe")}`;
    return el("div", { class: "when" }, span ? el("div", { class: "head span" },
      el("span", { id: "when" }, "Picks are for ", el("b", {}, app.timesText(span))), el("span", { class: "grow" }),
      el("button", { type: "button", "data-key": "whole", title: "Esc", onclick: () => app.setSpan(0, Infinity) }, "Whole person"))
      : el("div", { class: "soft", id: "when" }, all),
    track.k.length < 2 ? null : el("div", { class: "soft small row" }, "Changes in between?",
      el("button", { type: "button", class: "bare", "data-key": "start", title: "[ or I: picks are for the time from here on",
        onclick: () => app.mark("start") }, el("kbd", {}, "["), " from here"),
      el("button", { type: "button", class: "bare", "data-key": "end", title: "] or O: picks are for the time up to here",
        onclick: () => app.mark("end") }, "to here ", el("kbd", {}, "]"))));
  }

  suggested(suggestion) {
    const { app } = this;
    const { doc } = app;
    const texts = [...suggestion].map(([column, score]) => `${doc.classes[column].name} ${percent(Math.round(score))}`);
    return el("div", { class: "suggestion" }, el("span", { class: "clamp", title: texts.join(", ") },
      el("span", { class: "soft" }, "Suggested: "), texts.join(", ")),
    el("button", { type: "button", "data-key": "accept", onclick: () => app.accept() }, "Accept ", el("kbd", {}, "A")));
  }

  choices(name, how, columns, scores) {
    const { app } = this;
    return el("div", { class: "choices", role: "group", "aria-label": `${name}, ${how}` },
      el("h3", {}, el("span", { class: "clamp" }, name), el("span", { class: "soft small" }, ` ${how}`)),
      ...columns.map((column) => this.choice(column < 9 ? String(column + 1) : "", app.doc.classes[column].name, app.having(column),
        `class:${column}`, () => app.toggle(column), scores.get(column))));
  }

  // A button that is on, off, or on in part of the span.
  choice(keyText, name, having, key, act, score) {
    const { app } = this;
    const all = app.places()[1] - app.places()[0] + 1;
    const pressed = having === all ? "true" : having ? "mixed" : "false";
    return el("button", { type: "button", class: "choice", "data-key": key, "aria-pressed": pressed, onclick: act },
      el("kbd", {}, keyText || "\u2002"), named(name, "grow"),
      pressed === "mixed" ? el("span", { class: "small" }, `${having} of ${all}`) : null,
      score === undefined ? null : el("span", { class: "small score" }, percent(Math.round(score))));
  }

  people() {
    const { app } = this;
    const { clip, edits } = app;
    const [decided, all] = edits.counts.byVideo[clip.index];
    if (!all) return [el("p", { class: "empty" }, "Nobody was detected in this clip.")];
    return [el("p", { class: "soft small", tabIndex: -1, "data-home": true }, `${decided} of ${counted(all, "person", "people")} decided in this clip.`),
      el("ol", { class: "errors" }, ...clip.tracks.map((track) => el("li", {},
        el("button", { type: "button", "data-key": `person:${track.id}`, "aria-current": String(track === app.track),
          onclick: () => app.choose("guess", track.id) },
        el("span", { class: "what clamp" }, el("span", { class: "dot", style: { "--c": colorOf(track.id) } }), el("b", {}, `Person ${track.id}`),
          el("span", { class: "soft" }, ` ${clock(clip.times[track.k[0]], 1)} – ${clock(clip.times[track.k.at(-1)], 1)}`)),
        el("span", { class: "small right" }, edits.isWhole(clip.index, track) ? "✓" : ""),
        el("span", { class: "soft small clamp" }, app.stateText(track))))))];
  }
}
