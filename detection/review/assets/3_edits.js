// Corrections: kept by keyframe as whole lists of people, undone step by step, saved in the browser.

class Edits {
  constructor(doc, told) {
    this.doc = doc;
    this.told = told;
    this.videos = doc.videos.map(() => new Map());
    this.past = [];
    this.future = [];
    this.trouble = "";
    this.unsaved = new Set();
    doc.videos.forEach((_, index) => this.load(index));
    window.addEventListener("storage", (event) => {
      const index = doc.videos.findIndex((_, i) => this.name(i) === event.key);
      if (index < 0) return;
      this.past = this.past.filter((step) => step.index !== index);
      this.future = [];
      this.videos[index] = new Map();
      this.load(index);
      this.told();
    });
    window.addEventListener("pagehide", () => this.save());
    window.addEventListener("beforeunload", (event) => {
      this.save();
      if (this.unsaved.size) event.preventDefault();
    });
  }

  of(index) {
    return this.videos[index];
  }

  // Put a keyframe's people and whether it is reviewed; null takes the correction back.
  change(index, k, value) {
    this.past.push({ index, k, before: this.videos[index].get(k) ?? null, after: value });
    if (this.past.length > 1000) this.past.shift();
    this.future = [];
    this.put(index, k, value);
  }

  undo() {
    const step = this.past.pop();
    if (!step) return null;
    this.future.push(step);
    this.put(step.index, step.k, step.before);
    return step;
  }

  redo() {
    const step = this.future.pop();
    if (!step) return null;
    this.past.push(step);
    this.put(step.index, step.k, step.after);
    return step;
  }

  put(index, k, value) {
    if (value === null) this.videos[index].delete(k);
    else this.videos[index].set(k, value);
    this.unsaved.add(index);
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.save(), 150);
    if (!this.quiet) this.told();
  }

  // Many changes, told of once.
  together(act) {
    this.quiet = true;
    act();
    this.quiet = false;
    this.told();
  }

  count(index, reviewed) {
    let sum = 0;
    for (const edit of this.videos[index].values()) if (edit.reviewed === reviewed) sum += 1;
    return sum;
  }

  name(index) {
    return `action-review:${this.doc.key}:${index}`;
  }

  save() {
    for (const index of [...this.unsaved]) {
      const rows = [...this.videos[index]].map(([k, edit]) => [k, edit.reviewed ? 1 : 0,
        edit.people.map((person) => [person.id, person.box, [...person.labels]])]);
      try {
        if (rows.length) localStorage.setItem(this.name(index), JSON.stringify(rows));
        else localStorage.removeItem(this.name(index));
        this.unsaved.delete(index);
        if (this.failed) { this.failed = false; this.trouble = ""; this.told(); }
      } catch {
        this.trouble = "The browser cannot keep these corrections (its storage is full or turned off): "
          + "they are lost when the page closes, so export them before.";
        if (!this.failed) { this.failed = true; this.told(); }
        return;
      }
    }
  }

  load(index) {
    let text = null;
    try {
      text = localStorage.getItem(this.name(index));
    } catch {
      this.trouble = "The browser keeps nothing for this page: corrections are lost when it closes, "
        + "so export them before.";
    }
    if (text === null) return;
    try {
      this.videos[index] = this.checked(JSON.parse(text), index);
    } catch {
      this.trouble = `Corrections saved for ${this.doc.videos[index].id} could not be read. They are left `
        + `in the browser's storage as ${this.name(index)}:damaged, and the clip starts without any.`;
      try { localStorage.setItem(`${this.name(index)}:damaged`, text); } catch { /* as full as it was */ }
      this.videos[index] = new Map();
    }
  }

  checked(rows, index) {
    const need = (fine) => { if (!fine) throw new Error("not what this page saves"); };
    const whole = (value, below) => Number.isInteger(value) && value >= 0 && value < below;
    const count = this.doc.videos[index].keyframes;
    need(Array.isArray(rows));
    return new Map(rows.map(([k, reviewed, people]) => {
      need(whole(k, count) && whole(reviewed, 2) && Array.isArray(people));
      return [k, { reviewed: reviewed === 1, people: people.map(([id, box, labels]) => {
        need(Number.isSafeInteger(id));
        need(Array.isArray(box) && box.length === 4 && box.every((x) => x >= -0.01 && x <= 1.01));
        need(box[0] <= box[2] && box[1] <= box[3]);
        need(labels.every((column) => whole(column, this.doc.classes.length)));
        return { id, box, labels: new Set(labels) };
      }) }];
    }));
  }

  // The reviewed keyframes in AVA's form: {rows, keyframes}, two texts.
  export(clipOf) {
    const rows = [];
    const keyframes = [];
    this.doc.videos.forEach((video, index) => {
      const edits = [...this.videos[index]].filter(([, edit]) => edit.reviewed).sort((a, b) => a[0] - b[0]);
      if (!edits.length) return;
      const clip = clipOf(index);
      for (const [k, { people }] of edits) {
        const key = `${csvField(video.id)},${timeText(clip.us[k])}`;
        keyframes.push(key);
        if (!people.length) rows.push(key);
        for (const { id, box, labels } of people) {
          const head = `${key},${box.map(String).join(",")}`;
          const tail = id < 0 ? "" : `,${id}`;
          const columns = [...labels].sort((a, b) => a - b);
          if (!columns.length) rows.push(`${head},${tail}`);
          for (const column of columns) rows.push(`${head},${this.doc.classes[column].id}${tail}`);
        }
      }
    });
    const text = (lines) => lines.map((line) => line + "\n").join("");
    return { rows: text(rows), keyframes: text(keyframes), count: keyframes.length };
  }
}

function csvField(text) {
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

function timeText(us) {
  const whole = Math.floor(us / 1e6);
  const rest = us % 1e6;
  return rest ? `${whole}.${String(rest).padStart(6, "0")}` : String(whole).padStart(4, "0");
}
