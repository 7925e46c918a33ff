// The picture: zoom at the pointer, drag, full resolution by regions, outlines drawn as lines over it.

import { address, draw, find } from "./words.js";

const WHOLE_PX = 2048, DETAIL_PX = 4096, SETTLE_MS = 150, LARGEST_DOT = 8;
let card = null, about = null, version = "", fit = { width: 1, height: 1, left: 0, top: 0 };
let zoom = 1, x = 0, y = 0, timer = 0, outlines = [];
const on = { mask: false, outline: true, heat: false };

const whole = (image) => address("picture", image, { px: WHOLE_PX, v: version });

export function setVersion(stamp) { version = stamp; }
export function isZoomed() { return zoom > 1.001; }
export function lookAhead(image) { new Image().src = whole(image); }

export function showPicture(next) {
  card = next;
  about = null;
  outlines = [];
  find("picture").alt = card.image;
  find("broken").hidden = card.part !== "unreadable";
  find("broken").textContent = "This image could not be read; there is no picture of it.";
  find("picture").hidden = find("tools").hidden = card.part === "unreadable";
  if (card.part === "unreadable") find("picture").removeAttribute("src");
  else find("picture").src = whole(card.image);
  find("marks").replaceChildren();
  dropDetail();
  whereTools();
  fitWhole();
}

export function showAbout(details) {
  about = details;
  whereTools();
  fitWhole();
  showHeat();
  about.findings.forEach((f) => f.outline.forEach((polygon) => outlines.push(polygon)));
  drawMarks();
}

function whereTools() {
  find("mask-on").disabled = !about?.mask;
  find("heat-on").disabled = !about?.heatmap;
  find("outline-on").disabled = !about?.findings.some((f) => f.outline.length);
}

function size() {
  const picture = find("picture");
  return about?.size ?? [picture.naturalHeight || 1, picture.naturalWidth || 1];
}

export function fitWhole() {
  const box = find("stage").getBoundingClientRect(), [height, width] = size();
  const scale = Math.min(box.width / width, box.height / height);
  fit = { width: width * scale, height: height * scale };
  fit.left = (box.width - fit.width) / 2;
  fit.top = (box.height - fit.height) / 2;
  const layers = find("layers").style;
  layers.width = `${fit.width}px`;
  layers.height = `${fit.height}px`;
  [zoom, x, y] = [1, fit.left, fit.top];
  place();
}

function place() {
  const box = find("stage").getBoundingClientRect();
  const hold = (at, length, room) => length <= room ? (room - length) / 2 : Math.min(0, Math.max(room - length, at));
  x = hold(x, fit.width * zoom, box.width);
  y = hold(y, fit.height * zoom, box.height);
  find("layers").style.transform = `translate(${x}px, ${y}px) scale(${zoom})`;
  find("layers").style.setProperty("--zoom", zoom);  // lines stay as thin as they are
  const dot = fit.width * zoom / size()[1];  // css px that one px of the image takes
  find("zoom").textContent = `${Math.round(dot * 100)} %`;
  find("picture").classList.toggle("dots", dot > 3);
  clearTimeout(timer);
  timer = setTimeout(refine, SETTLE_MS);
}

export function zoomBy(factor, at = null) {
  const box = find("stage").getBoundingClientRect();
  const [px, py] = at ? [at.clientX - box.left, at.clientY - box.top] : [box.width / 2, box.height / 2];
  const most = Math.max(1, LARGEST_DOT * size()[1] / fit.width);
  const next = Math.max(1, Math.min(most, zoom * factor));
  x = px - (px - x) * next / zoom;
  y = py - (py - y) * next / zoom;
  zoom = next;
  place();
}

export function panBy(dx, dy) {
  x += dx;
  y += dy;
  place();
}

export function pan(key) {
  const box = find("stage").getBoundingClientRect();
  const [dx, dy] = { ArrowLeft: [1, 0], ArrowRight: [-1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] }[key];
  panBy(dx * box.width / 4, dy * box.height / 4);
}

function dropDetail() {
  find("detail").hidden = true;
  find("detail").removeAttribute("src");
}

// Where the whole picture was shrunk, the part in view is asked for at the resolution of the screen.
function refine() {
  if (!about?.size || Math.max(...about.size) <= WHOLE_PX || !isZoomed()) return dropDetail();
  const [height, width] = about.size, box = find("stage").getBoundingClientRect();
  const dot = fit.width * zoom / width;
  if (dot * devicePixelRatio <= WHOLE_PX / Math.max(height, width)) return dropDetail();
  const [row, col] = [Math.max(0, Math.floor(-y / dot)), Math.max(0, Math.floor(-x / dot))];
  const rows = Math.min(height - row, Math.ceil(box.height / dot) + 1);
  const cols = Math.min(width - col, Math.ceil(box.width / dot) + 1);
  const px = Math.min(DETAIL_PX, Math.ceil(Math.max(rows, cols) * Math.min(1, dot * devicePixelRatio)));
  const detail = new Image(), wanted = card;
  detail.onload = () => {
    if (wanted !== card) return;
    const layer = find("detail");
    layer.src = detail.src;
    Object.assign(layer.style, {
      left: `${100 * col / width}%`, top: `${100 * row / height}%`,
      width: `${100 * cols / width}%`, height: `${100 * rows / height}%`,
    });
    layer.classList.toggle("dots", dot > 3);
    layer.hidden = false;
  };
  detail.src = address("region", card.image, { row, col, height: rows, width: cols, px, v: version });
}

export async function toggle(layer) {
  if (find(`${layer}-on`).disabled) return;
  on[layer] = !on[layer];
  find(`${layer}-on`).setAttribute("aria-pressed", on[layer]);
  if (layer === "heat") showHeat();
  else await drawMarks();
}

function showHeat() {
  const heat = find("heat");
  heat.hidden = !(on.heat && about?.heatmap);
  if (heat.hidden) heat.removeAttribute("src");
  else heat.src = address("heatmap", card.image, { px: 1024, v: version });
}

async function drawMarks() {
  const marks = find("marks"), [height, width] = size(), wanted = card;
  if (on.mask && about?.mask && !about.contours) {
    const answer = await fetch(address("outline", card.image, { v: version })).catch(() => null);
    if (answer?.ok) about.contours = await answer.json();
    if (wanted !== card) return;
  }
  marks.setAttribute("viewBox", `0 0 ${width} ${height}`);
  marks.replaceChildren();
  if (on.mask) (about?.contours || []).forEach((p) => drawLine(marks, p.map(([r, c]) => [r * height, c * width]), "mask"));
  if (on.outline) outlines.forEach((polygon) => drawLine(marks, polygon, "paint"));
}

function drawLine(marks, polygon, name) {
  const points = polygon.map(([row, col]) => `${col},${row}`).join(" ");
  // Two lines, dark under bright: seen on dark and on bright tissue, and by any eye.
  draw(marks, "polygon", { points, class: `under ${name}` });
  draw(marks, "polygon", { points, class: name });
}

export function handleStage(onBroken) {
  const stage = find("stage");
  let held = null;
  stage.addEventListener("wheel", (event) => {
    event.preventDefault();
    zoomBy(Math.exp(-event.deltaY / 400), event);
  }, { passive: false });
  stage.addEventListener("dblclick", (event) => {
    if (!event.target.closest("#tools")) zoomBy(isZoomed() ? 0 : size()[1] / fit.width, event);
  });
  stage.addEventListener("pointerdown", (event) => {
    if (event.target.closest("#tools")) return;
    held = { x: event.clientX, y: event.clientY };
    stage.setPointerCapture(event.pointerId);
  });
  stage.addEventListener("pointermove", (event) => {
    if (!held) return;
    panBy(event.clientX - held.x, event.clientY - held.y);
    held = { x: event.clientX, y: event.clientY };
  });
  ["pointerup", "pointercancel"].forEach((name) => stage.addEventListener(name, () => { held = null; }));
  find("picture").addEventListener("load", () => { if (!about?.size) fitWhole(); });
  find("picture").addEventListener("error", async () => {
    const answer = await fetch(find("picture").src).catch(() => null);
    if (!answer) onBroken();  // the server is gone; asked for again when it is back
    else if (!answer.ok) {
      find("broken").textContent = await answer.text();
      find("broken").hidden = false;
      find("picture").hidden = true;
    }
  });
  new ResizeObserver(() => { if (card) fitWhole(); }).observe(stage);
}
