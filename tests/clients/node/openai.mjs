// The `openai` package with the gateway: node openai.mjs URL KEY MODEL
// Prints one JSON line: what a chat, a stream, a loop with tools, a parsed answer, a response, vectors and errors brought.
import { createRequire } from "node:module";
import { join } from "node:path";

// the packages are installed beside the working directory, not beside this file
const require = createRequire(join(process.cwd(), "package.json"));
const OpenAI = require("openai");
const { zodResponseFormat } = require("openai/helpers/zod");
const { z } = require("zod");

const [url, apiKey, model] = process.argv.slice(2);
const client = new OpenAI({ baseURL: `${url}/v1`, apiKey, maxRetries: 0 });
const said = (content) => [{ role: "user", content }];
const parameters = { type: "object", properties: { city: { type: "string" } }, required: ["city"] };
const tools = [{ type: "function", function: { name: "weather", parameters } }];

const whole = await client.chat.completions.create({ model, messages: said("hello") });

const pieces = [];
for await (const chunk of await client.chat.completions.create({ model, messages: said("hello"), stream: true })) {
  if (chunk.choices[0].delta.content) pieces.push(chunk.choices[0].delta.content);
}

const messages = said("weather?");
const first = await client.chat.completions.stream({ model, messages, tools }).finalChatCompletion();
const asked = first.choices[0].message;
const results = asked.tool_calls.map((call) => ({
  role: "tool",
  tool_call_id: call.id,
  content: `${JSON.parse(call.function.arguments).city} is wet`,
}));
const second = await client.chat.completions.create({ model, messages: [...messages, asked, ...results], tools });

const response_format = zodResponseFormat(z.object({ name: z.string() }), "city");
const parsed = await client.chat.completions.parse({ model, messages: said("where?"), response_format });

const response = await client.responses.stream({ model, input: "hello" }).finalResponse();

const vectors = await client.embeddings.create({ model, input: ["one", "three"] });

let broken = "";
try {
  for await (const chunk of await client.chat.completions.create({ model, messages: said("hello"), stream: true })) {
    broken += chunk.choices[0].delta.content ?? "";
  }
} catch (error) {
  broken += `|${error.message}`;
}
const refused = await client.chat.completions
  .create({ model: "no-such", messages: said("hello") })
  .catch((error) => [error.constructor.name, error.status, error.code, Boolean(error.requestID)]);

console.log(
  JSON.stringify({
    whole: [whole.choices[0].message.content, whole.usage.total_tokens],
    pieces,
    calls: asked.tool_calls.map((call) => call.function.arguments),
    answered: second.choices[0].message.content,
    city: parsed.choices[0].message.parsed.name,
    response: [response.output_text, response.status],
    vectors: vectors.data.map((entry) => entry.embedding),
    broken,
    refused,
  }),
);
