"use strict";
const find = (id) => document.getElementById(id);
const MARKS = { error: "■ error", warning: "▲ warning", info: "● info", "": "○ no finding" };
let cards = [], classes = [], shown = [], at = 0, zoom = 1, busy = false;
const made = [];

function address(kind, card, px) { return `/${kind}?image=${encodeURIComponent(card.image)}&px=${px}`; }
function severity(card) { return card.findings.length ? card.findings[0].severity : ""; }
function state(card) {
  if (!card.decision) return "? undecided";
  return { keep: "✓ keep", exclude: "✕ exclude", relabel: "⇄ " + card.decision.label }[card.decision.action];
}
function fail(text) { find("failure").textContent = text; find("failure").hidden = !text; if (text && find("view").open) { find("broken").textContent = text; find("broken").hidden = false; } }
function add(parent, kind, text) { const node = document.createElement(kind); node.textContent = text || ""; parent.append(node); return node; }

async function post(path, card, action, label) {
  const body = { image: card.image, action, label: label || "", finding: card.findings.length ? card.findings[0].code : "", request_id: crypto.randomUUID() };
  const options = { method: "POST", headers: { "Content-Type": "application/json", "X-Smalti": "1" }, body: JSON.stringify(body) };
  for (let tries = 3; ; tries -= 1) {
    let answer;
    try { answer = await fetch(path, options); } catch (error) {
      if (tries > 1) { await new Promise((go) => setTimeout(go, 500)); continue; }
      throw new Error("Not recorded: smalti review does not answer. Is it still running?");
    }
    if (!answer.ok) throw new Error("Not recorded: " + await answer.text());
    const said = await answer.json();
    card.decision = said.decision;
    find("changed").hidden = !said.changed;
    return said;
  }
}

function choose() {
  const code = find("code").value, label = find("label").value, wanted = find("state").value;
  shown = cards.filter((card) => (!code || card.findings.some((f) => f.code === code)) && (!label || card.label === label)
    && (!wanted || (wanted === "decided") === Boolean(card.decision)));
}
function draw() {
  choose();
  const list = find("gallery"); list.replaceChildren();
  shown.forEach((card, i) => {
    const button = add(add(list, "li"), "button"); button.className = severity(card);
    const image = add(button, "img"); image.loading = "lazy"; image.alt = ""; image.src = address("picture", card, 256);
    add(button, "span", card.image); add(button, "span", MARKS[severity(card)]);
    add(button, "span", (card.label || card.part) + ", " + state(card));
    button.addEventListener("click", () => open(i));
  });
  const left = cards.filter((card) => !card.decision).length;
  find("count").textContent = `${shown.length} of ${cards.length} images shown, ${left} undecided`;
}
function size() { find("layers").style.width = find("layers").style.height = 100 * zoom + "%"; }
function open(i) {
  at = Math.max(0, Math.min(shown.length - 1, i)); zoom = 1; size();
  const card = shown[at]; fail(""); find("broken").hidden = true;
  find("name").textContent = `${card.image} (${at + 1} of ${shown.length})`;
  find("facts").textContent = `class ${card.label || "not shown"}, case ${card.case}, ${card.part}: ${state(card)}`;
  find("picture").src = address("picture", card, 2048); find("picture").alt = card.image;
  find("outline").removeAttribute("src"); outline(!find("outline").hidden);
  const list = find("findings"); list.replaceChildren();
  card.findings.forEach((f) => add(list, "li", `${MARKS[f.severity]}, ${f.code}: ${f.message}`));
  if (!find("view").open) find("view").showModal();
}
function outline(on) {
  const card = shown[at], layer = find("outline");
  layer.hidden = !on;
  if (on && card.mask) layer.src = address("outline", card, 2048); else layer.removeAttribute("src");
}
async function decide(action, label) {
  const card = shown[at];
  await post("/decide", card, action, label);  // on disk before the next picture shows
  made.push({ card, decision: card.decision }); open(at + 1);
}
async function undo() {
  const last = made[made.length - 1]; if (!last) return;
  await post("/undo", last.card, last.decision.action, last.decision.label);
  made.pop();
  const place = shown.indexOf(last.card); open(place < 0 ? at : place);
}
async function press(key) {
  if (busy) return;
  busy = true;
  try {
    if (key === "k") await decide("keep");
    else if (key === "x") await decide("exclude");
    else if (/^[1-9]$/.test(key) && classes[key - 1] !== undefined) await decide("relabel", classes[key - 1]);
    else if (key === "u") await undo();
    else if (key === "ArrowRight") open(at + 1);
    else if (key === "ArrowLeft") open(at - 1);
    else if (key === "m") outline(find("outline").hidden);
    else if (key === "+" || key === "-") { zoom = Math.max(1, Math.min(8, zoom * (key === "+" ? 1.25 : 0.8))); size(); }
    else if (key === "/") find("help").hidden = !find("help").hidden;
    else if (key === "q") find("view").close();
  } catch (error) { fail(error.message); } finally { busy = false; }
}
async function decideAll(action) {
  const chosen = shown.filter((card) => action === "keep" || card.part !== "unlabelled");  // excluding those has no effect
  if (busy || !chosen.length || !confirm(`${action} ${chosen.length} of the ${shown.length} images shown?`)) return;
  busy = true; let done = 0;
  try { for (const card of chosen) { await post("/decide", card, action); done += 1; } }
  catch (error) { fail(`${done} of ${chosen.length} recorded. ${error.message}`); }
  busy = false; draw();
}
async function start() {
  const answer = await fetch("/state");
  if (!answer.ok) { fail(await answer.text()); return; }
  const said = await answer.json();
  ({ cards, classes } = said); find("changed").hidden = !said.changed;
  [...new Set(cards.flatMap((card) => card.findings.map((f) => f.code)))].sort().forEach((code) => add(find("code"), "option", code));
  draw();
}
["code", "label", "state"].forEach((id) => find(id).addEventListener("change", draw));
find("keep-all").addEventListener("click", () => decideAll("keep"));
find("exclude-all").addEventListener("click", () => decideAll("exclude"));
document.querySelectorAll("[data-key]").forEach((button) => button.addEventListener("click", () => press(button.dataset.key)));
document.addEventListener("keydown", (event) => {
  if (!find("view").open || event.ctrlKey || event.metaKey || event.altKey) return;
  if (/^([kxum+\-\/1-9]|Arrow(Left|Right))$/.test(event.key)) { event.preventDefault(); press(event.key); }
});
find("stage").addEventListener("wheel", (event) => { event.preventDefault(); press(event.deltaY < 0 ? "+" : "-"); }, { passive: false });
find("picture").addEventListener("error", async () => {
  const answer = await fetch(find("picture").src);
  if (!answer.ok) { find("broken").textContent = await answer.text(); find("broken").hidden = false; }
});
find("view").addEventListener("close", draw);
start();
