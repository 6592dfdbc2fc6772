// Returns the faults of the page in its current state, one line each.
() => {
  const faults = [];
  const all = (selector) => [...document.querySelectorAll(selector)];
  const shown = (element) => element.checkVisibility({ visibilityProperty: true }) && element.getBoundingClientRect().width > 0;
  const name = (element) => `${element.tagName.toLowerCase()}.${element.className.baseVal ?? element.className}`;
  const once = (fault) => faults.includes(fault) || faults.push(fault);

  // Nothing is cut off or requires horizontal scrolling; a fixed bar does not widen the page.
  const width = document.documentElement.clientWidth;
  if (document.documentElement.scrollWidth > width) once(`wider than the window: ${document.documentElement.scrollWidth}`);
  for (const element of all("main *, .rail, .rail *")) {
    if (!shown(element) || element.closest(".visually-hidden, .table-scroll, .skip, thead")) continue;
    if (element.getBoundingClientRect().right > width + 1) once(`stands out to the right: ${name(element)}`);
  }

  // Structure: no skipped heading level, one h1, one main, unique ids, references to existing ids.
  let level = 0;
  for (const heading of all("main :is(h1, h2, h3, h4)")) {
    if (!shown(heading)) continue;
    const own = Number(heading.tagName[1]);
    if (level && own > level + 1) once(`heading of level ${own} after ${level}: ${heading.textContent.trim()}`);
    level = own;
  }
  if (all("h1").filter(shown).length !== 1) once(`headings of the first level: ${all("h1").filter(shown).length}`);
  if (all("main").length !== 1) once(`main landmarks: ${all("main").length}`);
  if (!document.documentElement.lang) once("no language");
  const ids = all("[id]").map((element) => element.id);
  for (const id of ids) if (ids.indexOf(id) !== ids.lastIndexOf(id)) once(`id twice: ${id}`);
  for (const attribute of ["aria-describedby", "aria-labelledby"]) {
    for (const element of all(`[${attribute}]`).filter(shown)) {
      for (const id of element.getAttribute(attribute).split(" ")) if (!ids.includes(id)) once(`${attribute} leads nowhere: ${id}`);
    }
  }

  // Every control has a name and is large enough for a finger.
  for (const field of all("input:not([type=hidden]), select, textarea").filter(shown)) {
    if (!field.labels.length && !field.ariaLabel) once(`no label: ${field.name || field.id}`);
  }
  for (const control of all("a, button, summary").filter(shown)) {
    if (!control.textContent.trim() && !control.ariaLabel) once(`no name: ${name(control)}`);
  }
  for (const control of all("button, summary, select").filter(shown)) {
    const box = control.getBoundingClientRect();
    if (box.width < 23.5 || box.height < 23.5) once(`small: ${name(control)} ${Math.round(box.width)}x${Math.round(box.height)}`);
  }

  // No word on a button is broken to fit, except a name wider than a phone.
  for (const control of all("button, .button, .badge, label, th").filter(shown)) {
    const inside = document.createTreeWalker(control, NodeFilter.SHOW_TEXT);
    for (let node = inside.nextNode(); node; node = inside.nextNode()) {
      if (!shown(node.parentElement) || node.parentElement.closest(".visually-hidden")) continue;
      for (const { 0: word, index } of node.textContent.matchAll(/[^\s-]+/g)) {
        if (word.length > 18) continue;
        const range = document.createRange();
        range.setStart(node, index);
        range.setEnd(node, index + word.length);
        if (new Set([...range.getClientRects()].map((line) => line.top)).size > 1) once(`torn: ${word} in ${name(control)}`);
      }
    }
  }

  // Contrast: 4.5 for text, 3 for large text and for status icons (WCAG AA).
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const rgba = (color) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = color;
    canvas.fillRect(0, 0, 1, 1);
    const [r, g, b, a] = canvas.getImageData(0, 0, 1, 1).data;
    return [r, g, b, a / 255];
  };
  const over = (top, below) => below.map((value, i) => value * (1 - top[3]) + top[i] * top[3]);
  const ground = (element) => {
    const layers = [];
    for (let e = element; e; e = e.parentElement) layers.unshift(rgba(getComputedStyle(e).backgroundColor));
    return layers.reduce((below, layer) => over(layer, below), [255, 255, 255]);
  };
  const light = (color) => {
    const [r, g, b] = color.map((v) => (v / 255 <= 0.03928 ? v / 255 / 12.92 : ((v / 255 + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const contrast = (element) => {
    const below = ground(element);
    const [a, b] = [light(over(rgba(getComputedStyle(element).color), below)), light(below)];
    return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
  };
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let node = texts.nextNode(); node; node = texts.nextNode()) {
    const element = node.parentElement;
    if (!node.textContent.trim() || !shown(element) || element.closest(".visually-hidden, .skip, :disabled")) continue;
    const style = getComputedStyle(element);
    const large = parseFloat(style.fontSize) >= (Number(style.fontWeight) >= 700 ? 18.66 : 24);
    if (contrast(element) < (large ? 3 : 4.5)) once(`contrast ${contrast(element).toFixed(1)}: ${name(element)}`);
  }
  for (const icon of all("[data-icon] svg").filter(shown)) {
    if (contrast(icon) < 3) once(`contrast ${contrast(icon).toFixed(1)}: icon ${icon.closest("[data-icon]").dataset.icon}`);
  }
  return faults;
}
