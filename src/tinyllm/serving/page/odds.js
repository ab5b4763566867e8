/**
 * A reply shown token by token, each marked by how likely the model found it.
 *
 * The marks do not rest on colour alone: from sure to unsure the line below a token goes from
 * none over dotted, dashed and solid to double. One token is chosen at a time, by pointer or by the
 * arrow keys; what the model could have written in its place stands in a panel below.
 */

import { make } from "./dom.js";

const LEVELS = [
  { from: 0.8, name: "sure", legend: "80 % or more" },
  { from: 0.5, name: "likely", legend: "50–80 %" },
  { from: 0.2, name: "open", legend: "20–50 %" },
  { from: 0.05, name: "daring", legend: "5–20 %" },
  { from: 0, name: "surprising", legend: "under 5 %" },
];

/**
 * Return the view of a reply's tokens.
 * @param {import("./api.js").TokenOdds[]} odds
 */
export function oddsView(odds) {
  const panel = make("div", { class: "odds-panel" });
  const pieces = wholeCharacters(odds);
  const list = make("div", {
    class: "words tokens",
    role: "listbox",
    "aria-label": "Tokens of the reply. The arrow keys go from one to the next.",
    "aria-orientation": "horizontal",
    dir: "auto",
  });
  const options = pieces.map((piece) => tokenOption(piece));
  list.append(...options);
  const show = (i) => choose(options, i, panel, pieces[i]);
  listen(list, options, show);
  if (options.length) show(0);
  return make("div", { class: "odds" }, legend(pieces), list, panel);
}

/**
 * Join tokens that hold parts of one character (an emoji may take several) into one piece.
 * @returns {{text: string, logprob: number, top: object[], nTokens: number}[]}
 */
export function wholeCharacters(odds) {
  const pieces = [];
  let open = null;
  for (const { token, bytes, logprob, top } of odds) {
    open ??= { text: "", logprob: 0, top, nTokens: 0, bytes: [] };
    open.text += token;
    open.logprob += logprob;
    open.nTokens += 1;
    open.bytes = bytes && open.bytes ? [...open.bytes, ...bytes] : null;
    if (open.bytes && endsInsideCharacter(open.bytes)) continue;
    pieces.push({ ...open, text: open.bytes ? decode(open.bytes) : open.text });
    open = null;
  }
  if (open) pieces.push({ ...open, text: decode(open.bytes) });
  return pieces;
}

/** A decoder that expects more keeps the begun character back; one that does not replaces it. */
const endsInsideCharacter = (bytes) => decode(bytes, { stream: true }) !== decode(bytes);

const decode = (bytes, options) =>
  new TextDecoder("utf-8", { ignoreBOM: true }).decode(new Uint8Array(bytes), options);

function tokenOption(piece) {
  const probability = Math.exp(piece.logprob);
  const others = piece.top
    .filter((other) => !isSame(other, { token: piece.text, logprob: piece.logprob }))
    .map((other) => `${spoken(other.token)} ${percent(Math.exp(other.logprob))}`);
  return make("span", {
    role: "option",
    class: `token ${level(probability).name}${/^\n+$/.test(piece.text) ? " line-break" : ""}`,
    tabindex: "-1",
    "aria-selected": "false",
    "aria-label": `${spoken(piece.text)}, ${percent(probability)}. Instead: ${others.join(", ")}`,
    text: piece.text,
  });
}

function listen(list, options, show) {
  list.addEventListener("pointerover", ({ target }) => showIfToken(options, target, show));
  list.addEventListener("focusin", ({ target }) => showIfToken(options, target, show));
  list.addEventListener("click", ({ target }) => options.includes(target) && target.focus());
  list.addEventListener("keydown", (event) => {
    const next = neighbour(event.key, options.indexOf(event.target), options.length);
    if (next === null) return;
    event.preventDefault();
    options[next].focus();
  });
}

function showIfToken(options, target, show) {
  const i = options.indexOf(target);
  if (i >= 0) show(i);
}

function neighbour(key, i, n) {
  const places = { ArrowRight: i + 1, ArrowDown: i + 1, ArrowLeft: i - 1, ArrowUp: i - 1, Home: 0, End: n - 1 };
  const next = places[key];
  return next === undefined || i < 0 ? null : Math.min(Math.max(next, 0), n - 1);
}

function choose(options, i, panel, piece) {
  for (const [k, option] of options.entries()) {
    option.tabIndex = k === i ? 0 : -1;
    option.setAttribute("aria-selected", String(k === i));
  }
  panel.replaceChildren(...alternatives(piece));
}

function alternatives(piece) {
  const own = { token: piece.text, logprob: piece.logprob };
  const rows = piece.top.some((other) => isSame(other, own)) ? piece.top : [...piece.top, own];
  const several = piece.nTokens > 1 ? ` (one character, written as ${piece.nTokens} tokens)` : "";
  return [
    make("p", { class: "hint", text: `What could stand here${several}:` }),
    make("ol", {}, ...rows.map((row) => alternativeRow(row, isSame(row, own)))),
  ];
}

/** Tokens that are no whole character may look alike, but not be equally likely. */
const isSame = (one, other) => one.token === other.token && one.logprob === other.logprob;

function alternativeRow({ token, logprob }, isChosen) {
  const probability = Math.exp(logprob);
  const bar = make("span", { class: "bar" });
  bar.style.setProperty("--share", probability.toFixed(4));
  return make(
    "li",
    { class: isChosen ? "is-chosen" : "" },
    make("span", { class: "what", text: visible(token) }),
    bar,
    make("span", { class: "share", text: percent(probability) }),
    make("span", { class: "verdict", text: isChosen ? "chosen" : "" }),
  );
}

function legend(pieces) {
  const marks = LEVELS.map(({ name, legend: text }) =>
    make("li", {}, make("span", { class: `token ${name}`, text })),
  );
  return make(
    "div",
    { class: "odds-legend" },
    make("p", { class: "hint", text: `How likely the model found each token (a word or a piece of one). ${average(pieces)}` }),
    make("ul", { "aria-label": "The marks" }, ...marks),
  );
}

/** Tell the perplexity in plain words. */
function average(pieces) {
  const n = pieces.reduce((sum, piece) => sum + piece.nTokens, 0);
  if (!n) return "";
  const mean = pieces.reduce((sum, piece) => sum + piece.logprob, 0) / n;
  return `On average it was as unsure as if it drew from ${Math.exp(-mean).toFixed(1)} equally good ones.`;
}

const level = (probability) => LEVELS.find(({ from }) => probability >= from) ?? LEVELS.at(-1);

/** Tell a token as a screen reader should say it. */
const spoken = (token) => token.trim() || (token.includes("\n") ? "line break" : "space");

const visible = (token) => token.replaceAll(" ", "␣").replaceAll("\n", "⏎");

/** Return a probability as people read it. */
export function percent(probability) {
  if (probability < 0.001) return "< 0.1 %";
  const digits = probability < 0.1 ? 1 : 0;
  return `${(100 * probability).toFixed(digits)} %`;
}
