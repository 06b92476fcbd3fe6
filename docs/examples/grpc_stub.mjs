// Another language, the same contract: loaded from protos/ as it lies there.
import grpc from "@grpc/grpc-js";
import loader from "@grpc/proto-loader";
import { fileURLToPath } from "node:url";

const protos = fileURLToPath(new URL("../../protos", import.meta.url));
const contract = loader.loadSync("polyroute/api/gateway/v1/gateway.proto", {
  includeDirs: [protos, `${protos}/third_party`],
  keepCase: true,
  enums: String,
});
const { GatewayService } = grpc.loadPackageDefinition(contract).polyroute.api.gateway.v1;

const address = process.env.POLYROUTE_GRPC ?? "127.0.0.1:8081";
const client = new GatewayService(address, grpc.credentials.createInsecure());
const key = new grpc.Metadata();
key.set("authorization", `Bearer ${process.env.POLYROUTE_KEY}`);

const model = process.env.POLYROUTE_MODEL ?? "smollm2-135m-instruct";
const question = { role: "ROLE_USER", parts: [{ text: { text: "Say hello." } }] };
const call = client.Chat({ chat: { model, messages: [question] } }, key, { deadline: Date.now() + 60_000 });
call.on("data", ({ steps }) => steps.forEach((step) => process.stdout.write(step.event?.text?.text ?? "")));
call.on("error", (error) => {
  console.error(error.details);
  process.exitCode = 1;
});
call.on("end", () => {
  console.log();
  client.close();
});
