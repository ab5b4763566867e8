"use strict";

const data = JSON.parse(document.getElementById("data").textContent);
const PORTION = 25;
const FORM_NAMES = {
  cloze: "plain text",
  chat: "chat template",
  letters: "letters",
  letters_chat: "letters, chat template",
  generate: "written answer",
  generate_chat: "written answer, chat template",
};
const UNITS = {
  acc: "in nats",
  acc_norm: "in nats per character",
  acc_bytes: "in nats per byte",
  acc_token: "in nats per token",
  acc_uncond: "in nats, minus that without the question",
  acc_one_order: "in nats, in the published order alone",
};
const element = (id) => document.getElementById(id);
const controls = {
  form: element("form"), metric: element("metric"), words: element("words"),
};
let found = [];
let nShown = 0;

function make(name, attributes = {}, ...children) {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.append(...children);
  return node;
}

/* What became of one question: a word for its badge and for the filters. */
function outcome(item, question, metric) {
  const best = item.best[metric];
  if (best.length === 0) return "unmatched";
  if (best.length > 1) return "tie";
  return best[0] === question.answer ? "right" : "wrong";
}

function change(item, metric) {
  if (!item.other || !(metric in item.other)) return null;
  const difference = item.credit[metric] - item.other[metric];
  if (difference === 0) return null;
  return difference > 0 ? "better than the other" : "worse than the other";
}

function kindsOf(item, question, metric) {
  const kinds = ["all", outcome(item, question, metric)];
  const changed = change(item, metric);
  if (changed) kinds.push("changed", changed);
  if (data.contaminated && data.contaminated.includes(question.id)) kinds.push("seen in training");
  return kinds;
}

function current() {
  const form = data.forms[Number(controls.form.value)];
  const chosen = document.querySelector("input[name=kind]:checked");
  return { form, metric: controls.metric.value, kind: chosen ? chosen.value : "all" };
}

function fillForms() {
  data.forms.forEach((form, i) => {
    controls.form.append(make("option", { value: i }, FORM_NAMES[form.name] ?? form.name));
  });
}

function fillMetrics() {
  const { form } = current();
  controls.metric.replaceChildren(...form.metrics.map((m) => make("option", { value: m }, m)));
  controls.metric.value = form.primary;
}

function fillKinds() {
  const { form, metric, kind } = current();
  const counts = new Map([["all", 0], ["right", 0], ["wrong", 0], ["tie", 0]]);
  if (data.other) {
    for (const name of ["changed", "better than the other", "worse than the other"]) {
      counts.set(name, 0);
    }
  }
  form.items.forEach((item, i) => {
    for (const name of kindsOf(item, data.questions[i], metric)) {
      counts.set(name, (counts.get(name) ?? 0) + 1);
    }
  });
  const had = document.activeElement?.name === "kind";
  const labels = [...counts].map(([name, n]) => {
    const input = make("input", { type: "radio", name: "kind", value: name });
    input.checked = name === (counts.has(kind) ? kind : "all");
    return make("label", {}, input, `${name} ${n}`);
  });
  element("kinds").replaceChildren(...labels);
  if (had) document.querySelector("input[name=kind]:checked").focus();
}

function search() {
  const { form, metric, kind } = current();
  element("unit").textContent = form.items[0].values[metric] === null ? ""
    : `${metric}: a choice's log-likelihood ${UNITS[metric]}; higher is likelier.`;
  const words = controls.words.value.trim().toLowerCase();
  found = form.items.flatMap((item, i) => {
    const question = data.questions[i];
    if (!kindsOf(item, question, metric).includes(kind)) return [];
    const text = [question.id, question.text, ...question.choices].join("\n").toLowerCase();
    return text.includes(words) ? [i] : [];
  });
  nShown = 0;
  element("questions").replaceChildren();
  showMore();
}

function showMore() {
  const { form, metric } = current();
  const first = nShown;
  const next = found.slice(nShown, nShown + PORTION);
  element("questions").append(...next.map((i) => card(form, i, metric)));
  nShown += next.length;
  element("more").hidden = nShown >= found.length;
  element("count").textContent = found.length === 0
    ? "No question is like that."
    : `${found.length} of ${form.items.length} questions, ${nShown} shown.`;
  return element("questions").children[first];
}

function card(form, i, metric) {
  const question = data.questions[i];
  const item = form.items[i];
  const became = outcome(item, question, metric);
  const tone = became === "right" ? "is-right" : became === "tie" ? "" : "is-wrong";
  const head = make("h2", { tabindex: "-1" }, make("span", {}, question.id),
    make("span", { class: tone }, became));
  for (const note of kindsOf(item, question, metric).slice(2)) {
    if (note !== "changed") head.append(make("span", {}, note));
  }
  const parts = [head, make("p", { class: "asked" }, question.text)];
  if (item.written !== null) {
    parts.push(make("p", { class: "written" },
      item.written === "" ? "Nothing was written." : `Written: “${item.written}”`));
  }
  return make("li", {}, ...parts, table(question, item, metric));
}

function table(question, item, metric) {
  const values = item.values[metric];
  const heads = [make("th", { scope: "col" }, "choice")];
  if (values) heads.push(make("th", { scope: "col", class: "score" }, metric));
  heads.push(make("th", { scope: "col", class: "role" }, "is"));
  const low = values ? Math.min(...values) : 0;
  const span = values ? Math.max(...values) - low : 0;
  const rows = question.choices.map((choice, i) => {
    const cells = [make("th", { scope: "row" }, choice)];
    if (values) {
      const bar = make("span", { class: "bar" });
      bar.style.width = `${span ? 5 + (95 * (values[i] - low)) / span : 100}%`;
      cells.push(make("td", {}, make("span", { class: "value" }, shown(values[i])), bar));
    }
    const roles = [];
    if (i === question.answer) roles.push("right");
    if (item.best[metric].includes(i)) roles.push("picked");
    cells.push(make("td", {}, roles.join(", ")));
    return make("tr", i === question.answer ? { class: "answer" } : {}, ...cells);
  });
  return make("table", {}, make("thead", {}, make("tr", {}, ...heads)),
    make("tbody", {}, ...rows));
}

function shown(value) {
  return value.toPrecision(4).replace("-", "−");
}

controls.form.addEventListener("change", () => { fillMetrics(); fillKinds(); search(); });
controls.metric.addEventListener("change", () => { fillKinds(); search(); });
controls.words.addEventListener("input", search);
element("kinds").addEventListener("change", search);
element("filters").addEventListener("submit", (event) => event.preventDefault());
element("more").addEventListener("click", () => showMore()?.querySelector("h2").focus());

fillForms();
fillMetrics();
fillKinds();
search();
