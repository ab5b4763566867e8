/** The conversation on the page: one element per turn, with the message and its replies. */

import { button, byId, make } from "./dom.js";
import { ReplyView } from "./reply.js";

export class TurnsView {
  /** @param {{onRetry: (column: number) => void, onEdit: () => void}} actions */
  constructor(actions) {
    this.actions = actions;
    this.views = new Map();
    this.grown = new Set();
    this.container = byId("turns");
  }

  /** Draw all turns. @param {import("./conversation.js").Turn[]} turns */
  show(turns) {
    this.views.clear();
    this.container.replaceChildren(...turns.map((turn, i) => this.#turn(turn, i === turns.length - 1)));
    byId("welcome").hidden = turns.length > 0;
  }

  /** Show what a reply has grown by, with the next frame: tokens come faster than frames. */
  grow(reply) {
    if (!this.grown.size) requestAnimationFrame(() => this.#showGrown());
    this.grown.add(reply);
  }

  /** Show a reply that has ended. */
  finish(reply) {
    this.#change([reply], (view) => view.refresh());
  }

  #showGrown() {
    const replies = [...this.grown].filter((reply) => reply.ending === "writing");
    this.grown.clear();
    this.#change(replies, (view) => view.grow());
  }

  /**
   * Change how replies are shown. Who reads the end of the page goes on reading its end while the
   * text grows, who reads above stays there; two replies side by side never move the page.
   * @param {(view: ReplyView) => void} change
   */
  #change(replies, change) {
    const views = replies.map((reply) => this.views.get(reply)).filter(Boolean);
    const follows = isAtEnd() && !views.some((view) => view.element.closest(".compared"));
    views.forEach(change);
    if (follows) scrollToEnd();
  }

  /** Bring a reply that begins to be written into sight; the focus goes there if it is lost. */
  lead(reply) {
    const { element } = this.views.get(reply);
    if (element.closest(".compared")) element.closest(".turn").scrollIntoView();
    else scrollToEnd();
    const focused = document.activeElement;
    if (focused === document.body || focused.closest("[hidden]")) element.focus({ preventScroll: true });
  }

  #turn(turn, isLast) {
    const columns = [0, 1].filter((column) => turn.replies[column]);
    const replies = columns.map((column) => this.#reply(turn, column, isLast));
    return make(
      "article",
      { class: columns.length > 1 ? "turn compared" : "turn" },
      this.#message(turn, isLast),
      make("div", { class: "replies" }, ...replies),
    );
  }

  #message(turn, isLast) {
    const words = make("div", { class: "words", dir: "auto", text: turn.text });
    const edit = button("Edit", this.actions.onEdit, { class: "quiet", "data-action": "edit", "aria-label": "Edit your last message" });
    const name = make("h3", { class: "unseen", text: "You" });
    return make("div", { class: "asked" }, name, words, ...(isLast ? [edit] : []));
  }

  #reply(turn, column, isLast) {
    const { onEdit } = this.actions;
    const actions = isLast ? { onEdit, onRetry: () => this.actions.onRetry(column) } : null;
    const view = new ReplyView(turn, turn.replies[column], actions);
    this.views.set(turn.replies[column], view);
    return view.element;
  }
}

const END_MARGIN_PX = 96;

function isAtEnd() {
  const page = document.documentElement;
  return page.scrollHeight - page.clientHeight - page.scrollTop < END_MARGIN_PX;
}

function scrollToEnd() {
  const page = document.documentElement;
  page.scrollTop = page.scrollHeight;
}
