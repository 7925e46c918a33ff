// The gallery: which cards are shown, in which order; drawn a page at a time as one scrolls.

import { MARKS, add, address, baseName, find, paint, severity } from "./words.js";

const PAGE = 60;
const FILTERS = ["search", "code", "label", "fold", "case", "state", "sort"];
export let shown = [];
let cards = [], nodes = new Map(), drawn = 0, open = () => {}, version = "";

export function fill(state, onOpen) {
  cards = state.cards;
  open = onOpen;
  version = state.stamp;
  const codes = new Set(cards.flatMap((card) => card.findings.map((f) => f.code)));
  [...codes].sort().forEach((code) => add(find("code"), "option", code));
  const cases = new Set(cards.map((card) => card.case).filter(Boolean));
  find("by-case").hidden = cases.size === cards.filter((card) => card.case).length;  // each image its own case
  if (!find("by-case").hidden) [...cases].sort().forEach((name) => add(find("cases"), "option", name));
  FILTERS.forEach((id) => find(id).addEventListener("input", show));
  new IntersectionObserver((seen) => { if (seen.some((s) => s.isIntersecting)) drawMore(); }, { rootMargin: "800px" })
    .observe(find("more"));
}

const ORDERS = {
  severity: () => 0,  // as the server sent them
  loss: (a, b) => (b.loss ?? -1) - (a.loss ?? -1),
  name: (a, b) => a.image.localeCompare(b.image, undefined, { numeric: true }),
};

function choose() {
  const [search, code, label, fold, of, state, sort] = FILTERS.map((id) => find(id).value);
  const wanted = search.trim().toLowerCase();
  shown = cards.filter((card) => (!wanted || card.image.toLowerCase().includes(wanted))
    && (!code || (code === "-" ? !card.findings.length : card.findings.some((f) => f.code === code)))
    && (!label || card.label === label) && (!fold || String(card.fold) === fold) && (!of || card.case === of)
    && (!state || (state === "decided") === Boolean(card.decision)));
  if (sort !== "severity") shown.sort(ORDERS[sort]);
}

export function show() {
  choose();
  nodes = new Map();
  drawn = 0;
  find("gallery").replaceChildren();
  drawMore();
  tellCount();
  const possible = (action) => shown.some((card) => card.actions.includes(action));
  find("keep-all").disabled = !possible("keep");
  find("exclude-all").disabled = !possible("exclude");
}

function drawMore(least = 0) {
  const until = Math.min(shown.length, Math.max(drawn + PAGE, least));
  for (; drawn < until; drawn += 1) drawCard(shown[drawn]);
  find("more").textContent = drawn < shown.length ? "…" : "";
}

function drawCard(card) {
  const worst = severity(card), button = add(add(find("gallery"), "li"), "button", "", `card ${worst}`);
  button.title = worst ? `${card.image}: ${worst}, ${card.findings.map((f) => f.code).join(", ")}` : card.image;
  if (card.part === "unreadable") add(button, "span", "no picture", "blank");
  else {
    const image = add(button, "img");
    image.loading = "lazy";
    image.alt = "";
    image.src = address("picture", card.image, { px: 256, v: version });
    image.addEventListener("error", () => image.replaceWith(add(button, "span", "no picture", "blank")));
  }
  const chip = add(button, "span");
  paint(chip, card.decision);
  add(button, "strong", baseName(card.image));
  const loss = card.loss === null ? "" : ` · loss ${card.loss.toFixed(2)}`;
  add(button, "span", (card.label ?? card.part) + loss, "class");
  const more = card.findings.length > 1 ? ` +${card.findings.length - 1}` : "";
  const text = worst ? `${MARKS[worst]} ${card.findings[0].code}${more}` : "○ no finding";
  add(button, "span", text, `finding ${worst}`);
  button.addEventListener("click", () => open(shown.indexOf(card)));
  nodes.set(card, { button, chip });
}

export function refresh(card) {
  const node = nodes.get(card);
  if (node) paint(node.chip, card.decision);
}

export function tellCount() {
  const left = cards.filter((card) => !card.decision && card.actions.length).length;
  find("count").textContent = `${shown.length} of ${cards.length} images shown · ${left} undecided`;
}

export function focusCard(card) {
  const place = shown.indexOf(card);
  if (place < 0) return;
  drawMore(place + 1);
  nodes.get(card).button.focus();
}

// Arrows move from card to card; a row has as many as share the top of the first.
export function moveFocus(key) {
  const at = shown.findIndex((card) => nodes.get(card)?.button === document.activeElement);
  if (at < 0) return false;
  const tops = [...nodes.values()].map((node) => node.button.offsetTop);
  const columns = Math.max(1, tops.findIndex((top) => top !== tops[0]));
  const step = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: columns, ArrowUp: -columns }[key];
  const next = shown[at + step];
  if (!step || !next) return false;
  focusCard(next);
  return true;
}
