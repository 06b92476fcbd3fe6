// A client of GatewayService in Node: node client.mjs PROTOS ADDRESS KEY MODEL PROMPT
// Prints one JSON line: what one Chat brought, or the error it ended with.
import { createRequire } from "node:module";
import { join } from "node:path";

// the packages are installed beside the working directory, not beside this file
const require = createRequire(join(process.cwd(), "package.json"));
const grpc = require("@grpc/grpc-js");
const loader = require("@grpc/proto-loader");

const [protos, address, key, model, prompt] = process.argv.slice(2);
const definition = loader.loadSync("polyroute/api/gateway/v1/gateway.proto", {
  includeDirs: [protos, join(protos, "third_party")],
  keepCase: true,
  enums: String,
  longs: Number,
  oneofs: true,
});
const { GatewayService } = grpc.loadPackageDefinition(definition).polyroute.api.gateway.v1;

const client = new GatewayService(address, grpc.credentials.createInsecure());
const metadata = new grpc.Metadata();
metadata.set("authorization", `Bearer ${key}`);
const chat = { model, messages: [{ role: "ROLE_USER", parts: [{ text: { text: prompt } }] }] };
const answer = { text: "", messages: 0 };

const call = client.Chat({ chat }, metadata, { deadline: Date.now() + 10_000 });
call.on("data", ({ steps }) => {
  answer.messages += 1;
  for (const step of steps) {
    if (step.step === "served") answer.deployment = step.served.deployment;
    if (step.step === "event" && step.event.event === "text") answer.text += step.event.text.text;
    if (step.step === "event" && step.event.event === "finished") answer.finish = step.event.finished.reason;
    if (step.step === "completed") answer.completed = step.completed;
  }
});
call.on("error", (error) => {
  const details = error.metadata.get("grpc-status-details-bin").map(String).join("");
  done({ ...answer, code: grpc.status[error.code], message: error.details, details });
});
call.on("end", () => done({ ...answer, code: "OK" }));

let told = false; // an error is followed by an end
function done(result) {
  if (!told) console.log(JSON.stringify(result));
  told = true;
  client.close();
}
