"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const all = (selector, root = document) => [...root.querySelectorAll(selector)];

// Tables: a heading sorts, pressed again the other way round.
for (const button of all("th button")) button.addEventListener("click", () => {
  const heading = button.parentElement, table = heading.closest("table"), body = table.tBodies[0], column = heading.cellIndex;
  const down = heading.ariaSort !== "descending";
  all("thead th", table).forEach(other => other.removeAttribute("aria-sort"));
  heading.ariaSort = down ? "descending" : "ascending";
  const value = row => row.cells[column].dataset.value;
  const compare = (a, b) => a === b ? 0 : a === "" ? 1 : b === "" ? -1  // what is not known stays below
    : (isNaN(a) || isNaN(b) ? b.localeCompare(a) : b - a) * (down ? 1 : -1);
  body.append(...[...body.rows].sort((a, b) => compare(value(a), value(b))));
});

// Two pictures and a divider: dragged on the picture or by the range below it.
const drawn = (text) => text === undefined ? "" : ` ${text}`;
function connect(root) {
  const stage = root.querySelector(".stage"), range = root.querySelector("input[type=range]");
  const cut = value => { range.value = value; stage.style.setProperty("--cut", `${range.value}%`); };
  const at = event => { const box = stage.getBoundingClientRect(); cut(100 * (event.clientX - box.left) / box.width); };
  range.addEventListener("input", () => cut(range.value));
  return {stage, cut, at};
}
function show(root, item) {
  const [before, after] = all(".stage img", root), names = all("select[data-side]").map(select => select.value);
  [before.src, after.src] = names.map(name => item.images[name] ?? item.images.input);
  [before.alt, after.alt] = names;
  return names.map(name => `${name}${drawn(item.scores[name])}`).join(" | ");
}
const figures = all("figure[data-case]");
const refresh = () => figures.forEach(figure => {
  figure.querySelector(".scores").textContent = show(figure, data.cases[figure.dataset.case]);
});
for (const figure of figures) {
  const {stage, at} = connect(figure);
  stage.addEventListener("pointerdown", event => { at(event); stage.setPointerCapture(event.pointerId); });
  stage.addEventListener("pointermove", event => { if (event.buttons) at(event); });
  const open = () => openCase(data.cases[figure.dataset.case]);
  stage.addEventListener("dblclick", open);
  figure.querySelector("button").addEventListener("click", open);
}
all("select[data-side]").forEach(select => select.addEventListener("change", refresh));
refresh();

// One pair large: wheel, pinch, buttons and double click zoom; dragging moves the picture, or the divider at 1x.
const dialog = document.querySelector("dialog"), big = connect(dialog), moved = dialog.querySelector(".moved");
let scale = 1, x = 0, y = 0;
const pointers = new Map();
function place() {
  const {clientWidth: width, clientHeight: height} = big.stage;
  scale = Math.min(16, Math.max(1, scale));
  x = Math.min(0, Math.max(width * (1 - scale), x));
  y = Math.min(0, Math.max(height * (1 - scale), y));
  moved.style.transform = `translate(${x}px, ${y}px) scale(${scale})`;
  // The divider stays where it is on the screen, so the cut moves within the picture.
  const cut = +dialog.querySelector("input").value / 100 * width;
  moved.style.setProperty("--cut", `${100 * (cut - x) / (width * scale)}%`);
  dialog.querySelector("output").textContent = `${Math.round(scale * 10) / 10}×`;
}
function zoom(factor, clientX, clientY) {
  const box = big.stage.getBoundingClientRect(), before = scale;
  const px = clientX === undefined ? box.width / 2 : clientX - box.left;
  const py = clientY === undefined ? box.height / 2 : clientY - box.top;
  scale = Math.min(16, Math.max(1, scale * factor));
  x = px - (px - x) * scale / before; y = py - (py - y) * scale / before;
  place();
}
function openCase(item) {
  dialog.querySelector(".name").textContent = `${item.name}: ${show(dialog, item)}`;
  big.stage.style.setProperty("--ratio", item.ratio);
  scale = 1; x = y = 0;
  dialog.showModal(); big.cut(50); place();
}
big.stage.addEventListener("wheel", event => {
  event.preventDefault(); zoom(Math.exp(-event.deltaY / 400), event.clientX, event.clientY);
}, {passive: false});
big.stage.addEventListener("dblclick", event => zoom(scale > 1 ? 1 / scale : 4, event.clientX, event.clientY));
big.stage.addEventListener("pointerdown", event => {
  pointers.set(event.pointerId, event); big.stage.setPointerCapture(event.pointerId);
});
big.stage.addEventListener("pointermove", event => {
  const last = pointers.get(event.pointerId);
  if (!last) return;
  if (pointers.size > 1) {
    const other = [...pointers.values()].find(one => one.pointerId !== event.pointerId);
    const apart = one => Math.hypot(one.clientX - other.clientX, one.clientY - other.clientY);
    zoom(apart(event) / Math.max(1, apart(last)), (event.clientX + other.clientX) / 2, (event.clientY + other.clientY) / 2);
  } else if (scale > 1) { x += event.clientX - last.clientX; y += event.clientY - last.clientY; place(); }
  else { big.at(event); place(); }
  pointers.set(event.pointerId, event);
});
for (const end of ["pointerup", "pointercancel"]) big.stage.addEventListener(end, event => pointers.delete(event.pointerId));
all("[data-zoom]").forEach(button => button.addEventListener("click", () => zoom(+button.dataset.zoom)));
dialog.querySelector("input").addEventListener("input", place);
window.addEventListener("resize", () => { if (dialog.open) place(); });
