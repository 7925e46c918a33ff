// The page: keys become acts, one after the other; the next picture opens when an act is known to be on disk.

import * as gallery from "./gallery.js";
import { hidePartners, showPanel } from "./panel.js";
import * as stage from "./stage.js";
import { add, address, baseName, find, paint, tell } from "./words.js";
import * as wire from "./wire.js";

const AHEAD = 3;
const cards = new Map(), keys = [], abouts = new Map();
let classes = [], at = 0, visited = null, busy = false, troubled = false;

const current = () => visited || gallery.shown[at];
const isOpen = () => find("view").open;

function fail(text) {
  find("failure").textContent = text;
  find("failure").hidden = !text;
  if (text && isOpen()) note(text, true);
}

function note(text, alarm = false) {
  const line = find(isOpen() ? "note" : "said");
  line.textContent = text;
  line.classList.toggle("alarm", alarm);
}

function lose(text) {
  const waits = busy ? ` What you decided is kept${keys.length ? `, and ${keys.length} more keys` : ""}.` : "";
  find("lost").textContent = text && `⚠ ${text}${waits}`;
  find("lost").hidden = !text;
  if (isOpen() && text) note(find("lost").textContent, true);
  if (isOpen() && !text && troubled) { note(""); open(at, visited); }
  troubled = Boolean(text);
}

function hear(news, isMine) {
  if (news.changed) find("changed").hidden = false;
  if (news.all) cards.forEach((card) => { card.decision = null; });
  for (const [image, decision] of Object.entries(news.decisions)) {
    const card = cards.get(image);
    if (!card) continue;  // a decision about an image that is not there
    card.decision = decision;
    abouts.delete(image);
    if (isOpen() && card === current() && !isMine(decision)) {
      note(decision ? `Decided elsewhere: ${tell(decision)}, by ${decision.who}.` : "Made undecided elsewhere.");
      readAbout(card);
    }
    if (!news.all) gallery.refresh(card);
  }
  if (news.all) cards.forEach(gallery.refresh);
  if (isOpen()) paint(find("state-now"), current().decision);
  gallery.tellCount();
}

async function readAbout(card) {
  const about = abouts.get(card.image) || await wire.readCard(address("card", card.image));
  if (!about) return;
  abouts.set(card.image, about);
  if (card !== current()) return;
  stage.showAbout(about);
  showPanel(card, about, { cards, classes, visit, accept: (finding) => press({ accept: finding }) });
}

function open(i, other = null) {
  at = Math.max(0, Math.min(gallery.shown.length - 1, i));
  visited = other;
  const card = current();
  if (!card) return;
  if (!isOpen()) find("view").showModal();
  note("");
  find("view").dataset.image = card.image;
  find("name").textContent = baseName(card.image);
  add(find("name"), "small", visited ? " · a neighbour" : ` · ${at + 1} of ${gallery.shown.length}`);
  find("name").title = card.image;
  paint(find("state-now"), card.decision);
  document.querySelectorAll("[data-action]").forEach((button) => {
    button.disabled = !card.actions.includes(button.dataset.action);
  });
  hidePartners();
  stage.showPicture(card);
  showPanel(card, null, { cards, classes });
  find("panel").scrollTop = 0;
  find("stage").focus({ preventScroll: true });
  readAbout(card).then(() => {
    if (card === current()) gallery.shown.slice(at + 1, at + 1 + AHEAD).forEach(lookAhead);
  });
}

async function lookAhead(card) {
  if (card.part !== "unreadable") stage.lookAhead(card.image);
  if (abouts.size > 200) abouts.clear();
  if (!abouts.has(card.image)) {
    const about = await wire.readCard(address("card", card.image));
    if (about) abouts.set(card.image, about);
  }
}

function visit(image) {
  const place = gallery.shown.indexOf(cards.get(image));
  if (place >= 0) open(place);
  else open(at, cards.get(image));
}

function step(by) { open(visited ? at : at + by); }

async function decide(action, words) {
  const card = current();
  if (!card.actions.includes(action)) {
    note(`'${action}' has no effect on ${baseName(card.image)} (${card.part}).`);
    return;
  }
  await wire.decide([card.image], action, words);  // on disk before the next picture shows
  const last = !visited && at === gallery.shown.length - 1;
  step(1);
  note(`${baseName(card.image)}: ${tell(card.decision)}.${last ? " That was the last one." : ""}`);
}

async function accept(finding) {
  if (!finding) note("No finding proposes anything about this image.");
  else await decide(finding.proposal, { label: finding.label, finding: finding.code });
}

async function undo() {
  const undone = await wire.undo();
  if (!undone) { note("Nothing to undo."); return; }
  const card = cards.get(undone.first);
  if (isOpen() && card && undone.images === 1) visit(card.image);
  const text = undone.images === 1 ? baseName(undone.first) : `${undone.images} images`;
  note(`Undone: ${text}${undone.images === 1 && card ? `, now ${tell(card.decision)}` : ""}.`);
}

async function follow(key) {
  if (key.accept) return accept(key.accept);
  if (key === "a") return accept(abouts.get(current().image)?.findings.find((f) => f.proposal));
  if (key === "k") return decide("keep");
  if (key === "x") return decide("exclude");
  if (key === "r") return decide("repair");
  if (key === "u") return undo();
  if (key === "n") return step(1);
  if (key === "p") return step(-1);
  if (key === "q") return find("view").close();
  const place = key.startsWith("class-") ? Number(key.slice(6)) : "123456789".indexOf(key);
  if (place >= 0 && place < classes.length) return decide("relabel", { label: classes[place] });
}

// Keys typed ahead are kept, and followed in order.
async function press(key) {
  keys.push(key);
  if (busy) return;
  busy = true;
  fail("");
  while (keys.length) {
    try { await follow(keys.shift()); } catch (error) { keys.length = 0; fail(error.message); }
  }
  busy = false;
}

function look(key) {
  if (key === "+" || key === "=") stage.zoomBy(1.5);
  else if (key === "-") stage.zoomBy(1 / 1.5);
  else if (key === "0") stage.fitWhole();
  else if (key === "m") stage.toggle("mask");
  else if (key === "o") stage.toggle("outline");
  else if (key === "h") stage.toggle("heat");
  else if (key === "?") { find("help").hidden = !find("help").hidden; find("help-on").setAttribute("aria-expanded", !find("help").hidden); }
  else return false;
  return true;
}

function handleKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.matches("input, select") || find("sure").open) return;
  const { key } = event;
  let done = true;
  if (!isOpen()) {
    if (key === "u") press("u");
    else if (key === "/") find("search").focus();
    else done = key.startsWith("Arrow") && gallery.moveFocus(key);
  } else if (look(key)) done = true;
  else if (key.startsWith("Arrow") && stage.isZoomed()) stage.pan(key);
  else if (key === "ArrowRight") press("n");
  else if (key === "ArrowLeft") press("p");
  else if (/^[kxruanp1-9]$/.test(key)) { if (!event.repeat) press(key); }  // a key held down decides once
  else done = false;
  if (done) event.preventDefault();
}

function askAll(action) {
  const chosen = gallery.shown.filter((card) => card.actions.includes(action)).map((card) => card.image);
  const rest = gallery.shown.length - chosen.length;
  find("question").textContent = `${action} ${chosen.length} images?`
    + (rest ? ` The other ${rest} shown cannot be decided that way.` : "") + " It is one act: undo takes all of it back.";
  find("yes").onclick = async () => {
    find("sure").close();
    busy = true;
    try { await wire.decide(chosen, action); fail(""); } catch (error) { fail(error.message); }
    busy = false;
    gallery.show();
  };
  find("sure").showModal();
}

function handlePage() {
  document.addEventListener("keydown", handleKey);
  document.querySelectorAll("[data-key]").forEach((button) => button.addEventListener("click", () => {
    if (!look(button.dataset.key)) press(button.dataset.key);
  }));
  find("keep-all").addEventListener("click", () => askAll("keep"));
  find("exclude-all").addEventListener("click", () => askAll("exclude"));
  find("undo").addEventListener("click", () => press("u"));
  find("no").addEventListener("click", () => find("sure").close());
  find("view").addEventListener("cancel", (event) => {
    if (!busy) return;
    event.preventDefault();  // an act is on its way; what was typed after it can be dropped
    keys.length = 0;
  });
  find("view").addEventListener("close", () => {
    const card = gallery.shown[at];
    gallery.show();
    gallery.focusCard(card);
  });
  addEventListener("beforeunload", (event) => { if (busy) event.preventDefault(); });
  stage.handleStage(() => { troubled = true; });
}

async function start() {
  wire.listen(hear, lose);
  const { said, follow: begin } = await wire.start();
  classes = said.classes;
  said.cards.forEach((card) => { card.decision = null; cards.set(card.image, card); });
  stage.setVersion(said.stamp);
  gallery.fill(said, open);
  handlePage();
  await begin();
  gallery.show();
}

start().catch((error) => fail(error.message));
