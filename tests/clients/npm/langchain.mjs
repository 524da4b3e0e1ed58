// langchain for JavaScript: a chat model of each API, and its agent.
import { ChatAnthropic } from "@langchain/anthropic";
import { AIMessageChunk } from "@langchain/core/messages";
import { ChatGoogleGenerativeAI } from "@langchain/google-genai";
import { ChatOpenAI } from "@langchain/openai";
import { createAgent, tool } from "langchain";
import { z } from "zod";

const weather = z.object({ city: z.string(), degrees: z.number().int(), tags: z.array(z.string()) });
const tools = [
  tool(({ city }) => `In ${city} it is 21 °C.`, {
    name: "look_up",
    description: "Looks up the weather of a city.",
    schema: z.object({ city: z.string() }),
  }),
  tool(({ a, b }) => `The sum is ${a + b}.`, {
    name: "add",
    description: "Adds two numbers.",
    schema: z.object({ a: z.number(), b: z.number() }),
  }),
];

function modelOf({ api, url, key, model }) {
  const common = { model, apiKey: key, maxRetries: 0 };
  if (api === "anthropic") return new ChatAnthropic({ ...common, anthropicApiUrl: url });
  if (api === "google") return new ChatGoogleGenerativeAI({ ...common, baseUrl: url });
  const useResponsesApi = api === "responses";
  return new ChatOpenAI({ ...common, useResponsesApi, configuration: { baseURL: `${url}/v1` } });
}

async function run(job) {
  const model = modelOf(job);
  if (job.scenario === "plain") return { text: (await model.invoke(job.prompt)).text };
  if (job.scenario === "structured") {
    return { value: await model.withStructuredOutput(weather).invoke(job.prompt) };
  }
  let text = "";
  let pieces = 0;
  if (job.scenario === "stream") {
    for await (const chunk of await model.stream(job.prompt)) {
      text += chunk.text;
      pieces += chunk.text === "" ? 0 : 1;
    }
    return { text, pieces };
  }
  const agent = createAgent({ model, tools });
  const asked = { messages: [{ role: "user", content: job.prompt }] };
  for await (const [message] of await agent.stream(asked, { streamMode: "messages" })) {
    text = AIMessageChunk.isInstance(message) ? text + message.text : "";
  }
  return { text };
}

let input = "";
for await (const chunk of process.stdin) input += chunk;
for (const job of JSON.parse(input)) {
  let seen;
  try {
    seen = await run(job);
  } catch (error) {
    console.error(error);
    seen = { error: String(error) };
  }
  console.log(JSON.stringify({ id: job.id, ...seen }));
}
