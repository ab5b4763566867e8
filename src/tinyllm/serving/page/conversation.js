/**
 * A conversation as plain values: what was said, what each model replied, what to send next.
 *
 * A turn has one reply per column: column 0 is the chosen model, column 1 the one it is compared
 * with. A column's history holds only turns that it has answered, so each model sees a
 * conversation of its own.
 *
 * @typedef {"writing" | "stop" | "length" | "loop" | "stopped" | "failed"} Ending
 * @typedef {{model: string, isChat: boolean, text: string, odds: import("./api.js").TokenOdds[],
 *   ending: Ending, error: string, isTooLong: boolean, seed: number, nTokens: number, nPromptTokens: number,
 *   nDropped: number, contextLength: number | null, seconds: number}} Reply
 * @typedef {{text: string, isAlone: boolean, replies: (Reply | null)[]}} Turn
 */

/** @returns {Turn} */
export const newTurn = (text, isAlone) => ({ text, isAlone, replies: [null, null] });

/** @returns {Reply} */
export const newReply = (model, seed) => ({
  model: model.id,
  isChat: model.is_chat_tuned !== false,
  text: "",
  odds: [],
  ending: "writing",
  error: "",
  isTooLong: false,
  seed,
  nTokens: 0,
  nPromptTokens: 0,
  nDropped: 0,
  contextLength: model.context_length ?? null,
  seconds: 0,
});

/**
 * Return the messages that ask for the reply to turn `index` in a column. A story is asked for
 * alone, as the models of the demo have learnt it; a model that continues text gets that text.
 * @param {Turn[]} turns
 */
export function messagesFor(turns, index, column, { system, isChat }) {
  const turn = turns[index];
  const before = turn.isAlone || !isChat ? [] : turns.slice(0, index).flatMap(exchange(column));
  const first = system ? [{ role: "system", content: system }] : [];
  return [...first, ...before, { role: "user", content: turn.text }];
}

const exchange = (column) => (turn) => {
  const reply = turn.replies[column];
  if (!reply?.text || !reply.isChat) return [];
  return [
    { role: "user", content: turn.text },
    { role: "assistant", content: reply.text },
  ];
};

/** Add what the stream brought to a reply. @param {Reply} reply */
export function grow(reply, piece) {
  reply.text += piece.text;
  reply.odds.push(...piece.odds);
  reply.nTokens = piece.usage?.completion_tokens ?? Math.max(reply.nTokens, reply.odds.length);
  reply.nPromptTokens = piece.usage?.prompt_tokens ?? reply.nPromptTokens;
  reply.nDropped = Math.max(reply.nDropped, piece.nDropped);
  if (piece.finishReason) {
    reply.ending = piece.stopReason === "loop" ? "loop" : piece.finishReason;
  }
}

/** Return whether a reply ended because the model can read no further. */
export const isFull = ({ nPromptTokens, nTokens, contextLength }) =>
  contextLength !== null && nPromptTokens + nTokens >= contextLength;

/** Return the whole text of a reply: a continuation begins with what it continues. */
export const wholeText = (turn, reply) => (reply.isChat ? reply.text : turn.text + reply.text);

/** Return the turns that were kept, without what is not one; a reply cut off by a reload has stopped. */
export function revive(turns) {
  if (!Array.isArray(turns)) return [];
  return turns.filter((turn) => typeof turn?.text === "string").map(reviveTurn);
}

function reviveTurn({ text, isAlone, replies }) {
  const kept = [0, 1].map((column) => reviveReply(replies?.[column]));
  return { text, isAlone: isAlone === true, replies: kept };
}

function reviveReply(reply) {
  if (typeof reply?.text !== "string" || typeof reply.model !== "string") return null;
  const whole = { ...newReply({ id: reply.model }, 0), ...reply };
  if (!Array.isArray(whole.odds)) whole.odds = [];
  if (whole.ending === "writing") whole.ending = "stopped";
  return whole;
}
