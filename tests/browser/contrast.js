// Texts whose contrast with what is behind them is below WCAG AA's 4.5 to 1, and controls without a name.

function channels(color) {
  const numbers = color.match(/[\d.]+/g).map(Number);
  return { rgb: numbers.slice(0, 3), alpha: numbers.length > 3 ? numbers[3] : 1 };
}

function luminance(rgb) {
  const linear = rgb.map((c) => (c / 255 <= 0.03928 ? c / 255 / 12.92 : ((c / 255 + 0.055) / 1.055) ** 2.4));
  return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2];
}

function behind(node) {
  for (let at = node; at; at = at.parentElement) {
    const { rgb, alpha } = channels(getComputedStyle(at).backgroundColor);
    if (alpha > 0.8) return rgb;
  }
  return [255, 255, 255];
}

function shown(node) {
  const box = node.getBoundingClientRect();
  return box.width > 1 && box.height > 1 && node.checkVisibility({ opacityProperty: true, visibilityProperty: true });
}

function lowContrast() {
  const found = [];
  for (const node of document.body.querySelectorAll("*")) {
    const own = [...node.childNodes].filter((c) => c.nodeType === 3 && c.data.trim());
    if (!own.length || !shown(node) || node.closest(":disabled, script, style, noscript, option")) continue;
    const color = channels(getComputedStyle(node).color).rgb;
    let opacity = 1;
    for (let at = node; at; at = at.parentElement) opacity *= Number(getComputedStyle(at).opacity);
    const paper = behind(node);
    const ink = color.map((c, i) => opacity * c + (1 - opacity) * paper[i]);
    const [a, b] = [luminance(ink), luminance(paper)].sort((x, y) => y - x);
    const ratio = (a + 0.05) / (b + 0.05);
    if (ratio < 4.5) found.push(`${node.className || node.tagName}: ${own[0].data.trim().slice(0, 30)} ${ratio.toFixed(2)}`);
  }
  return [...new Set(found)];
}

function unnamed() {
  return [...document.querySelectorAll("button, input, select, a[href], [role=tab], [role=listbox]")].filter((node) => shown(node)
    && !(node.getAttribute("aria-label") || node.innerText || node.title || node.labels?.[0]?.innerText || node.getAttribute("aria-labelledby")))
    .map((node) => node.outerHTML.slice(0, 90));
}
