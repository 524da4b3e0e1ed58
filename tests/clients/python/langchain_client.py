"""langchain: a chat model of each API, and its agent."""

from job import Job, Seen, Weather, add, look_up, serve
from langchain.agents import create_agent
from langchain_anthropic import ChatAnthropic
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessageChunk
from langchain_google_genai import ChatGoogleGenerativeAI
from langchain_openai import ChatOpenAI


def model_of(job: Job) -> BaseChatModel:
    url, key, name = job["url"], job["key"], job["model"]
    match job["api"]:
        case "chat":
            return ChatOpenAI(model=name, base_url=f"{url}/v1", api_key=key, max_retries=0, use_responses_api=False)
        case "responses":
            return ChatOpenAI(model=name, base_url=f"{url}/v1", api_key=key, max_retries=0, use_responses_api=True)
        case "anthropic":
            return ChatAnthropic(model=name, base_url=url, api_key=key, max_retries=0)
        case _:
            return ChatGoogleGenerativeAI(model=name, base_url=url, api_key=key, max_retries=0, transport="rest")


async def run(job: Job) -> Seen:
    model = model_of(job)
    match job["scenario"]:
        case "plain":
            return {"text": (await model.ainvoke(job["prompt"])).text}
        case "stream":
            texts = [chunk.text async for chunk in model.astream(job["prompt"])]
            return {"text": "".join(texts), "pieces": sum(bool(text) for text in texts)}
        case "tools":
            agent = create_agent(model, [look_up, add])
            asked = {"messages": [{"role": "user", "content": job["prompt"]}]}
            text = ""
            async for message, _ in agent.astream(asked, stream_mode="messages"):
                text = text + message.text if isinstance(message, AIMessageChunk) else ""
            return {"text": text}
        case _:
            value = await model.with_structured_output(Weather).ainvoke(job["prompt"])
            return {"value": value.model_dump()}


serve(run)
