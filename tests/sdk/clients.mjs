// One JavaScript client of the matrix: asks each model that it reads, a line each, through its gateway, and writes what
// its user saw as a line of JSON. See matrix.py, and clients.py for the same in Python.
//
//     node clients.mjs CLIENT BASE_URL

import readline from "node:readline";

// What no answer here takes, even on a busy machine.
const TIMEOUT_MILLISECONDS = 60_000;
const KEY = "any-key-will-do";
const PROMPT = "Good morning";
const MESSAGES = [{ role: "user", content: PROMPT }];
const SETTINGS = { apiKey: KEY, maxRetries: 0, timeout: TIMEOUT_MILLISECONDS };

// Each makes a function that asks a model, and gives pieces of the answer's text, each with the reason why the answer
// ended, once that is known.
const CLIENTS = {
  openai_chat: async (baseUrl) => {
    const client = await openai(baseUrl);
    return async function* (model) {
      for await (const chunk of await client.chat.completions.create({ model, messages: MESSAGES, stream: true })) {
        for (const choice of chunk.choices) yield [choice.delta.content ?? "", choice.finish_reason];
      }
    };
  },

  openai_responses: async (baseUrl) => {
    const client = await openai(baseUrl);
    return async function* (model) {
      for await (const event of await client.responses.create({ model, input: PROMPT, stream: true })) {
        if (event.type === "response.output_text.delta") yield [event.delta];
        if (event.type === "response.completed") yield ["", event.response.status];
      }
    };
  },

  openai_responses_stream: async (baseUrl) => {
    const client = await openai(baseUrl);
    return async function* (model) {
      const stream = client.responses.stream({ model, input: PROMPT });
      for await (const event of stream) if (event.type === "response.output_text.delta") yield [event.delta];
      yield ["", (await stream.finalResponse()).status];
    };
  },

  anthropic_messages: async (baseUrl) => messages(await anthropic(baseUrl)),

  anthropic_stream: async (baseUrl) => {
    const client = await anthropic(baseUrl);
    return async function* (model) {
      const stream = client.messages.stream({ model, max_tokens: 99, messages: MESSAGES });
      for await (const event of stream) if (event.type === "content_block_delta") yield [event.delta.text];
      yield ["", (await stream.finalMessage()).stop_reason];
    };
  },

  anthropic_vertex: async (baseUrl) => {
    const { AnthropicVertex } = await import("@anthropic-ai/vertex-sdk");
    return messages(
      new AnthropicVertex({
        baseURL: `${baseUrl}/vertex_ai/v1`,
        region: "us-east5",
        projectId: "project",
        authClient: { getRequestHeaders: async () => new Headers({ authorization: `Bearer ${KEY}` }) },
        maxRetries: 0,
        timeout: TIMEOUT_MILLISECONDS,
      }),
    );
  },

  google_genai: (baseUrl) => googleGenai(baseUrl),
  google_genai_passed_through: (baseUrl) => googleGenai(`${baseUrl}/gemini`),

  ai_openai_chat: async (baseUrl) => {
    const { createOpenAI } = await import("@ai-sdk/openai");
    const provider = createOpenAI({ baseURL: `${baseUrl}/v1`, apiKey: KEY });
    return aiSdk((model) => provider.chat(model));
  },

  ai_openai_responses: async (baseUrl) => {
    const { createOpenAI } = await import("@ai-sdk/openai");
    const provider = createOpenAI({ baseURL: `${baseUrl}/v1`, apiKey: KEY });
    return aiSdk((model) => provider.responses(model));
  },

  ai_anthropic: async (baseUrl) => {
    const { createAnthropic } = await import("@ai-sdk/anthropic");
    const provider = createAnthropic({ baseURL: `${baseUrl}/v1`, apiKey: KEY });
    return aiSdk((model) => provider(model));
  },

  ai_google: async (baseUrl) => {
    const { createGoogleGenerativeAI } = await import("@ai-sdk/google");
    const provider = createGoogleGenerativeAI({ baseURL: `${baseUrl}/v1beta`, apiKey: KEY });
    return aiSdk((model) => provider(model));
  },
};

async function openai(baseUrl) {
  const { default: OpenAI } = await import("openai");
  return new OpenAI({ baseURL: `${baseUrl}/v1`, ...SETTINGS });
}

async function anthropic(baseUrl) {
  const { default: Anthropic } = await import("@anthropic-ai/sdk");
  return new Anthropic({ baseURL: baseUrl, ...SETTINGS });
}

function messages(client) {
  return async function* (model) {
    const request = { model, max_tokens: 99, messages: MESSAGES, stream: true };
    for await (const event of await client.messages.create(request)) {
      if (event.type === "content_block_delta") yield [event.delta.text];
      if (event.type === "message_delta") yield ["", event.delta.stop_reason];
    }
  };
}

async function googleGenai(baseUrl) {
  const { GoogleGenAI } = await import("@google/genai");
  const client = new GoogleGenAI({ apiKey: KEY, httpOptions: { baseUrl, timeout: TIMEOUT_MILLISECONDS } });
  return async function* (model) {
    for await (const chunk of await client.models.generateContentStream({ model, contents: PROMPT })) {
      for (const candidate of chunk.candidates ?? []) {
        yield [(candidate.content?.parts ?? []).map((part) => part.text ?? "").join(""), candidate.finishReason];
      }
    }
  };
}

/** The AI SDK throws nothing while a stream is read: what went wrong is one of its parts. */
async function aiSdk(modelOf) {
  // It would write to where the answers go.
  globalThis.AI_SDK_LOG_WARNINGS = false;
  const { streamText } = await import("ai");
  return async function* (model) {
    const result = streamText({ model: modelOf(model), prompt: PROMPT, maxRetries: 0, onError: () => {} });
    let raised;
    for await (const part of result.fullStream) {
      if (part.type === "error") raised ??= part.error;
      if (part.type === "text-delta") yield [part.text];
    }
    // Who reads the text alone is told by the reason that it is not whole. Without any text there is none.
    const reason = await result.finishReason.catch(() => "error");
    if (reason !== "error") yield ["", reason];
    if (raised !== undefined) throw raised;
  };
}

/** The class of an error, and those that it extends; the AI SDK has parts that are the error object of the stream. */
function classesOf(error) {
  if (!(error instanceof Error)) return ["error part"];
  const classes = [];
  for (let at = Object.getPrototypeOf(error); at && at !== Object.prototype; at = Object.getPrototypeOf(at)) {
    classes.push(at.constructor.name);
  }
  return error.name.startsWith("AI_") ? [error.name, ...classes] : classes;
}

async function seen(ask, model) {
  let text = "";
  let finish = null;
  let error = null;
  try {
    for await (const [piece, reason] of ask(model)) {
      text += piece;
      finish = reason ?? finish;
    }
  } catch (raised) {
    const body = JSON.stringify(raised?.error) ?? raised?.responseBody;
    error = { classes: classesOf(raised), message: `${raised?.message} ${body}`.slice(0, 2000) };
  }
  return { text, finish, error };
}

const [name, baseUrl] = process.argv.slice(2);
const ask = await CLIENTS[name](baseUrl);
for await (const line of readline.createInterface({ input: process.stdin })) {
  console.log(JSON.stringify(await seen(ask, line)));
}
