// Words, signs and small pieces of page that the other modules share.

export const MARKS = { error: "■", warning: "▲", info: "●" };
const SIGNS = { keep: "✓", exclude: "✕", relabel: "⇄", repair: "✚" };

export const find = (id) => document.getElementById(id);

export function add(parent, kind, text = "", name = "") {
  const node = document.createElement(kind);
  node.textContent = text;  // never markup: names and labels are anybody's text
  if (name) node.className = name;
  parent.append(node);
  return node;
}

export function draw(parent, kind, attributes) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", kind);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  parent.append(node);
  return node;
}

export function address(kind, image, words = {}) {
  return `/${kind}?` + new URLSearchParams({ image, ...words });
}

export function severity(card) { return card.findings.length ? card.findings[0].severity : ""; }

export function tell(decision) {
  if (!decision) return "? undecided";
  const text = decision.action === "relabel" ? decision.label : decision.action;
  return `${SIGNS[decision.action] || ""} ${text}`;
}

export function paint(chip, decision) {
  chip.textContent = tell(decision);
  chip.className = `chip ${decision ? decision.action : "undecided"}`;
}

export function baseName(image) { return image.slice(image.lastIndexOf("/") + 1); }
