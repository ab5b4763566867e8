"""One client that asks for stories, for stories_speed.py; the last line it prints is JSON.

    python benchmarks/stories_worker.py KIND URL PROMPTS.json CONCURRENCY FOLDER

KIND is `bare` (aiohttp that posts and parses, nothing else), `tinyllm` (gen-stories),
`distilabel` or `curator`; each is imported only where it is asked for, so that a Python which has
one of the peers needs nothing of tinyllm. The JSON holds the seconds of the call that makes the
stories, without the time that its imports take, and the processor seconds of all its processes.
"""

import json
import os
import resource
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path


def bare(url: str, prompts: Sequence[str], concurrency: int, _: Path) -> Callable[[], int]:
    """Post and parse through aiohttp: what no Python client on it can be faster than."""
    import asyncio

    from aiohttp import ClientSession, DummyCookieJar, TCPConnector

    async def ask_all() -> int:
        left, n = iter(prompts), 0
        connector, headers = TCPConnector(limit=0), {"Content-Type": "application/json"}
        async with ClientSession(
            connector=connector, headers=headers, cookie_jar=DummyCookieJar()
        ) as session:

            async def worker() -> None:
                nonlocal n
                for prompt in left:
                    message = {"role": "user", "content": prompt}
                    body = json.dumps({"model": "teller", "messages": [message], "max_tokens": 700})
                    async with session.post(f"{url}/chat/completions", data=body) as response:
                        n += bool(json.loads(await response.read())["choices"])

            await asyncio.gather(*(worker() for _ in range(concurrency)))
        return n

    return lambda: asyncio.run(ask_all())


def tinyllm(url: str, prompts: Sequence[str], concurrency: int, folder: Path) -> Callable[[], int]:
    """Run gen-stories to the finished data set."""
    from tinyllm.config.base import load_config
    from tinyllm.config.stories import StoriesConfig
    from tinyllm.reporting import SilentReporter
    from tinyllm.stories.workflow import run

    flags = {
        "output": folder / "stories",
        "n_stories": len(prompts),
        "provider.kind": "openai",
        "provider.openai.model": "teller",
        "provider.openai.base_urls": url,
        "provider.concurrency": concurrency,
        "charts": False,  # they take a second, however many stories there are
    }
    config = load_config(StoriesConfig, flags=flags)
    return lambda: run(config, SilentReporter()).n_accepted


def distilabel(
    url: str, prompts: Sequence[str], concurrency: int, folder: Path
) -> Callable[[], int]:
    """Run a pipeline of one TextGeneration over the prompts; a batch is asked for at a time."""
    from distilabel.llms import OpenAILLM
    from distilabel.pipeline import Pipeline
    from distilabel.steps import LoadDataFromDicts
    from distilabel.steps.tasks import TextGeneration

    rows = [{"instruction": prompt} for prompt in prompts]
    with Pipeline(name="stories", cache_dir=folder) as pipeline:
        load = LoadDataFromDicts(data=rows, batch_size=concurrency)
        llm = OpenAILLM(
            model="teller",
            base_url=url,
            api_key="none",
            generation_kwargs={"max_new_tokens": 700, "temperature": 1.0},
        )
        load >> TextGeneration(llm=llm, input_batch_size=concurrency)
    return lambda: sum(
        row["generation"] is not None for row in pipeline.run(use_cache=False)["default"]["train"]
    )


def curator(url: str, prompts: Sequence[str], concurrency: int, folder: Path) -> Callable[[], int]:
    """Ask through curator.LLM; tokens are guessed, for the file of its counter is far away."""
    os.environ |= {
        "OPENAI_API_KEY": "none",
        "TELEMETRY_ENABLED": "false",
        "CURATOR_DISABLE_CACHE": "1",
        "CURATOR_CACHE_DIR": str(folder),
        "HF_HUB_OFFLINE": "1",
    }
    import tiktoken

    class Guessing:
        def encode(self, text: str, **_: object) -> list[int]:
            return [0] * (len(text) // 4)

    tiktoken.get_encoding = lambda _: Guessing()
    tiktoken.encoding_for_model = lambda _: Guessing()

    from bespokelabs import curator as library

    llm = library.LLM(
        model_name="teller",
        backend="openai",
        backend_params={
            "base_url": url,
            "max_requests_per_minute": 10**9,
            "max_tokens_per_minute": 10**12,
            "max_concurrent_requests": concurrency,
        },
    )

    def ask() -> int:
        answered = llm(list(prompts))
        return len(getattr(answered, "dataset", answered))

    return ask


def main() -> None:
    """Make the stories and say what it took."""
    kind, url, prompts, concurrency, folder = sys.argv[1:]
    kinds = {"bare": bare, "tinyllm": tinyllm, "distilabel": distilabel, "curator": curator}
    make = kinds[kind](url, json.loads(Path(prompts).read_text()), int(concurrency), Path(folder))
    used, began = processor_seconds(), time.perf_counter()
    n = make()
    seconds = time.perf_counter() - began
    found = {"n": n, "seconds": seconds, "processor_seconds": processor_seconds() - used}
    print(f"\n{json.dumps(found)}", flush=True)


def processor_seconds() -> float:
    """Return what this process and those that it waited for have used."""
    usages = [resource.getrusage(w) for w in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


if __name__ == "__main__":
    main()
