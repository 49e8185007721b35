"""The daemon in front of llama.cpp's own server: what arrives is compared with what that server says.

Twice: with what it answers to the same request asked directly, and, byte for byte, with what it sent to the daemon
for this very request. Only the model's name and the completion's id may differ.
"""
import asyncio
import json
import math
import re
import time
import urllib.request

import openai

from harness import Suite, check, equal, eventually, raises
from wire import exchange

suite = Suite("through the daemon to llama.cpp")

CHAT = {"seed": 7, "temperature": 0, "max_tokens": 24,
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "hello, what is a model?"}]}
TOOLS = [{"type": "function", "function": {
    "name": "weather", "description": "the weather in a place",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}}}]
#: llama.cpp's prompt cache changes `usage.prompt_tokens_details` from one call to the next.
SAME = {"extra_body": {"cache_prompt": False}}


def direct_and_through(world, ask):
    """The same question to the server and to the daemon."""
    return ask(world.direct, world.direct_model), ask(world.client, world.model)


def text_of(chunks):
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)


def post(world, path, fields, base=None):
    return exchange(base or world.url, "POST", path, json.dumps(fields).encode())


def as_the_daemon_says_it(world, answer):
    """The upstream's bytes with the two things that the daemon may change."""
    body = answer.body.replace(b'"model":"%s"' % world.direct_model.encode(), b'"model":"%s"' % world.model.encode())
    return re.sub(rb'("id":"chatcmpl-[^"]*)"', rb'\1@llama"', body)


def bytes_are_the_upstreams(world, path, fields):
    world.tee.clear()
    answer = post(world, path, {"model": world.model, **fields})
    equal(answer.status, 200, "status")
    sent, came = world.tee.exchange()
    equal(answer.body, as_the_daemon_says_it(world, came), "the body")
    return sent, came, answer


# === the same bytes ===


@suite.case
def a_chat_answer_is_the_servers_own_bytes(world):
    sent, came, answer = bytes_are_the_upstreams(world, "/v1/chat/completions", CHAT)
    equal(json.loads(sent.body), {"model": "tiny", **CHAT}, "the request upstream")
    media_type = [side.headers["content-type"].split(";")[0] for side in (answer, came)]
    equal(media_type[0], media_type[1], "content-type")


@suite.case
def a_stream_with_usage_is_the_servers_own_bytes(world):
    fields = {**CHAT, "stream": True, "stream_options": {"include_usage": True}}
    sent, _, answer = bytes_are_the_upstreams(world, "/v1/chat/completions", fields)
    equal(json.loads(sent.body), {"model": "tiny", **fields}, "the request upstream")
    check(answer.body.endswith(b"data: [DONE]\n\n"), "the stream does not end with [DONE]")


@suite.case
def a_stream_without_usage_lacks_only_the_usage_that_we_asked_for(world):
    world.tee.clear()
    answer = post(world, "/v1/chat/completions", {"model": world.model, **CHAT, "stream": True})
    _, came = world.tee.exchange()
    events = as_the_daemon_says_it(world, came).split(b"\n\n")
    kept = [event for event in events if b'"choices":[]' not in event]
    equal(answer.body, b"\n\n".join(kept), "the stream")


@suite.case
def a_completion_is_the_servers_own_bytes(world):
    bytes_are_the_upstreams(world, "/v1/completions", {"prompt": "the weather in", "temperature": 0, "seed": 7, "max_tokens": 9})


@suite.case
def a_tool_call_is_the_servers_own_bytes(world):
    fields = {"messages": [{"role": "user", "content": "paris?"}], "tools": TOOLS, "temperature": 0, "seed": 7, "max_tokens": 200}
    bytes_are_the_upstreams(world, "/v1/chat/completions", fields)
    bytes_are_the_upstreams(world, "/v1/chat/completions",
                            {**fields, "stream": True, "stream_options": {"include_usage": True}})


@suite.case
def an_error_of_the_server_is_its_own_bytes(world):
    asked = {"messages": [{"role": "user", "content": "x"}], "response_format": {"type": "nonsense"}}
    said = post(world, "/v1/chat/completions", {"model": "tiny", **asked}, world.direct_url)
    answer = post(world, "/v1/chat/completions", {"model": world.model, **asked})
    equal((answer.status, answer.body), (said.status, said.body), "the error")
    equal(answer.status, 400, "status")


@suite.case
def a_fault_that_one_request_causes_leaves_the_next_alone(world):
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64,aGk="}}
    for _ in range(3):
        # llama.cpp says 500 to a picture for a text model.
        answer = post(world, "/v1/chat/completions",
                      {"model": world.model, "messages": [{"role": "user", "content": [picture]}]})
        check(answer.status in (400, 500), f"status {answer.status}: {answer.body!r}")
        check(b"image" in answer.body, f"the error does not say what is wrong: {answer.body!r}")
        equal(post(world, "/v1/chat/completions", {"model": world.model, **CHAT}).status, 200, "the next request")


@suite.case
def unknown_fields_and_odd_numbers_reach_the_server_as_they_were_written(world):
    world.tee.clear()
    body = ('{"model" : "%s", "messages":[{"role":"user","content":"h\\u00e9llo"}],"max_tokens":2,"temperature":0.00,'
            '"x_unknown":{"n":12345678901234567890123,"f":1.10,"e":1e2} }' % world.model).encode()
    answer = exchange(world.url, "POST", "/v1/chat/completions", body)
    equal(answer.status, 200, "status")
    sent, _ = world.tee.exchange()
    equal(sent.body, body.replace(world.model.encode(), b"tiny"), "the request upstream")


@suite.case
def the_clients_key_and_cookies_stay_here(world):
    world.tee.clear()
    headers = {"Authorization": "Bearer client-secret", "Cookie": "session=secret", "x-api-key": "client-secret"}
    exchange(world.url, "POST", "/v1/chat/completions", json.dumps({"model": world.model, **CHAT}).encode(), headers)
    sent, _ = world.tee.exchange()
    check(b"secret" not in sent.raw, f"a credential went upstream: {sent.raw[:400]!r}")


# === the same answers, by the SDK ===


@suite.case
def chat_gives_the_same_text_reason_and_usage(world):
    left, right = direct_and_through(world, lambda client, model: client.chat.completions.create(model=model, **CHAT, **SAME))
    check(right.choices[0].message.content, "the answer is empty")
    equal(right.choices[0].model_dump(), left.choices[0].model_dump(), "the choice")
    equal(right.usage.model_dump(), left.usage.model_dump(), "usage")
    equal(right.model, world.model, "model")
    check(re.fullmatch(r"chatcmpl-\w+@llama", right.id), f"id {right.id}")


@suite.case
def a_stream_gives_the_same_deltas_reason_and_usage(world):
    def ask(client, model):
        options = {"include_usage": True}
        return list(client.chat.completions.create(model=model, stream=True, stream_options=options, **CHAT, **SAME))

    left, right = direct_and_through(world, ask)
    equal([chunk.model_dump()["choices"] for chunk in right], [chunk.model_dump()["choices"] for chunk in left], "chunks")
    equal(right[-1].usage.model_dump(), left[-1].usage.model_dump(), "usage")
    check({chunk.model for chunk in right} == {world.model}, "the model's name is not the same in every chunk")
    check(len({chunk.id for chunk in right}) == 1, "the id is not the same in every chunk")
    check(text_of(right), "the answer is empty")


@suite.case
def streamed_and_whole_answers_agree(world):
    whole = world.client.chat.completions.create(model=world.model, **CHAT)
    chunks = list(world.client.chat.completions.create(model=world.model, stream=True, **CHAT))
    equal(text_of(chunks), whole.choices[0].message.content, "text")
    check(all(chunk.choices for chunk in chunks), "a chunk without choices came, and nobody asked for usage")
    equal([c.choices[0].finish_reason for c in chunks if c.choices[0].finish_reason], [whole.choices[0].finish_reason], "reasons")


@suite.case
def a_tool_is_called_whole_and_streamed(world):
    asked = {"messages": [{"role": "user", "content": "paris?"}], "tools": TOOLS, "temperature": 0, "seed": 7, "max_tokens": 200}
    left, right = direct_and_through(world, lambda client, model: client.chat.completions.create(model=model, **asked))
    call, expected = right.choices[0].message.tool_calls[0], left.choices[0].message.tool_calls[0]
    equal(call.function.model_dump(), expected.function.model_dump(), "the call")
    equal(call.function.name, "weather", "the function")
    json.loads(call.function.arguments)
    equal(right.choices[0].finish_reason, "tool_calls", "finish_reason")

    stream = world.client.chat.completions.create(model=world.model, stream=True, **asked)
    deltas = [chunk.choices[0].delta.tool_calls[0] for chunk in stream if chunk.choices and chunk.choices[0].delta.tool_calls]
    check(deltas[0].id and deltas[0].function.name == "weather", "the first delta lacks the call's id or name")
    equal("".join(delta.function.arguments or "" for delta in deltas), call.function.arguments, "streamed arguments")


@suite.case
def a_tools_result_can_be_sent_back(world):
    messages = [{"role": "user", "content": "paris?"},
                {"role": "assistant", "content": None, "tool_calls": [
                    {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city":"paris"}'}}]},
                {"role": "tool", "tool_call_id": "call_1", "content": "sunny"}]
    asked = {"messages": messages, "tools": TOOLS, "temperature": 0, "seed": 7, "max_tokens": 16}
    left, right = direct_and_through(world, lambda client, model: client.chat.completions.create(model=model, **asked))
    equal(right.choices[0].message.content, left.choices[0].message.content, "text")


@suite.case
def a_completion_gives_the_same_text_whole_and_streamed(world):
    asked = {"prompt": "the weather in", "temperature": 0, "seed": 7, "max_tokens": 9}
    left, right = direct_and_through(world, lambda client, model: client.completions.create(model=model, **asked, **SAME))
    equal(right.choices[0].model_dump(), left.choices[0].model_dump(), "the choice")
    equal(right.usage.model_dump(), left.usage.model_dump(), "usage")
    streamed = "".join(c.choices[0].text for c in world.client.completions.create(model=world.model, stream=True, **asked) if c.choices)
    equal(streamed, right.choices[0].text, "streamed text")


@suite.case
def embeddings_are_the_same_in_floats_and_in_base64(world):
    asked = ["the weather in paris", "a small cat"]
    left = world.direct_embed.embeddings.create(model="tiny-embed", input=asked, encoding_format="float")
    floats = world.client.embeddings.create(model="embed/tiny-embed", input=asked, encoding_format="float")
    default = world.client.embeddings.create(model="embed/tiny-embed", input=asked)
    equal([item.embedding for item in floats.data], [item.embedding for item in left.data], "floats")
    for item, other in zip(default.data, left.data):
        check(all(math.isclose(a, b, rel_tol=1e-6) for a, b in zip(item.embedding, other.embedding, strict=True)),
              "base64 is not the same vector")
    equal(floats.usage.model_dump(), left.usage.model_dump(), "usage")
    check(math.fsum(map(abs, left.data[0].embedding)) > 0, "the vector is empty")


@suite.case
def base64_embeddings_are_asked_for_and_given_as_such(world):
    body = json.dumps({"model": "embed/tiny-embed", "input": "a cat", "encoding_format": "base64"}).encode()
    given = json.loads(exchange(world.url, "POST", "/v1/embeddings", body).body)["data"][0]["embedding"]
    body = body.replace(b"embed/tiny-embed", b"tiny-embed")
    expected = json.loads(exchange(world.direct_embed_url, "POST", "/v1/embeddings", body).body)["data"][0]["embedding"]
    equal(given, expected, "base64")


@suite.case
def twenty_streams_at_once_give_the_same_as_one(world):
    async def ask(client, index):
        stream = await client.chat.completions.create(
            model=world.model, stream=True, seed=7, temperature=0, max_tokens=24,
            messages=[{"role": "user", "content": f"{'word ' * (index % 4)}tell me"}])
        return "".join([c.choices[0].delta.content or "" async for c in stream if c.choices])

    async def all_of_them():
        async with openai.AsyncOpenAI(base_url=f"{world.url}/v1", api_key="any", max_retries=0) as client:
            return await asyncio.gather(*(ask(client, index) for index in range(20)))

    async def one_by_one():
        async with openai.AsyncOpenAI(base_url=f"{world.url}/v1", api_key="any", max_retries=0) as client:
            return [await ask(client, index) for index in range(4)]

    alone = asyncio.run(one_by_one())
    equal(asyncio.run(all_of_them()), alone * 5, "the texts")


# === models, errors, cancel ===


@suite.case
def models_are_listed_with_their_prefix_and_found_one_by_one(world):
    listed = {model.id for model in world.client.models.list()}
    equal(listed, {"llama/tiny", "embed/tiny-embed"}, "ids")
    # The SDK sends the slash as %2F.
    equal(world.client.models.retrieve("llama/tiny").id, "llama/tiny", "id")
    raw = exchange(world.url, "GET", "/v1/models/llama/tiny")
    equal(json.loads(raw.body)["id"], "llama/tiny", "id by the raw path")


@suite.case
def an_unknown_model_is_not_found(world):
    for model in ("llama/absent", "absent/tiny", "nothing-like-it"):
        error = raises(openai.NotFoundError, lambda name=model: world.client.chat.completions.create(model=name, **CHAT))
        equal(error.code, "model_not_found", f"code for {model}")
    raises(openai.NotFoundError, lambda: world.client.models.retrieve("llama/absent"))


@suite.case
def a_bad_request_is_the_sdks_bad_request(world):
    error = raises(openai.BadRequestError, lambda: world.client.chat.completions.create(model=world.model, messages=3))
    check("messages" in error.message, error.message)
    # This one only the server can know to be wrong.
    error = raises(openai.BadRequestError, lambda: world.client.chat.completions.create(
        model=world.model, messages=[{"role": "user", "content": "x"}], extra_body={"grammar": "(("}))
    check("grammar" in error.message, error.message)


@suite.case
def a_closed_stream_frees_the_server(world):
    def busy():
        with urllib.request.urlopen(f"{world.direct_url}/slots") as answer:
            return any(slot["is_processing"] for slot in json.load(answer))

    for _ in range(3):
        stream = world.client.chat.completions.create(
            model=world.model, stream=True, max_tokens=100000, extra_body={"ignore_eos": True},
            messages=[{"role": "user", "content": "one two three"}])
        for index, _ in enumerate(stream):
            if index == 5:
                break
        check(busy(), "the server is done before the stream is closed")
        begin = time.monotonic()
        stream.close()
        eventually(lambda: not busy(), "the server stops when the client closes", 2)
        check(time.monotonic() - begin < 1, f"only after {time.monotonic() - begin:.2f} s")


@suite.case
def every_answer_has_a_request_id_of_its_own(world):
    ids = set()
    for _ in range(2):
        raw = world.client.chat.completions.with_raw_response.create(model=world.model, **CHAT)
        ids.add(raw.headers["x-request-id"])
        equal(raw.parse()._request_id, raw.headers["x-request-id"], "the SDK's id")
        equal(raw.headers["x-demuxai-provider"], "llama", "x-demuxai-provider")
    check(len(ids) == 2, "two answers with one id")


# === fill in the middle ===


@suite.case
def both_fim_routes_answer_in_their_own_shape_with_the_same_text(world):
    asked = {"prompt": "def add ( a , b ) :", "suffix": "\n", "temperature": 0, "seed": 7, "max_tokens": 8}
    left = world.direct.completions.create(model=world.direct_model, **asked)
    text = world.client.completions.create(model=world.model, **asked)
    equal(text.choices[0].model_dump(), left.choices[0].model_dump(), "/completions")
    chat = world.client.post("/fim/completions", body={"model": world.model, **asked}, cast_to=object)
    equal(chat["choices"][0]["message"]["content"], left.choices[0].text, "/fim/completions")
    equal((chat["object"], chat["model"]), ("chat.completion", world.model), "object and model")
    equal(chat["choices"][0]["finish_reason"], left.choices[0].finish_reason, "finish_reason")

    streamed = post(world, "/v1/fim/completions", {"model": world.model, "stream": True, **asked})
    events = [line[6:] for line in streamed.body.decode().split("\n\n") if line.startswith("data: ")]
    equal(events[-1], "[DONE]", "the last event")
    chunks = [json.loads(event) for event in events[:-1]]
    equal({chunk["object"] for chunk in chunks}, {"chat.completion.chunk"}, "object")
    equal("".join(c["choices"][0]["delta"].get("content") or "" for c in chunks if c["choices"]), left.choices[0].text,
          "the streamed text")
