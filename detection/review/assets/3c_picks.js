// Picks of a label page: kept by track, a cell for each of its keyframes. A cell is null or
// {labels: columns in ascending order, nobody, done}: `done` where Enter said that this is all.
// A track that nothing was picked for here shows what was decided before (the document brings it).

class Picks extends Edits {
  get word() {
    return "these picks";
  }

  cells(index, track) {
    return this.videos[index].get(track.id) ?? this.clipOf(index).decided.get(track.id) ?? blank(track);
  }

  // Change the cells from one place of the track to another, both with it.
  set(index, track, from, to, change) {
    const cells = this.cells(index, track).map((cell, j) => (j < from || j > to ? cell : change(cell, j)));
    this.change(index, track.id, cells);
  }

  put(index, k, value) {
    this.summary = null;
    super.put(index, k, value);
  }

  isComplete(cell) {
    return this.doc.exclusive.length > 0
      && this.doc.exclusive.every((columns) => columns.some((column) => cell.labels.includes(column)));
  }

  isDecided(cell) {
    return cell !== null && (cell.nobody || cell.done || this.isComplete(cell));
  }

  isPicked(cell) {
    return cell !== null && (cell.nobody || cell.done || cell.labels.length > 0);
  }

  isWhole(index, track) {
    return this.cells(index, track).every((cell) => this.isDecided(cell));
  }

  // {people, decided, videos, done, begun, byVideo: [[decided, people], ...]}; begun: picks, but not decided.
  get counts() {
    if (this.summary) return this.summary;
    const sums = { people: 0, decided: 0, videos: 0, done: 0, begun: 0, byVideo: [] };
    this.doc.videos.forEach((_, index) => {
      const { tracks } = this.clipOf(index);
      let decided = 0;
      for (const track of tracks) {
        if (this.isWhole(index, track)) decided += 1;
        else if (this.cells(index, track).some((cell) => this.isPicked(cell))) sums.begun += 1;
      }
      sums.byVideo.push([decided, tracks.length]);
      sums.people += tracks.length;
      sums.decided += decided;
      if (tracks.length) {
        sums.videos += 1;
        if (decided === tracks.length) sums.done += 1;
      }
    });
    this.summary = sums;
    return sums;
  }

  // Cells in runs of equal ones: [number, labels, nobody, done] or [number].
  rowsOf(index) {
    return [...this.videos[index]].map(([id, cells]) => [id, runsOf(cells).map(([cell, count]) =>
      (cell === null ? [count] : [count, cell.labels, cell.nobody ? 1 : 0, cell.done ? 1 : 0]))]);
  }

  load(index) {
    this.summary = null;
    super.load(index);
  }

  checked(rows, index) {
    const need = (fine) => { if (!fine) throw new Error("not what this page saves"); };
    const tracks = new Map(this.clipOf(index).tracks.map((track) => [track.id, track]));
    need(Array.isArray(rows));
    return new Map(rows.map(([id, runs]) => {
      need(tracks.has(id) && Array.isArray(runs));
      const cells = runs.flatMap(([count, labels, nobody, done]) => {
        need(Number.isInteger(count) && count > 0 && count <= tracks.get(id).k.length);
        if (labels === undefined) return Array(count).fill(null);
        need(Array.isArray(labels) && labels.every((c) => Number.isInteger(c) && c >= 0 && c < this.doc.classes.length));
        need(isPossible(this.doc, labels) && !(nobody && labels.length));
        return Array(count).fill({ labels, nobody: nobody === 1, done: done === 1 });
      });
      need(cells.length === tracks.get(id).k.length);
      return [id, cells];
    }));
  }

  // All that is decided, as the label file has it.
  exported() {
    return this.doc.videos.flatMap((video, index) => {
      const clip = this.clipOf(index);
      const open = clip.us.map(() => 0);
      const known = new Set();
      const found = clip.tracks.map((track) => {
        const cells = this.cells(index, track);
        cells.forEach((cell, j) => {
          if (this.isDecided(cell)) known.add(track.k[j]);
          else open[track.k[j]] += 1;
        });
        return [track, cells];
      });
      if (!known.size) return [];
      const ks = [...known].sort((a, b) => a - b);
      const number = new Map(ks.map((k, n) => [k, n]));
      const listed = (nobody) => found.flatMap(([track, cells]) => {
        const places = cells.flatMap((cell, j) => (this.isDecided(cell) && cell.nobody === nobody ? [j] : []));
        if (!places.length) return [];
        const person = { id: track.id, k: places.map((j) => number.get(track.k[j])),
          b: places.flatMap((j) => track.b.slice(4 * j, 4 * j + 4)) };
        return [nobody ? person : { ...person, l: places.map((j) => idsOf(this.doc, cells[j].labels)) }];
      });
      return [{ id: video.id, keyframes: ks.map((k) => clip.us[k]), undecided: ks.map((k) => open[k]),
        people: listed(false), nobody: listed(true) }];
    });
  }

  // Take a label file's decisions where nothing is picked here. {taken, same, contradictions}, in people.
  merge(file) {
    const result = { taken: 0, same: 0, contradictions: [] };
    const changes = [];
    for (const video of file.videos) {
      const clip = this.clipOf(video.index);
      const given = new Map();
      for (const [kind, nobody] of [["people", false], ["nobody", true]]) {
        for (const { id, k, b, l } of video[kind]) {
          const track = clip.tracks.find((other) => other.id === id);
          const cells = given.get(track) ?? new Map();
          given.set(track, cells);
          k.forEach((n, j) => {
            const place = track ? track.k.indexOf(video.ks[n]) : -1;
            if (place < 0 || cells.has(place) || !sameBox(track.b.slice(4 * place, 4 * place + 4), b.slice(4 * j, 4 * j + 4))) {
              throw new Error(`video ${short(video.id)}, person ${id}: has no such box on this page, or two decisions`);
            }
            cells.set(place, { labels: [...l[j]].sort((x, y) => x - y), nobody, done: true });
          });
        }
      }
      for (const [track, theirs] of given) this.mergeTrack(video, clip, track, theirs, result, changes);
    }
    if (changes.length) this.together(() => changes.forEach((change) => this.change(...change)));
    return result;
  }

  mergeTrack(video, clip, track, theirs, result, changes) {
    const mine = this.cells(video.index, track);
    let [news, against] = [0, null];
    const cells = mine.map((cell, j) => {
      const other = theirs.get(j);
      if (!other) return cell;
      if (!this.isPicked(cell)) {
        news += 1;
        return other;
      }
      if (cell.nobody === other.nobody && String(cell.labels) === String(other.labels)) {
        if (!this.isDecided(cell)) news += 1;
        return this.isDecided(cell) ? cell : other;
      }
      against ??= `${video.id}, person ${track.id}, ${clock(clip.times[track.k[j]], 1)}: `
        + `${cellText(this.doc, cell)} here, ${cellText(this.doc, other)} in the file`;
      return cell;
    });
    if (against) result.contradictions.push(against);
    else if (news) result.taken += 1;
    else result.same += 1;
    if (news) changes.push([video.index, track.id, cells]);
  }
}

const blank = (track) => track.k.map(() => null);

function cellText(doc, cell) {
  if (cell === null) return "undecided";
  if (cell.nobody) return "nobody";
  return cell.labels.map((column) => doc.classes[column].name).join(", ") || (cell.done ? "none of these" : "undecided");
}

// Neighbouring equal cells: [[cell, number], ...].
function runsOf(cells) {
  const runs = [];
  for (const cell of cells) {
    const last = runs.at(-1);
    if (last && sameCell(last[0], cell)) last[1] += 1;
    else runs.push([cell, 1]);
  }
  return runs;
}

function sameCell(a, b) {
  if (a === null || b === null) return a === b;
  return a.nobody === b.nobody && a.done === b.done && String(a.labels) === String(b.labels);
}
