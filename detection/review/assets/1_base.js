// Small helpers: elements, colours, times, boxes. Texts only ever become text nodes.

// Of people by track number, as in annotated videos; the document brings them.
let palette = ["#ffffff"];

function el(tag, properties = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (name === "class") node.className = value;
    else if (name === "style") for (const [key, v] of Object.entries(value)) node.style.setProperty(key, v);
    else if (name in node && !name.startsWith("aria") && name !== "list") node[name] = value;
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return node;
}

const byId = (id) => document.getElementById(id);
const clamp = (value, low, high) => Math.min(high, Math.max(low, value));
const colorOf = (id) => palette[(((id - 1) % palette.length) + palette.length) % palette.length];

// A colour for bars on paper: darker where the paper is light, so that yellow is seen.
function inkOf(color, dark) {
  if (dark) return color;
  const channels = [1, 3, 5].map((i) => Math.round(0.78 * parseInt(color.slice(i, i + 2), 16)));
  return `rgb(${channels.join(" ")})`;
}

const percent = (thousandths) => (thousandths / 1000).toFixed(2);

// A name on two lines at most, with all of it as a tooltip.
const named = (name, kind = "name") => el("span", { class: `${kind} clamp`, title: name }, name);

function clock(seconds, digits = 2) {
  const sign = seconds < 0 ? "-" : "";
  const units = Math.round(Math.abs(seconds) * 10 ** digits);
  const whole = Math.floor(units / 10 ** digits);
  const minutes = Math.floor(whole / 60);
  const rest = String(whole % 60).padStart(2, "0");
  const tail = digits ? "." + String(units % 10 ** digits).padStart(digits, "0") : "";
  if (minutes < 60) return `${sign}${minutes}:${rest}${tail}`;
  return `${sign}${Math.floor(minutes / 60)}:${String(minutes % 60).padStart(2, "0")}:${rest}${tail}`;
}

function counted(number, word, words = word + "s") {
  return `${number.toLocaleString("en")} ${number === 1 ? word : words}`;
}

function iou(a, b) {
  const w = Math.min(a[2], b[2]) - Math.max(a[0], b[0]);
  const h = Math.min(a[3], b[3]) - Math.max(a[1], b[1]);
  if (w <= 0 || h <= 0) return 0;
  const area = (x) => (x[2] - x[0]) * (x[3] - x[1]);
  return (w * h) / (area(a) + area(b) - w * h);
}

function between(a, b, share) {
  return a.map((value, i) => value + share * (b[i] - value));
}

// The first position whose value is above `wanted`, in an ascending list.
function upperBound(values, wanted) {
  let low = 0;
  let high = values.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (values[middle] <= wanted) low = middle + 1;
    else high = middle;
  }
  return low;
}

// Pairs of two lists of people by overlap, the largest first: [[i, j], ...].
function pairUp(first, second, least) {
  const found = [];
  first.forEach((a, i) => second.forEach((b, j) => {
    const overlap = iou(a.box, b.box);
    if (overlap >= least) found.push([overlap, i, j]);
  }));
  found.sort((x, y) => y[0] - x[0]);
  const left = new Set();
  const right = new Set();
  return found.filter(([, i, j]) => {
    if (left.has(i) || right.has(j)) return false;
    left.add(i);
    right.add(j);
    return true;
  }).map(([, i, j]) => [i, j]);
}
