// One page, one question after another. The next question appears once the server has said that the answer is on disk.
"use strict";

const HOME = location.pathname.replace(/\/+$/, "");
const DRAFT = `draft ${HOME}`; // an order begun survives a closed tab
const SCALES = { quality: ["Best", "Worst"], fidelity: ["Closest", "Farthest"] };
const TEXTS = {
  quality: ["Order these images by quality",
    "Tap the best image first, then the next best, down to the worst. Tap an image again to take it back."],
  fidelity: ["Order these images by how closely they follow the given one",
    "Tap the image that follows it most closely, then the next, down to the least. Tap again to take one back."],
  learn: ["Learn to tell A from B",
    "Two methods made these images. Look at what is typical of each: afterwards you will be asked who made an image."],
  tell: ["Which method made this image?", "About as many are by A as by B. If you cannot tell, guess."],
};
const PARTS = { quality: "Quality", fidelity: "Fidelity", learn: "Pair", tell: "Question" };
const LABELS = ["A", "B"];

const $ = (id) => document.getElementById(id);
const sleep = (time) => new Promise((done) => setTimeout(done, time));
let page = null; // the question on screen
let order = []; // places of its images, best first
let busy = true;
const loaded = new Map(); // address: promise of a local URL, for this question and the next

function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

function say(text, alarm = false) {
  $("status").textContent = text;
  $("status").classList.toggle("alarm", alarm);
}

async function request(path, options) {
  for (let wait = 500; ; wait = Math.min(2 * wait, 8000)) {
    try {
      const response = await fetch(path, { cache: "no-store", ...options });
      if (response.status < 500) return response;
    } catch { /* the server or the network is away */ }
    say("No connection. Keep this page open: it goes on by itself.", true);
    await sleep(wait);
  }
}

function imageUrl(address) {
  if (!loaded.has(address)) {
    loaded.set(address, request(`../image/${address}.png`).then((r) => r.blob()).then((b) => URL.createObjectURL(b)));
  }
  return loaded.get(address);
}

const addresses = (one) => [...one.images, ...(one.condition ? [one.condition] : [])];

function forget(needed) {
  for (const [address, url] of loaded) {
    if (needed.has(address)) continue;
    loaded.delete(address);
    url.then((it) => URL.revokeObjectURL(it));
  }
}

async function picture(address, alt) {
  const image = element("img", { alt, src: await imageUrl(address), draggable: false });
  await image.decode().catch(() => {});
  return image;
}

async function show(pages) {
  if (!pages.length) return finish();
  forget(new Set(pages.flatMap(addresses)));
  const [now, next] = pages;
  const count = now.images.length;
  const images = await Promise.all(now.images.map((address, place) =>
    picture(address, now.kind === "learn" ? `An image by ${LABELS[place]}` : count > 1 ? `Image ${place + 1}` : "The image")));
  const condition = now.condition && await picture(now.condition, "The given image");
  page = now; // all at once, so that no image comes before another
  order = draft();
  $("progress").value = now.done;
  $("part").textContent = `${PARTS[now.kind]} ${now.number} of ${now.count}`;
  [$("question").textContent, $("hint").textContent] = TEXTS[now.kind];
  $("condition").hidden = !condition;
  $("condition").replaceChildren(...(condition ? [condition, element("figcaption", { textContent: "Given" })] : []));
  $("stage").className = now.kind in SCALES ? "" : "few";
  $("images").replaceChildren(...images.map(card));
  $("buttons").replaceChildren(...buttons());
  say("");
  busy = false;
  update();
  scrollTo(0, 0);
  $("question").focus({ preventScroll: true });
  if (next) addresses(next).forEach(imageUrl);
}

function card(image, place) {
  const caption = element("span", { className: "caption" });
  const ranked = page.kind in SCALES;
  if (page.kind === "learn") caption.textContent = LABELS[place];
  const face = ranked
    ? element("button", { type: "button", className: "choice", onclick: () => toggle(place) }, image, caption)
    : element("div", {}, image, caption);
  const enlarge = element("button", { type: "button", className: "enlarge", textContent: "⤢", onclick: () => large(image) });
  enlarge.setAttribute("aria-label", `Enlarge ${image.alt.toLowerCase()}`);
  return element("li", {}, face, enlarge);
}

function buttons() {
  if (page.kind === "tell") {
    return LABELS.map((label, value) => element("button",
      { type: "button", className: "main", textContent: `Method ${label}`, onclick: () => send(value) }));
  }
  const next = element("button", { type: "button", className: "main", id: "next", textContent: "Next",
    onclick: () => send(page.kind === "learn" ? null : order) });
  if (page.kind === "learn") return [next];
  const again = element("button", { type: "button", id: "again", textContent: "Start over", onclick: () => reorder([]) });
  return [again, next];
}

function draft() {
  try {
    const kept = JSON.parse(localStorage.getItem(DRAFT));
    return kept.place === page.place && kept.kind === page.kind ? kept.order : [];
  } catch {
    return [];
  }
}

function toggle(place) {
  if (!busy) reorder(order.includes(place) ? order.filter((one) => one !== place) : [...order, place]);
}

function reorder(places) {
  order = places;
  try {
    localStorage.setItem(DRAFT, JSON.stringify({ place: page.place, kind: page.kind, order }));
  } catch { /* a private window may forbid it */ }
  update();
}

function rankName(rank, count) {
  const [best, worst] = SCALES[page.kind];
  return rank === 0 ? best : rank === count - 1 ? worst : `${rank + 1}${["th", "st", "nd", "rd"][rank + 1] ?? "th"}`;
}

function update() {
  for (const button of $("buttons").children) button.disabled = busy;
  if (!(page.kind in SCALES)) return;
  const cards = [...document.querySelectorAll(".choice")];
  cards.forEach((choice, place) => {
    const rank = order.indexOf(place);
    choice.setAttribute("aria-pressed", rank >= 0);
    choice.querySelector(".caption").textContent = rank >= 0 ? rankName(rank, cards.length) : "";
  });
  $("again").disabled ||= !order.length;
  $("next").disabled ||= order.length < cards.length;
  if (!busy) say(`${order.length} of ${cards.length} ordered`);
}

async function send(value) {
  if (busy) return;
  busy = true;
  update();
  say("Storing …");
  const body = JSON.stringify({ place: page.place, value });
  const response = await request(`${HOME}/answer`, { method: "POST", body });
  const answer = await response.json();
  if (response.ok) return show(answer.pages);
  say(answer.error, true);
  await sleep(4000);
  return load();
}

async function load() {
  const response = await request(`${HOME}/pages`);
  if (!response.ok) return location.reload();
  return show((await response.json()).pages);
}

async function large(image) {
  const copies = [image, ...$("condition").querySelectorAll("img")].map((one) =>
    element("figure", {}, one.cloneNode(), element("figcaption", { textContent: one.alt })));
  $("views").replaceChildren(...copies);
  $("large").showModal();
}

function finish() {
  forget(new Set());
  document.body.className = "done";
  $("question").textContent = "Thank you";
  $("hint").textContent = "You have answered everything, and all of it is stored. You may close this page.";
  $("condition").hidden = true;
  $("images").replaceChildren();
  $("buttons").replaceChildren();
  $("question").focus();
  try {
    localStorage.removeItem(DRAFT);
  } catch { /* nothing was kept */ }
}

document.addEventListener("keydown", (event) => {
  if (busy || event.ctrlKey || event.metaKey || event.altKey || $("large").open) return;
  const number = Number(event.key) - 1;
  if (page.kind in SCALES && number >= 0 && number < page.images.length) toggle(number);
  const label = LABELS.indexOf(event.key.toUpperCase());
  if (page.kind === "tell" && label >= 0 && !event.repeat) send(label);
});
$("large").addEventListener("click", (event) => event.target === $("large") && $("large").close());
$("close").addEventListener("click", () => $("large").close());
load();
