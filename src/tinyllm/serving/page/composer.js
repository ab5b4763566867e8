/** Where a message is written: the field, its keys, editing, and the switch to story mode. */

import { byId } from "./dom.js";

export class Composer {
  /** @param {{mode?: string, draft?: string}} kept */
  constructor(kept, { onSend, onStop, onStopEditing, onChange }) {
    Object.assign(this, { onSend, onStopEditing, onChange });
    this.field = byId("message");
    this.field.value = typeof kept.draft === "string" ? kept.draft : "";
    if (kept.mode === "story") document.querySelector("[name=mode][value=story]").checked = true;
    this.#listen(onStop);
    this.#showMode();
    this.#fit();
    tellHeight(byId("composer"), "--composer-height");
    tellHeight(document.querySelector(".top"), "--top-height");
  }

  /** What to keep until the next visit. */
  get choice() {
    return { mode: document.querySelector("[name=mode]:checked").value, draft: this.field.value };
  }

  /** Put a text into the field, ready to be sent. */
  write(text, { isEditing = false } = {}) {
    document.querySelector("[name=mode][value=message]").checked = true;
    this.#showMode();
    byId("editing").hidden = !isEditing;
    this.field.value = text;
    this.#fit();
    this.field.focus();
  }

  /** Offer to stop instead of to send while a reply is being written. */
  show({ isWriting, canSend, isChat }) {
    const focused = document.activeElement;
    const hadFocus = focused?.matches("[data-send], [data-stop]");
    for (const send of document.querySelectorAll("[data-send]")) {
      send.hidden = isWriting;
      send.disabled = !canSend;
    }
    for (const stop of document.querySelectorAll("[data-stop]")) stop.hidden = !isWriting;
    if (hadFocus) focused.parentElement.querySelector("[data-send]:not([hidden]), [data-stop]:not([hidden])").focus();
    byId("message-label").textContent = isChat ? "Your message" : "The beginning of a text";
    this.field.placeholder = isChat ? "Write a message …" : "Write a beginning …";
  }

  #listen(onStop) {
    byId("message-form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#send();
    });
    this.field.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
      event.preventDefault();
      this.#send();
    });
    this.field.addEventListener("input", () => {
      this.#fit();
      this.onChange();
    });
    byId("stop-editing").addEventListener("click", () => this.#leaveEditing());
    for (const stop of document.querySelectorAll("[data-stop]")) stop.addEventListener("click", onStop);
    for (const mode of document.querySelectorAll("[name=mode]")) {
      mode.addEventListener("change", () => {
        this.#showMode();
        this.onChange();
      });
    }
  }

  #send() {
    if (!this.onSend(this.field.value)) return;
    this.field.value = "";
    byId("editing").hidden = true;
    this.#fit();
    this.onChange();
  }

  #leaveEditing() {
    byId("editing").hidden = true;
    this.field.value = "";
    this.#fit();
    this.onStopEditing();
  }

  #showMode() {
    const isStory = document.querySelector("[name=mode]:checked").value === "story";
    byId("story-form").hidden = !isStory;
    byId("message-form").hidden = isStory;
    if (isStory && !byId("editing").hidden) this.#leaveEditing();
  }

  /** Make the field as high as its text; the style sheet sets the limit. */
  #fit() {
    this.field.style.height = "auto";
    this.field.style.height = `${this.field.scrollHeight + 2}px`;
  }
}

/** Keep the style sheet told how much of the window an element covers. */
function tellHeight(element, property) {
  const tell = () =>
    document.documentElement.style.setProperty(property, `${Math.ceil(element.offsetHeight)}px`);
  new ResizeObserver(tell).observe(element);
}
