/** How one reply looks: while it grows, once it has ended, and where it failed. */

import { isFull, wholeText } from "./conversation.js";
import { announce, button, make } from "./dom.js";
import { oddsView } from "./odds.js";

const ENDINGS = {
  writing: "",
  stop: "",
  length: "It reached the length that is set.",
  loop: "It began to repeat itself and was stopped.",
  stopped: "Stopped.",
  failed: "",
};

export class ReplyView {
  /**
   * @param {import("./conversation.js").Turn} turn
   * @param {import("./conversation.js").Reply} reply
   * @param {{onRetry: () => void, onEdit: () => void} | null} actions null where only later turns
   *     can be asked again
   */
  constructor(turn, reply, actions) {
    Object.assign(this, { turn, reply, actions });
    this.showsOdds = false;
    this.element = make("section", {
      class: "reply",
      tabindex: "-1",
      "aria-label": `Reply of ${reply.model}`,
    });
    this.refresh();
  }

  /** Draw everything anew. */
  refresh() {
    const isWriting = this.reply.ending === "writing";
    this.element.setAttribute("aria-busy", String(isWriting));
    this.element.classList.toggle("is-writing", isWriting);
    const parts = [make("h4", { class: "speaker", text: this.reply.model }), this.#body()];
    if (this.reply.ending === "failed") parts.push(this.#failure());
    else if (!isWriting) parts.push(this.#ending(), this.#actions());
    this.element.replaceChildren(...parts);
  }

  /** Add the text that has come since, without drawing the rest again. */
  grow() {
    this.growing.appendData(this.reply.text.slice(this.growing.length));
  }

  #body() {
    if (this.showsOdds) return oddsView(this.reply.odds);
    this.growing = document.createTextNode(this.reply.text);
    const words = make("div", { class: "words", dir: "auto" });
    if (!this.reply.isChat) words.append(make("span", { class: "beginning", text: this.turn.text }));
    words.append(this.growing);
    if (this.reply.ending === "writing") words.append(make("span", { class: "caret", "aria-hidden": true }));
    return words;
  }

  #failure() {
    const parts = [make("p", { text: this.reply.error })];
    if (this.actions && this.reply.isTooLong) parts.push(button("Edit", this.actions.onEdit, { "data-action": "edit" }));
    if (this.actions) parts.push(button("Try again", this.actions.onRetry, { "data-action": "retry" }));
    return make("div", { class: "notice bad" }, ...parts);
  }

  #ending() {
    const facts = [...speed(this.reply), `seed ${this.reply.seed}`];
    return make(
      "p",
      { class: "ending" },
      make("span", { class: "why", text: remarks(this.reply).join(" ") }),
      make("span", { class: "facts", text: facts.join(" · ") }),
    );
  }

  #actions() {
    const actions = [button("Copy", () => copy(wholeText(this.turn, this.reply)), { "data-action": "copy" })];
    if (this.actions) actions.push(button("Retry", this.actions.onRetry, { "data-action": "retry" }));
    if (this.reply.odds.length) actions.push(this.#oddsButton());
    return make("div", { class: "actions" }, ...actions);
  }

  #oddsButton() {
    const toggle = () => {
      this.showsOdds = !this.showsOdds;
      this.refresh();
      this.element.querySelector("[data-action=odds]").focus();
    };
    return button("How sure was it?", toggle, { "data-action": "odds", "aria-pressed": String(this.showsOdds) });
  }
}

function remarks({ nDropped, ...reply }) {
  const left = nDropped === 1 ? "The oldest message no longer fits and was" : `The ${nDropped} oldest messages no longer fit and were`;
  return [whyItEnded(reply), nDropped ? `${left} left out.` : ""].filter(Boolean);
}

function whyItEnded({ ending, text, contextLength, ...counts }) {
  if (ending === "length" && isFull({ contextLength, ...counts })) {
    return `It reads ${contextLength} tokens at most, message and reply together: a new chat leaves more room.`;
  }
  return text || ending === "stopped" ? ENDINGS[ending] : "It said nothing.";
}

function speed({ nTokens, seconds }) {
  if (!nTokens) return [];
  const count = `${nTokens} ${nTokens === 1 ? "token" : "tokens"}`;
  return seconds > 0 ? [count, `${Math.round(nTokens / seconds)} per second`] : [count];
}

async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    copyBySelection(text); // browsers give the clipboard to https and this machine only
  }
  announce("Copied.");
}

function copyBySelection(text) {
  const field = make("textarea", { class: "unseen", "aria-hidden": true });
  field.value = text;
  document.body.append(field);
  field.select();
  document.execCommand("copy");
  field.remove();
}
