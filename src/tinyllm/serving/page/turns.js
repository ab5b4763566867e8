/** The conversation on the page: one element per turn, with the message and its replies. */

import { button, byId, make } from "./dom.js";
import { ReplyView } from "./reply.js";

export class TurnsView {
  /** @param {{onRetry: (column: number) => void, onEdit: () => void}} actions */
  constructor(actions) {
    this.actions = actions;
    this.views = new Map();
    this.container = byId("turns");
  }

  /** Draw all turns. @param {import("./conversation.js").Turn[]} turns */
  show(turns) {
    this.views.clear();
    this.container.replaceChildren(...turns.map((turn, i) => this.#turn(turn, i === turns.length - 1)));
    byId("welcome").hidden = turns.length > 0;
  }

  /** Return the view of a reply that `show` has drawn. @returns {ReplyView} */
  of(reply) {
    return this.views.get(reply);
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
    const onRetry = isLast ? () => this.actions.onRetry(column) : null;
    const view = new ReplyView(turn, turn.replies[column], onRetry);
    this.views.set(turn.replies[column], view);
    return view.element;
  }
}
