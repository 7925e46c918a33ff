// Sends the bytes of one image and shows what came back. Its name never leaves the page.

const find = (id) => document.getElementById(id);
const percent = (share) => `${Math.round(100 * share)} %`;
let asked = 0;  // an answer that comes after a newer question is dropped

function add(parent, kind, text = "", name = "") {
  const node = document.createElement(kind);
  node.textContent = text;  // never markup: names of classes and files are anybody's text
  if (name) node.className = name;
  parent.append(node);
  return node;
}

function fail(text) {
  find("failure").textContent = text;
  find("failure").hidden = !text;
}

function explain(status, text, wait) {
  if (status === 403) return "smalti serve was started anew. Open the address that it printed.";
  if (status === 503) return `Other images are being scored. Try again in ${wait || "a few"} s.`;
  return text || `smalti serve answered with status ${status}.`;
}

async function send(file) {
  const number = (asked += 1);
  clear();
  find("drop").hidden = true;
  find("name").textContent = file.name;
  for (const id of ["shown", "answer", "busy"]) find(id).hidden = false;
  try {
    const headers = { "Content-Type": "application/octet-stream", "X-Smalti": "1" };
    const answer = await fetch("/predict?map=1&picture=1", { method: "POST", headers, body: file });
    const known = answer.headers.get("content-type") === "application/json";
    const reply = known ? await answer.json() : await answer.text();
    if (number !== asked) return;
    if (known) show(reply);
    else fail(explain(answer.status, reply, answer.headers.get("retry-after")));
  } catch {
    if (number === asked) fail("smalti serve does not answer, or the file is gone. Start it again with the same command, and open the address that it prints.");
  } finally {
    if (number === asked) find("busy").hidden = true;
  }
}

function clear() {
  fail("");
  for (const id of ["picture", "map"]) { find(id).removeAttribute("src"); find(id).className = ""; find(id).hidden = true; }
  for (const id of ["refused", "said", "numbers", "map-on", "about-map", "blank", "answer", "shown"]) find(id).hidden = true;
}

function show(reply) {
  const { predicted, scores, agreement, refused, picture, map } = reply;
  find("refused").hidden = !refused;
  find("why").textContent = refused;
  find("said").hidden = !predicted;
  find("predicted").textContent = predicted;
  find("agreement").textContent = `${percent(agreement)} of its networks name this class.`;
  find("numbers").hidden = !scores;
  find("bars").replaceChildren();
  find("numbers").className = refused ? "pale" : "";
  for (const [name, score] of Object.entries(scores || {}).sort((a, b) => b[1] - a[1])) {
    const row = add(find("bars"), "li", "", name === predicted ? "given" : "");
    add(row, "span", name);
    add(row, "span", score.toFixed(3), "number");
    add(add(row, "span", "", "track"), "span", "", "bar").style.width = `${100 * score}%`;
  }
  find("blank").hidden = Boolean(picture);
  if (picture) place("picture", `data:image/jpeg;base64,${picture}`);
  if (map) place("map", `data:image/png;base64,${map.png}`);
  find("map-on").hidden = !map;
  find("map-on").setAttribute("aria-pressed", "true");
  find("about-map").hidden = Boolean(!predicted);
  find("about-map").textContent = map
    ? `Map: what the ${map.networks} networks would say to ${map.class} if each tile were the whole image.`
    : "There is no map: no network sees more than one tile of this image, or the networks read its mask.";
}

function place(id, source) {
  const node = find(id);
  node.onload = () => { node.className = node.naturalWidth < 700 ? "small" : ""; };
  node.src = source;
  node.alt = id === "map" ? "map of the answer over the image" : "the image";
  node.hidden = false;
}

function toggle() {
  if (find("map-on").hidden) return;
  find("map").hidden = !find("map").hidden;
  find("map-on").setAttribute("aria-pressed", String(!find("map").hidden));
}

function take(files) {
  if (files.length > 1) fail("One image at a time, please.");
  else if (files.length) send(files[0]);
}

find("file").addEventListener("change", () => { take(find("file").files); find("file").value = ""; });
find("other").addEventListener("click", () => { asked += 1; clear(); find("drop").hidden = false; find("file").focus(); });
find("map-on").addEventListener("click", toggle);
addEventListener("keydown", (event) => { if (event.key === "m" && !event.ctrlKey && !event.metaKey) toggle(); });
addEventListener("dragover", (event) => { event.preventDefault(); find("drop").classList.add("over"); });
addEventListener("dragleave", () => find("drop").classList.remove("over"));
addEventListener("drop", (event) => {
  event.preventDefault();
  find("drop").classList.remove("over");
  take(event.dataTransfer.files);
});
