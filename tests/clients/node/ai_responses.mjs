// The `ai` package with `@ai-sdk/openai`, which asks /v1/responses, and the gateway: node ai_responses.mjs URL KEY MODEL
// Prints one JSON line: what a chat, a stream, a loop with tools, an object and errors brought.
import { createRequire } from "node:module";
import { join } from "node:path";

// the packages are installed beside the working directory, not beside this file
const require = createRequire(join(process.cwd(), "package.json"));
const { generateObject, generateText, stepCountIs, streamText, tool } = require("ai");
const { createOpenAI } = require("@ai-sdk/openai");
const { z } = require("zod");

const [url, apiKey, name] = process.argv.slice(2);
const provider = createOpenAI({ baseURL: `${url}/v1`, apiKey });
const options = { model: provider(name), maxRetries: 0 };

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

let broken = "";
const failing = streamText({ ...options, prompt: "hello", onError: () => {} });
for await (const part of failing.fullStream) {
  if (part.type === "text-delta") broken += part.text;
  if (part.type === "error") broken += `|${part.error.error?.message ?? part.error.message ?? JSON.stringify(part.error)}`;
}
const refused = await generateText({ ...options, model: provider("no-such"), prompt: "hello" }).catch((error) => [
  error.statusCode,
  error.message,
  error.isRetryable,
]);

console.log(
  JSON.stringify({
    asked: options.model.provider,
    whole: [whole.text, whole.usage.totalTokens, whole.finishReason],
    pieces,
    total: (await stream.usage).totalTokens,
    cities,
    answered: await loop.text,
    city: object.object.name,
    broken,
    refused,
  }),
);
