// What is known about the image beside its picture: findings, scores, losses, neighbours, earlier decisions.

import { MARKS, add, address, baseName, draw, find, tell } from "./words.js";

const WIDTH = 260, HEIGHT = 96, LEFT = 34, BOTTOM = 18, PAD = 6;
const MOST_PARTNERS = 4;

export function showPanel(card, about, { cards, classes, visit, accept }) {
  const panel = find("panel");
  panel.replaceChildren();
  tellFacts(panel, card, about);
  if (!about) {
    card.findings.forEach((f) => add(panel, "p", `${MARKS[f.severity]} ${f.severity}: ${f.code}`));
    return;
  }
  listFindings(panel, about, accept);
  if (about.trace) showTrace(panel, card, about.trace, classes);
  showNeighbours(panel, `Most alike, class ${card.label}`, about.alike, cards, visit);
  showNeighbours(panel, "Most alike, other classes", about.unlike, cards, visit);
  listHistory(panel, about.history);
  showPartners(card, about, cards, visit);
}

function tellFacts(panel, card, about) {
  const facts = [["class", card.label ?? `not shown (${card.part})`]];
  if (card.case && card.case !== card.image) facts.push(["case", card.case]);
  if (card.fold !== null) facts.push(["fold", card.fold]);
  if (about?.size) facts.push(["size", `${about.size[1]} × ${about.size[0]} px`]);
  const list = add(panel, "dl", "", "facts");
  facts.forEach(([name, value]) => { add(list, "dt", name); add(list, "dd", value); });
}

function listFindings(panel, about, accept) {
  if (!about.findings.length) { add(panel, "p", "○ No finding."); return; }
  const list = add(panel, "ul", "", "findings");
  const first = about.findings.findIndex((f) => f.proposal);
  about.findings.forEach((finding, i) => {
    const item = add(list, "li", "", finding.severity);
    add(item, "strong", `${MARKS[finding.severity]} ${finding.severity}: ${finding.code}`);
    add(item, "p", finding.message);
    if (!finding.proposal) return;
    const text = finding.proposal === "relabel" ? `relabel to ${finding.label}` : finding.proposal;
    const button = add(item, "button", `Accept: ${text}`);
    if (i === first) add(button, "kbd", "a");
    button.addEventListener("click", () => accept(finding));
  });
}

function showTrace(panel, card, trace, classes) {
  add(panel, "h3", "Scores without having learned from its case");
  const bars = add(panel, "ul", "", "bars");
  const names = classes.filter((name) => name in trace.scores);
  const top = names.reduce((best, name) => trace.scores[name] > trace.scores[best] ? name : best, names[0]);
  names.forEach((name) => {
    const item = add(bars, "li");
    const marks = [name === card.label && "given", name === top && "highest"].filter(Boolean).join(", ");
    add(item, "span", marks ? `${name} (${marks})` : name, name === card.label ? "given" : "");
    add(item, "span", trace.scores[name].toFixed(2), "number");
    add(add(item, "span", "", "track"), "span", "", "bar").style.width = `${100 * trace.scores[name]}%`;
  });
  add(panel, "h3", `Loss of the given class: ${trace.loss.toFixed(2)}`);
  if (trace.history.length > 1) drawHistory(panel, trace.history, Math.log(names.length));
}

// Held-out loss by epoch; the dashed line is what guessing evenly among the classes costs.
function drawHistory(panel, history, guess) {
  const label = `Held-out loss by epoch, from ${history[0][1].toFixed(2)} to ${history[history.length - 1][1].toFixed(2)}`;
  const chart = draw(panel, "svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, class: "chart", role: "img", "aria-label": label });
  const epochs = history.map(([epoch]) => epoch), losses = history.map(([, loss]) => loss);
  const most = Math.max(...losses, guess * 1.1), [first, last] = [epochs[0], epochs[epochs.length - 1]];
  const across = (epoch) => LEFT + (WIDTH - LEFT - PAD) * (epoch - first) / Math.max(1, last - first);
  const down = (loss) => PAD + (HEIGHT - BOTTOM - PAD) * (1 - loss / most);
  const write = (text, x, y, anchor) => { draw(chart, "text", { x, y, "text-anchor": anchor }).textContent = text; };
  draw(chart, "path", { d: `M${LEFT} ${PAD}V${HEIGHT - BOTTOM}H${WIDTH - PAD}`, class: "axis" });
  draw(chart, "path", { d: `M${LEFT} ${down(guess)}H${WIDTH - PAD}`, class: "guess" });
  write("guess", WIDTH - PAD, down(guess) - 3, "end");
  write(most.toFixed(1), LEFT - 4, PAD + 8, "end");
  write("0", LEFT - 4, HEIGHT - BOTTOM, "end");
  write(`epoch ${first}`, LEFT, HEIGHT - 5, "start");
  write(last, WIDTH - PAD, HEIGHT - 5, "end");
  draw(chart, "polyline", { points: history.map(([e, l]) => `${across(e)},${down(l)}`).join(" "), class: "line" });
  history.forEach(([e, l]) => draw(chart, "circle", { cx: across(e), cy: down(l), r: 2 }));
}

function showNeighbours(panel, title, names, cards, visit) {
  if (!names.length) return;
  add(panel, "h3", title);
  const list = add(panel, "ul", "", "neighbours");
  names.slice(0, 6).forEach((name) => {
    const button = add(add(list, "li"), "button");
    button.title = name;
    const image = add(button, "img");
    image.src = address("picture", name, { px: 256 });
    image.alt = "";
    add(button, "span", cards.get(name).label ?? cards.get(name).part);
    button.setAttribute("aria-label", `${name}, ${cards.get(name).label}`);
    button.addEventListener("click", () => visit(name));
  });
}

function listHistory(panel, history) {
  if (!history.length) return;
  add(panel, "h3", "Decisions so far");
  const list = add(panel, "ol", "", "history");
  history.forEach((row) => add(list, "li", `${tell(row)} · ${row.who}, ${row.when.slice(0, 16).replace("T", " ")}`));
}

export function hidePartners() { find("partners").hidden = true; }

function showPartners(card, about, cards, visit) {
  const close = about.findings.filter((f) => f.others.length < MOST_PARTNERS);  // a wider group is no pair to compare
  const names = [...new Set(close.flatMap((f) => f.others))].filter((n) => cards.has(n)).slice(0, MOST_PARTNERS);
  const place = find("partners");
  place.replaceChildren();
  place.hidden = !names.length;
  names.forEach((name) => {
    const other = cards.get(name), figure = add(place, "figure");
    const button = add(figure, "button");
    button.setAttribute("aria-label", `Go to ${name}`);
    if (other.part !== "unreadable") {
      const image = add(button, "img");
      image.src = address("picture", name, { px: names.length > 1 ? 512 : 1024 });
      image.alt = name;
    }
    button.addEventListener("click", () => visit(name));
    add(figure, "figcaption", `${baseName(name)} · ${other.label ?? other.part} · ${tell(other.decision)}`);
  });
}
