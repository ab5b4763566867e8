/** The server, seen from the page: which models there are, and one reply as a stream. */

import { readEvents } from "./sse.js";

const N_ALTERNATIVES = 5;

/**
 * @typedef {{token: string, logprob: number}} Alternative
 * @typedef {{token: string, bytes: number[] | null, logprob: number, top: Alternative[]}} TokenOdds
 * @typedef {{id: string, parameters?: number, context_length?: number, is_chat_tuned?: boolean,
 *   defaults?: Record<string, unknown>}} Model
 * @typedef {{role: string, content: string}} Message
 * @typedef {{model: Model, messages: Message[], sampling: Record<string, number>}} Request
 * @typedef {{text: string, odds: TokenOdds[], finishReason: string | null,
 *   stopReason: string | null, usage: Record<string, number> | null, nDropped: number}} Piece
 */

/** What went wrong, as one sentence for people. */
export class ServerError extends Error {
  /**
   * @param {string} message
   * @param {number} [status] the HTTP status, 0 without an answer
   * @param {boolean} [isTooLong] whether what was sent does not fit the model
   */
  constructor(message, status = 0, isTooLong = false) {
    super(message);
    Object.assign(this, { status, isTooLong });
  }
}

/** @returns {Promise<Model[]>} */
export async function listModels(key) {
  const response = await send("v1/models", { headers: headers(key) });
  return (await response.json()).data;
}

/**
 * Yield a reply piece by piece. Raises ServerError, or AbortError once `signal` is aborted.
 * @param {Request} request
 * @param {{key: string, signal: AbortSignal}} options
 * @returns {AsyncGenerator<Piece>}
 */
export async function* streamReply(request, { key, signal }) {
  const isChat = request.model.is_chat_tuned !== false;
  const response = await send(isChat ? "v1/chat/completions" : "v1/completions", {
    method: "POST",
    headers: { ...headers(key), "Content-Type": "application/json" },
    body: JSON.stringify(isChat ? chatBody(request) : textBody(request)),
    signal,
  });
  yield* readPieces(response.body, isChat ? chatPiece : textPiece, signal);
}

async function* readPieces(body, toPiece, signal) {
  try {
    for await (const data of readEvents(body)) {
      if (data === "[DONE]") return;
      const event = JSON.parse(data);
      if (event.error) throw new ServerError(sentence(event.error.message));
      yield toPiece(event);
    }
  } catch (error) {
    if (signal.aborted || error instanceof ServerError) throw error;
    throw new ServerError("The connection to the server broke off.");
  }
  throw new ServerError("The connection to the server broke off.");
}

function chatBody({ model, messages, sampling }) {
  const odds = { logprobs: true, top_logprobs: N_ALTERNATIVES };
  const truncation = "auto"; // the oldest messages may be left out, and the server says how many
  return { model: model.id, messages, truncation, ...streamed(), ...odds, ...sampling };
}

function textBody({ model, messages, sampling }) {
  const prompt = messages.map((message) => message.content).join("\n\n");
  return { model: model.id, prompt, ...streamed(), logprobs: N_ALTERNATIVES, ...sampling };
}

const streamed = () => ({ stream: true, stream_options: { include_usage: true } });

function chatPiece(event) {
  const choice = event.choices?.[0];
  const odds = choice?.logprobs?.content ?? [];
  return {
    text: choice?.delta?.content ?? "",
    odds: odds.map(({ token, bytes, logprob, top_logprobs }) => ({
      token,
      bytes: bytes ?? null,
      logprob,
      top: (top_logprobs ?? []).map((other) => ({ token: other.token, logprob: other.logprob })),
    })),
    ...ending(event, choice),
  };
}

function textPiece(event) {
  const choice = event.choices?.[0];
  const odds = choice?.logprobs ?? { tokens: [] };
  return {
    text: choice?.text ?? "",
    odds: odds.tokens.map((token, i) => ({
      token,
      bytes: odds.bytes?.[i] ?? null,
      logprob: odds.token_logprobs[i],
      top: Object.entries(odds.top_logprobs?.[i] ?? {})
        .map(([other, logprob]) => ({ token: other, logprob }))
        .sort((a, b) => b.logprob - a.logprob),
    })),
    ...ending(event, choice),
  };
}

function ending(event, choice) {
  return {
    finishReason: choice?.finish_reason ?? null,
    stopReason: choice?.stop_reason ?? null,
    usage: event.usage ?? null,
    nDropped: event.dropped_messages ?? 0,
  };
}

const headers = (key) => (key ? { Authorization: `Bearer ${key}` } : {});

async function send(path, options) {
  let response;
  try {
    response = await fetch(path, { cache: "no-store", ...options });
  } catch (error) {
    if (options.signal?.aborted) throw error;
    throw new ServerError("The server does not answer. Is it still running?");
  }
  if (response.ok) return response;
  const error = (await response.json().catch(() => null))?.error;
  throw new ServerError(refusal(response, error), response.status, error?.code === TOO_LONG);
}

const TOO_LONG = "context_length_exceeded";

function refusal(response, error) {
  if (response.status === 401) return "The server wants an API key.";
  if (response.status === 429) return busy(response.headers.get("Retry-After"));
  const said = sentence(error?.message ?? `The server answered with an error (${response.status})`);
  return error?.code === TOO_LONG ? `${said} Shorten your message or the system prompt.` : said;
}

function busy(seconds) {
  const when = Number(seconds) > 0 ? `in ${seconds} ${seconds === "1" ? "second" : "seconds"}` : "soon";
  return `The server is busy: too many replies are being written. Try again ${when}.`;
}

/** Make the server's message a sentence: a capital letter first, a full stop last. */
function sentence(message) {
  const text = String(message ?? "The server failed").trim();
  return text.charAt(0).toUpperCase() + text.slice(1) + (/[.!?]$/.test(text) ? "" : ".");
}
