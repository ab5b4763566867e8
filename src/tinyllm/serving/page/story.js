/** Story mode: three words and some features become a request, in the words the demo was taught. */

import { byId, make } from "./dom.js";
import { ADJECTIVES, NOUNS, VERBS } from "./words.js";

const FIELDS = [
  { name: "noun", label: "Someone or something", words: NOUNS },
  { name: "verb", label: "What to do", words: VERBS },
  { name: "adjective", label: "What it is like", words: ADJECTIVES },
];

/** The names are those of the demo's training data. */
const FEATURES = [
  { name: "dialogue", label: "a dialogue" },
  { name: "plot_twist", label: "a plot twist" },
  { name: "moral_value", label: "a moral" },
  { name: "bad_ending", label: "a bad ending" },
  { name: "foreshadowing", label: "foreshadowing" },
  { name: "conflict", label: "a conflict" },
];

/**
 * Return the request for a story. A model that only continues text gets a beginning instead.
 * @param {string[]} words noun, verb, adjective; some may be empty
 * @param {string[]} features labels of FEATURES
 */
export function askForStory(words, features, isChat = true) {
  if (!isChat) return beginStory(words);
  const chosen = words.filter(Boolean);
  const text = chosen.length ? `Write a story with the words: ${chosen.join(", ")}.` : "Tell me a story.";
  return features.length ? `${text} It should have ${features.join(" and ")}.` : text;
}

function beginStory([noun, verb, adjective]) {
  const who = [adjective, noun || "child"].filter(Boolean).join(" ");
  const article = /^[aeiou]/i.test(who) ? "an" : "a";
  return `Once upon a time, there was ${article} ${who}${verb ? ` who wanted to ${verb}` : ""}.`;
}

export class StoryForm {
  /** @param {{words?: string[], features?: string[]}} kept */
  constructor(kept, { onTell, onChange }) {
    this.isChat = true;
    this.onChange = onChange;
    this.inputs = FIELDS.map((field, i) => wordField(field, kept?.words?.[i]));
    this.boxes = FEATURES.map((feature) => featureBox(feature, kept?.features));
    byId("story-form").addEventListener("input", () => this.#show());
    byId("story-form").addEventListener("submit", (event) => {
      event.preventDefault();
      onTell(this.request);
    });
    byId("dice").addEventListener("click", () => this.#draw());
    if (this.#words.every((word) => !word)) this.#draw();
    this.#show();
  }

  get request() {
    return askForStory(this.#words, this.#features, this.isChat);
  }

  /** What to keep until the next visit. */
  get choice() {
    return { words: this.#words, features: this.#features };
  }

  /** Ask as this model understands it. */
  follow(model) {
    this.isChat = model?.is_chat_tuned !== false;
    byId("story-features").disabled = !this.isChat;
    this.#show();
  }

  #draw() {
    FIELDS.forEach(({ words }, i) => {
      this.inputs[i].value = words[Math.floor(Math.random() * words.length)];
    });
    this.#show();
  }

  #show() {
    byId("story-preview").textContent = this.request;
    this.onChange();
  }

  get #words() {
    return this.inputs.map((input) => input.value.trim());
  }

  get #features() {
    return this.boxes.filter((box) => box.checked).map((box) => box.value);
  }
}

function wordField({ name, label, words }, kept) {
  const input = make("input", {
    id: `story-${name}`,
    list: `story-${name}-words`,
    type: "text",
    maxlength: "40",
    autocomplete: "off",
    autocapitalize: "none",
    spellcheck: "true",
  });
  input.value = typeof kept === "string" ? kept : "";
  const options = words.map((word) => make("option", { value: word }));
  const list = make("datalist", { id: `story-${name}-words` }, ...options);
  const title = make("label", { for: `story-${name}`, text: label });
  byId("story-words").append(make("div", { class: "field" }, title, input, list));
  return input;
}

function featureBox({ name, label }, kept) {
  const box = make("input", { type: "checkbox", id: `feature-${name}`, value: label });
  box.checked = Array.isArray(kept) && kept.includes(label);
  byId("story-features").append(make("label", { class: "chip" }, box, make("span", { text: label })));
  return box;
}
