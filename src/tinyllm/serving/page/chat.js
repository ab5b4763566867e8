/** The conversation and who writes in it: send, stop, retry, edit, begin anew. */

import { streamReply } from "./api.js";
import { grow, messagesFor, newReply, newTurn } from "./conversation.js";
import { announce } from "./dom.js";
import { TurnsView } from "./turns.js";

export class Chat {
  /**
   * @param {{turns: object[], previous: object[], models: import("./models.js").Models,
   *   settings: import("./settings.js").Settings, key: () => string, onChange: () => void,
   *   onEdit: (turn: object) => void, onRefused: () => void}} parts
   */
  constructor(parts) {
    Object.assign(this, parts);
    /** @type {Set<AbortController>} */
    this.writing = new Set();
    this.isEditing = false;
    this.view = new TurnsView({
      onRetry: (column) => this.retry(column),
      onEdit: () => this.onEdit(this.turns.at(-1)),
    });
    this.view.show(this.turns);
  }

  get isWriting() {
    return this.writing.size > 0;
  }

  /** Say this to every chosen model at once; does nothing while a reply is being written. */
  send(text, { isAlone = false } = {}) {
    const { chosen } = this.models;
    if (this.isWriting || !text.trim() || !chosen.length) return false;
    if (this.isEditing && !isAlone) this.turns.pop();
    this.isEditing = false;
    this.turns.push(newTurn(text, isAlone));
    const seed = this.settings.seed();
    this.#write(chosen.map((model, column) => ({ model, column, seed })));
    return true;
  }

  /** Ask again for the last reply in a column, of the model that is chosen for it now. */
  retry(column) {
    if (this.isWriting) return;
    const turn = this.turns.at(-1);
    const model = this.models.chosen[column] ?? this.models.all.find(({ id }) => id === turn.replies[column].model);
    if (model) this.#write([{ model, column, seed: this.settings.seed() }]);
  }

  /** End the replies that are being written; what has come so far stays. */
  stop() {
    for (const controller of this.writing) controller.abort();
  }

  /** Begin a new conversation; the last one can be brought back once. */
  clear() {
    this.stop();
    if (this.turns.length) this.previous = this.turns;
    this.#replaceTurns([]);
  }

  bringBack() {
    this.#replaceTurns(this.previous);
    this.previous = [];
    this.onChange();
  }

  #replaceTurns(turns) {
    this.isEditing = false;
    this.turns = turns;
    this.view.show(turns);
    this.onChange();
  }

  async #write(jobs) {
    const turn = this.turns.at(-1);
    for (const { model, column, seed } of jobs) turn.replies[column] = newReply(model, seed);
    this.view.show(this.turns);
    this.view.lead(turn.replies[jobs[0].column]);
    announce("The model is writing.");
    const writers = jobs.map((job) => this.#writeOne(turn, job));
    this.onChange();
    await Promise.all(writers);
    announce(jobs.map(({ column }) => spoken(turn.replies[column])).join(" "));
  }

  async #writeOne(turn, { model, column, seed }) {
    const reply = turn.replies[column];
    const controller = new AbortController();
    this.writing.add(controller);
    try {
      await this.#stream(turn, column, this.#request(turn, column, model, seed), controller.signal);
      if (reply.ending === "writing") reply.ending = "stop";
    } catch (error) {
      this.#fail(reply, error, controller.signal.aborted);
    } finally {
      this.writing.delete(controller);
      this.view.finish(reply);
      this.onChange();
    }
  }

  #request(turn, column, model, seed) {
    const isChat = model.is_chat_tuned !== false;
    const { system } = this.settings.values;
    const messages = messagesFor(this.turns, this.turns.indexOf(turn), column, { system, isChat });
    return { model, messages, sampling: this.settings.sampling(seed) };
  }

  async #stream(turn, column, request, signal) {
    const reply = turn.replies[column];
    let begin = null;
    for await (const piece of streamReply(request, { key: this.key(), signal })) {
      begin ??= performance.now();
      grow(reply, piece);
      reply.seconds = (performance.now() - begin) / 1000;
      this.view.grow(reply);
    }
  }

  #fail(reply, error, wasStopped) {
    reply.ending = wasStopped ? "stopped" : "failed";
    if (wasStopped) return;
    reply.error = error.message;
    reply.isTooLong = error.isTooLong === true;
    if (error.status === 401) this.onRefused();
  }
}

function spoken(reply) {
  return reply.ending === "failed" ? reply.error : `${reply.model} says: ${reply.text}`;
}
