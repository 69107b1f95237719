// Runs a scenario with the official client, and prints its result as JSON.
// Usage: node openai.mjs SCENARIO, with BASE_URL, API_KEY and MODEL in the environment.
import OpenAI from "openai";

const client = new OpenAI({
  baseURL: process.env.BASE_URL,
  apiKey: process.env.API_KEY,
  maxRetries: 0,
});
const model = process.env.MODEL;
const messages = [{ role: "user", content: process.env.PROMPT ?? "hello 🎉" }];
const greedy = { model, messages, max_tokens: 24, temperature: 0 };

async function collect(stream) {
  const chunks = [];
  for await (const chunk of stream) chunks.push(chunk);
  return chunks;
}

async function failure(call) {
  try {
    await call();
    return null;
  } catch (error) {
    const { status, code, param, type } = error;
    return { name: error.constructor.name, status, code, param, type };
  }
}

const scenarios = {
  chat: () => client.chat.completions.create({ ...greedy, n: 2, seed: 7 }),

  chatStream: async () =>
    collect(
      await client.chat.completions.create({
        ...greedy,
        stream: true,
        stream_options: { include_usage: true },
      }),
    ),

  streamHelper: () => client.chat.completions.stream(greedy).finalChatCompletion(),

  completion: () => client.completions.create({ model, prompt: "a b ### c", stop: "###" }),

  completionStream: async () =>
    collect(await client.completions.create({ model, prompt: "a b c", stream: true })),

  models: async () => ({
    list: (await client.models.list()).data,
    one: await client.models.retrieve(model),
  }),

  batch: async () => {
    const body = { messages, max_tokens: 4 };
    const line = { custom_id: "mine", method: "POST", url: "/v1/chat/completions", body };
    const file = await client.files.create({
      file: await OpenAI.toFile(Buffer.from(JSON.stringify(line)), "in.jsonl"),
      purpose: "batch",
      expires_after: { anchor: "created_at", seconds: 3600 },
    });
    const created = await client.batches.create({
      input_file_id: file.id,
      endpoint: "/v1/chat/completions",
      completion_window: "24h",
    });
    let batch = created;
    for (let tries = 0; batch.status !== "completed" && tries < 600; tries++) {
      await new Promise((resolve) => setTimeout(resolve, 50));
      batch = await client.batches.retrieve(created.id);
    }
    const output = await (await client.files.content(batch.output_file_id)).text();
    const listed = (await client.batches.list({ limit: 1 })).data.map((one) => one.id);
    const deleted = await client.files.delete(file.id);
    return { file, batch, output, listed, deleted };
  },

  errors: async () => {
    const wrongKey = new OpenAI({ baseURL: process.env.BASE_URL, apiKey: "bc_x", maxRetries: 0 });
    const chat = (fields) => () => client.chat.completions.create({ ...greedy, ...fields });
    return {
      key: await failure(() => wrongKey.models.list()),
      model: await failure(chat({ model: "gpt-4" })),
      field: await failure(chat({ temperature: 3 })),
      tools: await failure(chat({ tools: [{ type: "function", function: { name: "f" } }] })),
    };
  },

  // Sends more requests at once than the key may have in flight: the client waits for Retry-After.
  retries: async () => {
    const retrying = client.withOptions({ maxRetries: 9 });
    const requests = [1, 2].map(() => retrying.chat.completions.create(greedy));
    return (await Promise.all(requests)).map((completion) => completion.choices[0].finish_reason);
  },

  // Aborts a stream after its first chunk, and returns the chunk's id, which names the job.
  abort: async () => {
    const stream = await client.chat.completions.create({
      ...greedy,
      max_tokens: 500,
      ignore_eos: true,
      stream: true,
    });
    for await (const chunk of stream) {
      stream.controller.abort();
      return { id: chunk.id };
    }
  },
};

console.log(JSON.stringify(await scenarios[process.argv[2]]()));
