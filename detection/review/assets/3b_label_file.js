// The label file: all videos' labels in one JSON, written by label pages and review pages alike, read
// by `import_dataset corrections`, by `teach`, and by this page again (another browser, a colleague).

const LABEL_FORMAT = "x3d-action-detection labels";
const LABEL_FILE = "labels.json";

// Class ids of columns, in the order of the label map.
function idsOf(doc, columns) {
  return [...columns].sort((a, b) => a - b).map((column) => doc.classes[column].id);
}

// Who labels: a random name, kept in this browser.
function annotatorId() {
  const name = "action-review:annotator";
  const fresh = [...crypto.getRandomValues(new Uint8Array(8))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  try {
    const kept = localStorage.getItem(name);
    if (kept !== null && /^[0-9a-f]{16}$/.test(kept)) return kept;
    localStorage.setItem(name, fresh);
  } catch { /* nothing is kept: another name each time */ }
  return fresh;
}

function labelFileText(doc, videos) {
  const exclusive = Object.fromEntries(doc.exclusive.map((columns, i) =>
    [doc.exclusiveNames[i], columns.map((column) => doc.classes[column].name)]));
  return `${JSON.stringify({
    format: LABEL_FORMAT, version: 1, page: doc.key, annotator: annotatorId(),
    exported: `${new Date().toISOString().slice(0, 19)}Z`, title: doc.title,
    classes: doc.classes.map(({ id, name }) => ({ id, name })), exclusive, videos,
    videos_count: videos.length, people_count: videos.reduce((sum, video) => sum + video.people.length, 0),
  })}\n`;
}

// Read a label file of this page: {videos: [{index, id, ks, people, nobody}]} with columns for labels.
// Throws an Error whose message says what is wrong.
function readLabelFile(text, doc, clipOf) {
  let file;
  try {
    file = JSON.parse(text);
  } catch {
    throw new Error("it is no JSON, or was cut short");
  }
  const need = (fine, what) => { if (!fine) throw new Error(what); };
  need(file !== null && typeof file === "object" && file.format === LABEL_FORMAT, "it is no label file");
  need(file.version === 1, `it is of version ${JSON.stringify(file.version)}, this page reads 1`);
  need(file.page === doc.key, `it is of another page (${short(file.title)}, ${short(file.page)}), this one is ${doc.key}`);
  need(Array.isArray(file.videos) && file.videos.length === file.videos_count, "its number of videos is not what it says");
  const column = new Map(doc.classes.map(({ id }, i) => [id, i]));
  const seen = new Set();
  const videos = file.videos.map((video) => {
    const index = doc.videos.findIndex(({ id }) => id === video?.id);
    need(index >= 0 && !seen.has(index), `video ${short(video?.id)} is not on this page, or is there twice`);
    seen.add(index);
    const at = new Map(clipOf(index).us.map((us, k) => [us, k]));
    const where = `video ${short(video.id)}`;
    const list = (value) => (need(Array.isArray(value), `${where}: a list is missing`), value);
    const ks = list(video.keyframes).map((us) => at.get(us));
    need(ks.every((k, i) => k !== undefined && (i === 0 || k > ks[i - 1])), `${where}: a keyframe is not on this page`);
    const person = (labelled) => ({ id, k, b, l }) => {
      need(id === null || (Number.isSafeInteger(id) && id >= 0), `${where}: a person's id is ${short(id)}`);
      need(list(k).every((n, i) => Number.isInteger(n) && n >= 0 && n < ks.length && (i === 0 || n > k[i - 1])),
        `${where}: a person's keyframes are wrong`);
      need(list(b).length === 4 * k.length && b.every((x) => typeof x === "number" && x >= -0.01 && x <= 1.01),
        `${where}: a person's boxes are wrong`);
      const columns = labelled ? list(l).map((ids) => list(ids).map((one) => column.get(one))) : k.map(() => []);
      need(columns.length === k.length && columns.flat().every((one) => one !== undefined), `${where}: a class is not of this page`);
      need(columns.every((some) => isPossible(doc, some)), `${where}: classes that exclude each other`);
      return { id, k, b, l: columns };
    };
    return { index, id: video.id, ks, people: list(video.people).map(person(true)), nobody: list(video.nobody).map(person(false)) };
  });
  need(videos.reduce((sum, video) => sum + video.people.length, 0) === file.people_count,
    "its number of people is not what it says");
  return { videos };
}

// Whether columns are each there once, and one at most of each exclusive group.
function isPossible(doc, columns) {
  const groups = columns.map((column) => doc.groupOf[column]).filter((group) => group !== undefined);
  return new Set(columns).size === columns.length && new Set(groups).size === groups.length;
}

const short = (value) => {
  const text = typeof value === "string" ? value : String(JSON.stringify(value));
  return text.length > 60 ? `${text.slice(0, 60)}…` : text;
};
