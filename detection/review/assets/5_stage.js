// Boxes over the video. White ones are labels (ground truth or corrections), coloured ones predictions.

class Stage {
  constructor(app) {
    this.app = app;
    this.nodes = new Map();
    this.gesture = null;
    this.layer = el("div", { class: "boxes" });
    this.layer.addEventListener("pointerdown", (event) => this.press(event));
    this.layer.addEventListener("pointermove", (event) => this.drag(event));
    this.layer.addEventListener("pointerup", (event) => this.release(event));
    this.layer.addEventListener("pointercancel", () => this.cancel());
    this.hint = el("div", { class: "hint", hidden: true });
    this.trouble = el("div", { class: "trouble", role: "alert", hidden: true });
    const { width, height } = app.clip.video;
    this.root = el("div", { class: "stage", role: "group", "aria-label": "Video with boxes",
      style: { "aspect-ratio": `${width} / ${height}`, "max-width": `calc(var(--stage-height) * ${width / height})` } },
    app.player.video, this.layer, this.hint, this.trouble);
  }

  render() {
    const { app } = this;
    const seen = new Set();
    const shown = app.shownPeople();
    this.layer.classList.toggle("both", shown.both);
    this.layer.classList.toggle("crowd", shown.crowd);
    this.layer.classList.toggle("drawing", app.drawing);
    for (const kind of ["guess", "truth"]) {
      for (const person of shown[kind]) {
        const key = `${kind}:${person.id}`;
        if (seen.has(key)) continue;
        seen.add(key);
        this.place(this.nodes.get(key) ?? this.add(key, kind, person.id), kind, person);
      }
    }
    for (const [key, node] of this.nodes) {
      if (seen.has(key)) continue;
      node.remove();
      this.nodes.delete(key);
    }
    this.hint.hidden = !app.drawing;
    if (app.drawing) this.hint.textContent = "Drag a box around the person. Enter: a box in the middle. Esc: none.";
    this.trouble.hidden = !app.player.broken;
    if (app.player.broken && this.trouble.textContent !== app.player.trouble) {
      this.trouble.textContent = app.player.trouble;
    }
  }

  add(key, kind, id) {
    const node = el("button", { class: `box ${kind}`, type: "button", "data-key": `box:${key}`,
      onclick: () => this.app.choose(kind, id),
      onkeydown: (event) => this.key(event, kind, id) },
    el("span", { class: "tag" }));
    this.nodes.set(key, node);
    this.layer.append(node);
    return node;
  }

  place(node, kind, person) {
    const { app } = this;
    const chosen = app.isChosen(kind, person.id);
    const moved = this.gesture?.node === node ? this.gesture.box : null;
    const box = moved ?? person.box;
    node.style.left = `${100 * box[0]}%`;
    node.style.top = `${100 * box[1]}%`;
    node.style.width = `${100 * (box[2] - box[0])}%`;
    node.style.height = `${100 * (box[3] - box[1])}%`;
    node.style.setProperty("--c", kind === "truth" ? "#ffffff" : colorOf(person.id));
    const editable = app.isEditable(kind);
    node.classList.toggle("chosen", chosen);
    node.classList.toggle("editable", editable);
    node.classList.toggle("inside", box[1] < 0.07);
    node.classList.toggle("low", box[3] > 0.94);
    node.classList.toggle("rightmost", box[0] + box[2] > 1.2);
    const plain = kind === "guess" && !person.shownLabels.length && !chosen;
    node.style.opacity = plain && person.faint === undefined ? 0.5 : 1;
    node.classList.toggle("faint", Boolean(person.faint));
    node.classList.toggle("nobody", Boolean(person.cell?.nobody));
    const text = app.tagText(kind, person, this.layer.classList.contains("crowd"));
    const tag = node.querySelector(".tag");
    if (node.dataset.text !== text.join("|")) {
      node.dataset.text = text.join("|");
      tag.replaceChildren(el("b", {}, text[0]), text[1] ? ` ${text[1]}` : "");
      node.title = app.tagText(kind, person).join(" ");
      node.setAttribute("aria-label", `${kind === "truth" ? "Label" : "Prediction"}: ${text.join(", ")}`);
    }
    node.setAttribute("aria-pressed", String(chosen));
    const handles = node.querySelectorAll(".handle");
    if (chosen && editable && !handles.length) {
      for (const [x, y] of HANDLES) {
        node.append(el("span", { class: "handle", "data-x": x, "data-y": y,
          style: { left: `${50 * (x + 1)}%`, top: `${50 * (y + 1)}%`, cursor: handleCursor(x, y) } }));
      }
    } else if (!(chosen && editable)) handles.forEach((handle) => handle.remove());
  }

  // Arrow keys move a chosen box by half a percent of the frame, with Shift its lower right corner.
  key(event, kind, id) {
    const { app } = this;
    const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if (!step || event.ctrlKey || event.metaKey || !app.isChosen(kind, id) || !app.isEditable(kind)) return;
    event.preventDefault();
    event.stopPropagation();
    const person = app.labels().people.find((other) => other.id === id);
    if (!person) return;
    const size = event.altKey ? 0.001 : 0.005;
    const [x, y] = step.map((value) => value * size);
    app.setBox(id, event.shiftKey ? resized(person.box, 1, 1, x, y) : moved(person.box, x, y));
  }

  point(event) {
    const frame = this.layer.getBoundingClientRect();
    return [clamp((event.clientX - frame.left) / frame.width, 0, 1),
      clamp((event.clientY - frame.top) / frame.height, 0, 1)];
  }

  press(event) {
    if (event.button !== 0) return;
    const { app } = this;
    const start = this.point(event);
    if (app.drawing) {
      this.gesture = { start, draft: el("div", { class: "draft" }) };
      this.layer.append(this.gesture.draft);
    } else {
      const node = event.target.closest(".box");
      if (!node) {
        app.choose(null);
        return;
      }
      const [kind, text] = node.dataset.key.slice(4).split(":");
      const id = Number(text);
      if (!app.isEditable(kind) || !app.isChosen(kind, id)) return;
      const person = app.labels().people.find((other) => other.id === id);
      if (!person) return;
      const { x, y } = event.target.dataset;
      this.gesture = { start, node, id, from: person.box, handle: x === undefined ? null : [Number(x), Number(y)] };
    }
    this.layer.setPointerCapture(event.pointerId);
    event.preventDefault();
  }

  drag(event) {
    const { gesture } = this;
    if (!gesture) return;
    const [x, y] = this.point(event);
    const [dx, dy] = [x - gesture.start[0], y - gesture.start[1]];
    if (gesture.draft) {
      gesture.box = cornered(gesture.start, [x, y]);
      const [x1, y1, x2, y2] = gesture.box.map((value) => `${100 * value}%`);
      Object.assign(gesture.draft.style, { left: x1, top: y1, width: `calc(${x2} - ${x1})`,
        height: `calc(${y2} - ${y1})` });
      return;
    }
    if (!gesture.box && Math.abs(dx) + Math.abs(dy) < 0.004) return;
    gesture.box = gesture.handle ? resized(gesture.from, ...gesture.handle, dx, dy) : moved(gesture.from, dx, dy);
    this.render();
  }

  release(event) {
    const { gesture, app } = this;
    if (!gesture) return;
    this.cancel();
    if (gesture.draft) {
      const box = gesture.box;
      if (box && box[2] - box[0] > 0.005 && box[3] - box[1] > 0.005) app.addPerson(box);
    } else if (gesture.box) app.setBox(gesture.id, gesture.box);
    if (this.layer.hasPointerCapture(event.pointerId)) this.layer.releasePointerCapture(event.pointerId);
  }

  cancel() {
    this.gesture?.draft?.remove();
    this.gesture = null;
    this.render();
  }
}

const HANDLES = [[-1, -1], [0, -1], [1, -1], [1, 0], [1, 1], [0, 1], [-1, 1], [-1, 0]];

function handleCursor(x, y) {
  if (x === 0) return "ns-resize";
  if (y === 0) return "ew-resize";
  return x === y ? "nwse-resize" : "nesw-resize";
}

const rounded = (box) => box.map((value) => Math.round(clamp(value, 0, 1) * 1e5) / 1e5);

function cornered(a, b) {
  return rounded([Math.min(a[0], b[0]), Math.min(a[1], b[1]), Math.max(a[0], b[0]), Math.max(a[1], b[1])]);
}

function moved(box, dx, dy) {
  const x = clamp(dx, -box[0], 1 - box[2]);
  const y = clamp(dy, -box[1], 1 - box[3]);
  return rounded([box[0] + x, box[1] + y, box[2] + x, box[3] + y]);
}

function resized(box, x, y, dx, dy) {
  const least = 0.005;
  const [x1, y1, x2, y2] = box;
  return rounded([
    x < 0 ? Math.min(x1 + dx, x2 - least) : x1, y < 0 ? Math.min(y1 + dy, y2 - least) : y1,
    x > 0 ? Math.max(x2 + dx, x1 + least) : x2, y > 0 ? Math.max(y2 + dy, y1 + least) : y2,
  ]);
}
