// The `ai` package with `@ai-sdk/openai-compatible` and the gateway: node ai.mjs URL KEY MODEL
// Prints one JSON line: what a chat, a stream, a loop with tools, an object, vectors and an error brought.
import { createRequire } from "node:module";
import { join } from "node:path";

// the packages are installed beside the working directory, not beside this file
const require = createRequire(join(process.cwd(), "package.json"));
const { embedMany, generateObject, generateText, stepCountIs, streamText, tool } = require("ai");
const { createOpenAICompatible } = require("@ai-sdk/openai-compatible");
const { z } = require("zod");

const [url, apiKey, name] = process.argv.slice(2);
const provider = createOpenAICompatible({
  name: "polyroute",
  baseURL: `${url}/v1`,
  apiKey,
  includeUsage: true,
  supportsStructuredOutputs: true,
});
const model = provider(name);
const options = { model, maxRetries: 0 };

const whole = await generateText({ ...options, prompt: "hello" });

const pieces = [];
const stream = streamText({ ...options, prompt: "hello" });
for await (const piece of stream.textStream) pieces.push(piece);

const cities = [];
const weather = tool({
  description: "tells the weather",
  inputSchema: z.object({ city: z.string() }),
  execute: async ({ city }) => {
    cities.push(city);
    return `${city} is wet`;
  },
});
const loop = streamText({ ...options, prompt: "weather?", tools: { weather }, stopWhen: stepCountIs(3) });
await loop.consumeStream();

const schema = z.object({ name: z.string() });
const object = await generateObject({ ...options, prompt: "where?", schema });

const vectors = await embedMany({ model: provider.textEmbeddingModel(name), values: ["one", "three"], maxRetries: 0 });

let broken = "";
const failing = streamText({ ...options, prompt: "hello", onError: () => {} });
for await (const part of failing.fullStream) {
  if (part.type === "text-delta") broken += part.text;
  if (part.type === "error") broken += `|${part.error.message ?? part.error}`;
}
const refused = await generateText({ ...options, model: provider("no-such"), prompt: "hello" }).catch((error) => [
  error.statusCode,
  error.message,
  error.isRetryable,
]);

console.log(
  JSON.stringify({
    whole: [whole.text, whole.reasoningText, whole.usage.totalTokens, whole.finishReason],
    pieces,
    total: (await stream.usage).totalTokens,
    cities,
    answered: await loop.text,
    city: object.object.name,
    vectors: vectors.embeddings,
    broken,
    refused,
  }),
);
