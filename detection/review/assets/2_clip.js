// One clip: who was predicted and who is annotated at every keyframe, and labels as they stand.
// A person is {id, box [x1, y1, x2, y2] in fractions, labels: Set of columns} (an id below 0 names a
// person to whom the file gives none) and, when predicted, scores: [[column, thousandths], ...] likeliest first.

class Clip {
  constructor(doc, index) {
    const video = doc.videos[index];
    Object.assign(this, { doc, index, video, id: video.id, start: video.start, duration: video.duration });
    const data = JSON.parse(byId(`clip-${index}`).textContent);
    this.us = data.us;
    this.times = data.us.map((us) => us / 1e6);
    this.errors = data.errors;
    this.hasTruth = data.truth !== null;
    this.tracks = data.tracks;
    this.guesses = this.times.map(() => []);
    for (const track of this.tracks) {
      track.k.forEach((k, j) => this.guesses[k].push({
        id: track.id, track, place: j, box: track.b.slice(4 * j, 4 * j + 4), scores: pairsOf(track.s[j]),
      }));
    }
    this.truth = this.times.map(() => null);
    if (data.truth) {
      for (const k of data.truth.k) this.truth[k] = [];
      data.truth.people.forEach((person) => person.k.forEach((k, j) => this.truth[k].push({
        id: person.id ?? -1 - 100000 * k - this.truth[k].length, box: person.b.slice(4 * j, 4 * j + 4), labels: new Set(person.l[j]),
      })));
    }
    // What was decided about tracks before, by track: a cell a keyframe (3c_picks.js).
    this.decided = new Map();
    for (const { id, k, l, nobody } of data.decided) {
      const track = this.tracks.find((other) => other.id === id);
      const cells = this.decided.get(id) ?? blank(track);
      this.decided.set(id, cells);
      k.forEach((at, j) => { cells[track.k.indexOf(at)] = { labels: l[j], nobody, done: true }; });
    }
    this.under = new WeakMap(); // what each track does, by thresholds
    this.size = this.tracks.reduce((sum, track) => sum + track.k.length, 0);
    const gaps = this.times.slice(1).map((time, i) => time - this.times[i]).sort((a, b) => a - b);
    this.spacing = gaps.length ? gaps[gaps.length >> 1] : 1;
  }

  // The first keyframe at which a label shows, 0 if none does.
  firstShown(thresholds) {
    const k = this.times.findIndex((_, i) => this.truth[i]?.some((person) => person.labels.size)
      || this.guesses[i].some(({ scores }) => scores.some(([column, score]) => score >= thresholds[column])));
    return Math.max(0, k);
  }

  get end() {
    return Math.max(this.start + this.duration, this.times.at(-1) ?? 0);
  }

  nearest(time) {
    if (!this.times.length) return -1;
    const after = upperBound(this.times, time);
    if (after === 0) return 0;
    if (after === this.times.length) return after - 1;
    return time - this.times[after - 1] <= this.times[after] - time ? after - 1 : after;
  }

  // The keyframe that is shown at a time, -1 between two.
  exactly(time) {
    const k = this.nearest(time);
    return k >= 0 && Math.abs(this.times[k] - time) < Math.min(0.06, this.spacing / 2) ? k : -1;
  }

  // Labels as they would be exported: {source: "edited" | "truth" | "guess", people}.
  labelsAt(k, edits, thresholds) {
    const edit = edits.get(k);
    if (edit) return { source: "edited", people: edit.people };
    if (this.truth[k]) return { source: "truth", people: this.truth[k] };
    return { source: "guess", people: this.guesses[k].map((guess) => ({
      id: guess.id, box: guess.box, labels: this.proposed(guess, thresholds),
    })) };
  }

  // The labels a prediction stands for: above the threshold, one of each exclusive group.
  proposed(guess, thresholds) {
    return this.doc.goesOn < 1 ? this.doings(guess.track, thresholds)[guess.place] : this.reached(guess.scores, thresholds, new Set());
  }

  // Whether a class of a track is a bar on the timeline; score: its own there.
  isBar(track, place, column, score, thresholds) {
    return this.doc.goesOn < 1 ? this.doings(track, thresholds)[place].has(column) : score >= thresholds[column];
  }

  // What a track does at each of its keyframes, as events have it: begun at the threshold, a label
  // goes on until the score falls below a share of it.
  doings(track, thresholds) {
    if (!this.under.has(thresholds)) this.under.set(thresholds, new Map());
    const known = this.under.get(thresholds);
    if (!known.has(track)) {
      let labels = new Set();
      known.set(track, track.s.map((flat) => { labels = this.reached(pairsOf(flat), thresholds, labels); return labels; }));
    }
    return known.get(track);
  }

  // scores: likeliest first.  before: the labels of the keyframe before, which may go on.
  reached(scores, thresholds, before) {
    const labels = new Set();
    const taken = new Set();
    for (const [column, score] of scores) {
      if (score < thresholds[column] * (before.has(column) ? this.doc.goesOn : 1)) continue;
      const group = this.doc.groupOf[column];
      if (group !== undefined && taken.has(group)) continue;
      if (group !== undefined) taken.add(group);
      labels.add(column);
    }
    return labels;
  }

  // People at any time: moved in a straight line between neighbouring keyframes, else held a while.
  peopleAt(time, peopleOf) {
    const after = upperBound(this.times, time);
    const k = after - 1;
    const gap = after < this.times.length && k >= 0 ? this.times[after] - this.times[k] : Infinity;
    const joined = gap <= 1.5 * this.spacing;
    const shown = [];
    const gone = new Set();
    const hold = joined ? gap / 2 : this.spacing / 2;
    const next = joined ? peopleOf(after) : [];
    if (k >= 0) {
      for (const person of peopleOf(k)) {
        const partner = next.find((other) => other.id === person.id);
        if (partner) {
          const share = (time - this.times[k]) / gap;
          const nearer = share <= 0.5 ? person : partner;
          shown.push({ ...nearer, box: between(person.box, partner.box, share), k });
          gone.add(partner);
        } else if (time - this.times[k] <= hold) shown.push({ ...person, k });
      }
    }
    if (after < this.times.length && this.times[after] - time < (joined ? gap / 2 : this.spacing / 2)) {
      for (const person of peopleOf(after)) if (!gone.has(person)) shown.push({ ...person, k: after });
    }
    return shown;
  }
}

function pairsOf(flat) {
  const pairs = [];
  for (let i = 0; i < flat.length; i += 2) pairs.push([flat[i], flat[i + 1]]);
  return pairs;
}

function readDocument() {
  const doc = JSON.parse(byId("review-data").textContent);
  ({ palette } = doc);
  doc.groupOf = {};
  doc.suggests = doc.mode === "label" && doc.videos.some((video) => video.suggested);
  doc.exclusive.forEach((columns, group) => columns.forEach((column) => { doc.groupOf[column] = group; }));
  return doc;
}

// Least score of each class, in thousandths: the slider moves the thresholds of all together.
function thresholdsOf(doc, slider) {
  return doc.classes.map((_, column) => {
    const own = doc.classThresholds[column];
    const value = own === undefined ? slider : own + slider - doc.threshold;
    return Math.round(1000 * clamp(value, doc.leastScore, 1));
  });
}
