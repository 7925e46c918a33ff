// Talks to smalti review. An act is sent until it is known to be on disk, or refused; its entry makes repeating harmless.

const POLL_MS = 2000, RETRY_MS = 700, PATIENCE_MS = 15000;
const TAB = Array.from(crypto.getRandomValues(new Uint8Array(10)), (n) => (n % 36).toString(36)).join("");
let count = 0, version = "", stamp = "";
let hear = () => {}, lose = () => {};

export const acts = JSON.parse(sessionStorage.getItem("acts") || "[]");  // of this tab, the last one last

export function listen(onNews, onLost) { hear = onNews; lose = onLost; }

function keepActs() { sessionStorage.setItem("acts", JSON.stringify(acts.slice(-500))); }
const pause = (ms) => new Promise((go) => setTimeout(go, ms));

async function ask(path, options = {}) {
  const answer = await fetch(path, { ...options, signal: AbortSignal.timeout(PATIENCE_MS) });
  if (answer.status === 403) throw new Error("stranger");
  if (answer.status >= 500 || answer.status === 409) throw new Error("trouble", { cause: await answer.text() });
  return answer.ok ? { said: await answer.json() } : { refused: await answer.text() };
}

function explain(error) {
  if (error.message === "trouble") return "Not done yet, and tried again: " + error.cause;
  return error.message === "stranger"
    ? "smalti review was started anew. Open the address that it printed in another tab; this page then goes on."
    : "smalti review does not answer. Start it again with the same command; this page then goes on by itself.";
}

async function insist(path, options) {
  for (;;) {
    try {
      const answer = await ask(path, options);
      lose("");
      return answer;
    } catch (error) {
      lose(explain(error));
      await pause(RETRY_MS);
    }
  }
}

function take(said) {
  if (stamp && said.stamp !== stamp) said.changed = true;
  stamp = said.stamp;
  version = said.at;
  const mine = (decision) => decision && (decision.entry.startsWith(TAB) || acts.some((a) => a.entry === decision.entry));
  hear(said, mine);
}

async function deliver(act) {
  sessionStorage.setItem("waiting", JSON.stringify(act));  // survives a reload of the page
  const body = JSON.stringify({ ...act.body, at: version });
  const headers = { "Content-Type": "application/json", "X-Smalti": "1" };
  const { said, refused } = await insist(act.path, { method: "POST", headers, body });
  sessionStorage.removeItem("waiting");
  if (act.path === "/undo") acts.splice(acts.findIndex((a) => a.entry === act.body.undone), 1);
  else if (said) acts.push({ entry: act.body.entry, images: act.body.images.length, first: act.body.images[0] });
  keepActs();
  if (refused) throw new Error("Not recorded: " + refused);
  take(said);
}

const newEntry = () => `${TAB}-${(count += 1)}`;

export function decide(images, action, { label = "", finding = "" } = {}) {
  return deliver({ path: "/decide", body: { images, action, label, finding, entry: newEntry() } });
}

export async function undo() {
  const last = acts[acts.length - 1];
  if (!last) return null;
  await deliver({ path: "/undo", body: { undone: last.entry, entry: newEntry() } });
  return last;
}

export async function start() {
  const { said, refused } = await insist("/state");
  if (refused) throw new Error(refused);
  const waiting = sessionStorage.getItem("waiting");
  return { said, follow: async () => {
    take(said);
    setTimeout(poll, POLL_MS);
    if (waiting) await deliver(JSON.parse(waiting));
  } };
}

async function poll() {
  try {
    const { said, refused } = await ask(`/news?at=${encodeURIComponent(version)}`);
    lose(refused ? refused : "");
    if (said) take(said);
  } catch (error) {
    lose(explain(error));
  }
  setTimeout(poll, POLL_MS);
}

export async function readCard(address) {
  try { return (await ask(address)).said || null; } catch { return null; }  // shown when the server is back
}
