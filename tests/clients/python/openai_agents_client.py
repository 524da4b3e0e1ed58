"""openai-agents: an agent at chat completions and at responses."""

from agents import (
    Agent,
    Model,
    OpenAIChatCompletionsModel,
    OpenAIResponsesModel,
    Runner,
    function_tool,
    set_tracing_disabled,
)
from job import Job, Seen, Weather, add, look_up, serve
from openai import AsyncOpenAI
from openai.types.responses import ResponseTextDeltaEvent


def model_of(job: Job) -> Model:
    client = AsyncOpenAI(base_url=f"{job['url']}/v1", api_key=job["key"], max_retries=0)
    if job["api"] == "chat":
        return OpenAIChatCompletionsModel(model=job["model"], openai_client=client)
    return OpenAIResponsesModel(model=job["model"], openai_client=client)


async def run(job: Job) -> Seen:
    scenario, model = job["scenario"], model_of(job)
    tools = [function_tool(look_up), function_tool(add)] if scenario == "tools" else []
    agent = Agent(name="agent", model=model, tools=tools, output_type=Weather if scenario == "structured" else None)
    if scenario in ("plain", "structured"):
        output = (await Runner.run(agent, job["prompt"])).final_output
        return {"text": output} if scenario == "plain" else {"value": output.model_dump()}
    result = Runner.run_streamed(agent, job["prompt"])
    pieces = 0
    async for event in result.stream_events():
        pieces += event.type == "raw_response_event" and isinstance(event.data, ResponseTextDeltaEvent)
    return {"text": result.final_output, "pieces": pieces}


set_tracing_disabled(True)
serve(run)
