"""llama-index: an LLM of each API, and its agent that calls functions."""

from job import Job, Seen, Weather, add, look_up, serve
from llama_index.core.agent.workflow import FunctionAgent
from llama_index.core.llms import ChatMessage
from llama_index.core.llms.function_calling import FunctionCallingLLM
from llama_index.llms.anthropic import Anthropic
from llama_index.llms.google_genai import GoogleGenAI
from llama_index.llms.openai import OpenAI, OpenAIResponses


def model_of(job: Job) -> FunctionCallingLLM:
    url, key, name = job["url"], job["key"], job["model"]
    match job["api"]:
        case "chat":
            return OpenAI(model=name, api_base=f"{url}/v1", api_key=key, max_retries=0)
        case "responses":
            return OpenAIResponses(model=name, api_base=f"{url}/v1", api_key=key, max_retries=0)
        case "anthropic":
            return Anthropic(model=name, base_url=url, api_key=key, max_retries=0)
        case _:
            return GoogleGenAI(model=name, api_key=key, http_options={"base_url": url}, max_retries=1)


async def run(job: Job) -> Seen:
    model = model_of(job)
    asked = [ChatMessage(role="user", content=job["prompt"])]
    match job["scenario"]:
        case "plain":
            return {"text": (await model.achat(asked)).message.content}
        case "stream":
            texts = [chunk.delta or "" async for chunk in await model.astream_chat(asked)]
            return {"text": "".join(texts), "pieces": sum(bool(text) for text in texts)}
        case "tools":
            agent = FunctionAgent(tools=[look_up, add], llm=model)
            return {"text": str(await agent.run(job["prompt"]))}
        case _:
            value = (await model.as_structured_llm(Weather).achat(asked)).raw
            return {"value": value.model_dump()}


serve(run)
