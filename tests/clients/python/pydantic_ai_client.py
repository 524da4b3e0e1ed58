"""pydantic-ai: an agent with a model of each API."""

from job import Job, Seen, Weather, add, look_up, serve
from pydantic_ai import Agent
from pydantic_ai.models import Model
from pydantic_ai.models.anthropic import AnthropicModel
from pydantic_ai.models.google import GoogleModel
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.providers.anthropic import AnthropicProvider
from pydantic_ai.providers.google import GoogleProvider
from pydantic_ai.providers.openai import OpenAIProvider


def model_of(job: Job) -> Model:
    url, key, name = job["url"], job["key"], job["model"]
    match job["api"]:
        case "chat":
            return OpenAIChatModel(name, provider=OpenAIProvider(base_url=f"{url}/v1", api_key=key))
        case "responses":
            return OpenAIResponsesModel(name, provider=OpenAIProvider(base_url=f"{url}/v1", api_key=key))
        case "anthropic":
            return AnthropicModel(name, provider=AnthropicProvider(base_url=url, api_key=key))
        case _:
            return GoogleModel(name, provider=GoogleProvider(base_url=url, api_key=key))


async def run(job: Job) -> Seen:
    model = model_of(job)
    match job["scenario"]:
        case "plain":
            return {"text": (await Agent(model).run(job["prompt"])).output}
        case "stream" | "tools":
            agent = Agent(model, tools=[look_up, add] if job["scenario"] == "tools" else [])
            async with agent.run_stream(job["prompt"]) as result:
                texts = [text async for text in result.stream_text(delta=True, debounce_by=None)]
            return {"text": "".join(texts), "pieces": len(texts)}
        case _:
            return {"value": (await Agent(model, output_type=Weather).run(job["prompt"])).output.model_dump()}


serve(run)
