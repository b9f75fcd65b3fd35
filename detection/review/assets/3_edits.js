// Corrections: kept by keyframe as whole lists of people, undone step by step, saved in the browser.

class Edits {
  constructor(doc, clipOf, told) {
    this.doc = doc;
    this.clipOf = clipOf;
    this.told = told;
    this.videos = doc.videos.map(() => new Map());
    this.past = [];
    this.future = [];
    this.groups = 0;
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
    this.past.push({ index, k, before: this.videos[index].get(k) ?? null, after: value, group: this.group });
    if (this.past.length > 1000 && !this.group) this.past.shift();
    this.future = [];
    this.put(index, k, value);
  }

  undo() {
    return this.move(this.past, this.future, "before");
  }

  redo() {
    return this.move(this.future, this.past, "after");
  }

  // One step, or all that were made together; returns the last one.
  move(from, to, which) {
    let step = null;
    const act = () => {
      do {
        step = from.pop();
        to.push(step);
        this.put(step.index, step.k, step[which]);
      } while (step.group && from.at(-1)?.group === step.group);
    };
    if (!from.length) return null;
    if (from.at(-1).group) this.quietly(act);
    else act();
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

  // Many changes, told of once and undone as one.
  together(act) {
    this.groups += 1;
    this.group = this.groups;
    this.quietly(act);
    this.group = undefined;
  }

  quietly(act) {
    this.quiet = true;
    try {
      act();
    } finally {
      this.quiet = false;
    }
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
      const rows = this.rowsOf(index);
      try {
        if (rows.length) localStorage.setItem(this.name(index), JSON.stringify(rows));
        else localStorage.removeItem(this.name(index));
        this.unsaved.delete(index);
        if (this.failed) { this.failed = false; this.trouble = ""; this.told(); }
      } catch {
        this.trouble = `The browser cannot keep ${this.word} (its storage is full or turned off): `
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
      this.trouble = `The browser keeps nothing for this page: ${this.word} are lost when it closes, `
        + "so export them before.";
    }
    if (text === null) return;
    try {
      this.videos[index] = this.checked(JSON.parse(text), index);
    } catch {
      this.trouble = `What was saved for ${this.doc.videos[index].id} could not be read. It is left `
        + `in the browser's storage as ${this.name(index)}:damaged, and the clip starts without any.`;
      try { localStorage.setItem(`${this.name(index)}:damaged`, text); } catch { /* as full as it was */ }
      this.videos[index] = new Map();
    }
  }

  get word() {
    return "these corrections";
  }

  // As they are stored.
  rowsOf(index) {
    return [...this.videos[index]].map(([k, edit]) => [k, edit.reviewed ? 1 : 0,
      edit.people.map((person) => [person.id, person.box, [...person.labels]])]);
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

  // The reviewed keyframes, as the label file has them (3b_label_file.js).
  exported() {
    return this.doc.videos.flatMap((video, index) => {
      const edits = [...this.videos[index]].filter(([, edit]) => edit.reviewed).sort((a, b) => a[0] - b[0]);
      if (!edits.length) return [];
      const clip = this.clipOf(index);
      const people = new Map();
      const unnamed = [];
      edits.forEach(([, edit], n) => edit.people.forEach(({ id, box, labels }) => {
        const person = (id >= 0 && people.get(id)) || { id: id < 0 ? null : id, k: [], b: [], l: [] };
        if (id < 0) unnamed.push(person);
        else people.set(id, person);
        person.k.push(n);
        person.b.push(...box);
        person.l.push(idsOf(this.doc, labels));
      }));
      return [{ id: video.id, keyframes: edits.map(([k]) => clip.us[k]), undecided: edits.map(() => 0),
        people: [...[...people.values()].sort((a, b) => a.id - b.id), ...unnamed], nobody: [] }];
    });
  }

  // Take a label file's keyframes; those that are edited here stay. {taken, same, contradictions}
  merge(file) {
    const result = { taken: 0, same: 0, contradictions: [] };
    const changes = [];
    for (const video of file.videos) {
      const clip = this.clipOf(video.index);
      const wanted = video.ks.map((k) => ({ k, people: [] }));
      for (const { id, k, b, l } of video.people) {
        k.forEach((n, j) => {
          const box = b.slice(4 * j, 4 * j + 4);
          const { people } = wanted[n];
          const own = clip.truth[wanted[n].k]?.find((person) => person.id < 0 && sameBox(person.box, box));
          people.push({ id: id ?? own?.id ?? -1 - 100000 * wanted[n].k - 50000 - people.length, box, labels: new Set(l[j]) });
        });
      }
      for (const { k, people } of wanted) {
        const mine = this.videos[video.index].get(k);
        if (mine && !samePeople(mine.people, people)) {
          result.contradictions.push(`${video.id}, ${clock(clip.times[k])}: edited differently here`);
        } else if (mine?.reviewed) result.same += 1;
        else {
          result.taken += 1;
          changes.push([video.index, k, { people, reviewed: true }]);
        }
      }
    }
    if (changes.length) this.together(() => changes.forEach((change) => this.change(...change)));
    return result;
  }
}

const sameBox = (a, b) => a.every((value, i) => value === b[i]);

function samePeople(mine, others) {
  const text = (people) => people.map(({ id, box, labels }) => JSON.stringify(
    [id < 0 ? null : id, box, [...labels].sort((a, b) => a - b)])).sort().join();
  return text(mine) === text(others);
}
