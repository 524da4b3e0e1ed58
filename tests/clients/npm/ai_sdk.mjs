// The Vercel `ai` SDK with four providers.
import { createAnthropic } from "@ai-sdk/anthropic";
import { createGoogleGenerativeAI } from "@ai-sdk/google";
import { createOpenAI } from "@ai-sdk/openai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { Output, generateText, stepCountIs, streamText, tool } from "ai";
import { z } from "zod";

const weather = z.object({ city: z.string(), degrees: z.number().int(), tags: z.array(z.string()) });
const tools = {
  look_up: tool({
    description: "Looks up the weather of a city.",
    inputSchema: z.object({ city: z.string() }),
    execute: async ({ city }) => `In ${city} it is 21 °C.`,
  }),
  add: tool({
    description: "Adds two numbers.",
    inputSchema: z.object({ a: z.number(), b: z.number() }),
    execute: async ({ a, b }) => `The sum is ${a + b}.`,
  }),
};

function modelOf({ api, url, key, model }) {
  if (api === "chat") return createOpenAI({ baseURL: `${url}/v1`, apiKey: key }).chat(model);
  if (api === "responses") return createOpenAI({ baseURL: `${url}/v1`, apiKey: key }).responses(model);
  if (api === "anthropic") return createAnthropic({ baseURL: `${url}/v1`, apiKey: key })(model);
  if (api === "google") return createGoogleGenerativeAI({ baseURL: `${url}/v1beta`, apiKey: key })(model);
  const settings = { name: "edge", baseURL: `${url}/v1`, apiKey: key, supportsStructuredOutputs: true };
  return createOpenAICompatible(settings)(model);
}

async function run(job) {
  const asked = { model: modelOf(job), prompt: job.prompt, maxRetries: 0 };
  if (job.scenario === "plain") return { text: (await generateText(asked)).text };
  if (job.scenario === "structured") {
    return { value: (await generateText({ ...asked, output: Output.object({ schema: weather }) })).output };
  }
  const more = job.scenario === "tools" ? { tools, stopWhen: stepCountIs(8) } : {};
  let failure = null;
  const result = streamText({ ...asked, ...more, onError: ({ error }) => { failure = error; } });
  let pieces = 0;
  for await (const _ of result.textStream) pieces += 1;
  if (failure !== null) throw failure;
  return { text: await result.text, pieces };
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
