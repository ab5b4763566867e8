/**
 * Server-sent events from a stream of bytes.
 *
 * Pieces of a stream end anywhere: inside a line, between CR and LF, within one character. Hence
 * bytes become text with a decoder that keeps unfinished characters, and text becomes lines only
 * where a line has surely ended.
 */

const LINE_END = /\r\n|\n|\r(?!$)/;

/**
 * Yield the data of each event. An event that the end of the stream cuts off is left out.
 * @param {ReadableStream<Uint8Array>} stream
 * @returns {AsyncGenerator<string>}
 */
export async function* readEvents(stream) {
  let data = [];
  for await (const line of readLines(stream)) {
    if (line === "") {
      if (data.length) yield data.join("\n");
      data = [];
    } else if (line.startsWith("data:")) data.push(line.slice(5).replace(/^ /, ""));
  }
}

async function* readLines(stream) {
  let rest = "";
  for await (const text of readTexts(stream)) {
    const lines = (rest + text).split(LINE_END);
    rest = lines.pop();
    yield* lines;
  }
  if (rest.endsWith("\r")) yield rest.slice(0, -1);
}

async function* readTexts(stream) {
  const reader = stream.getReader();
  const decoder = new TextDecoder();
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      yield decoder.decode(value, { stream: true });
    }
  } finally {
    reader.cancel().catch(() => {}); // the reader may have failed already: nothing is left to do
  }
}
