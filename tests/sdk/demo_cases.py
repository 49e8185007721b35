"""The SDK against `demuxai demo`: every kind of call on every provider type that offers it, found by the model list."""
import math

import openai

from harness import Suite, check, equal, raises

suite = Suite("against demuxai demo")

PROVIDERS = {"ollama", "ollama-cloud", "github", "mistral", "codestral", "fireworks"}
HELLO = [{"role": "user", "content": "hello there, how are you today?"}]
TOOLS = [{"type": "function", "function": {
    "name": "weather", "description": "the weather in a city",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}}}]


def models_that(world, capability):
    """For each provider its first model with the capability; a case without any would prove nothing."""
    found = {}
    for model in world.client.models.list():
        if model.model_extra["capabilities"].get(capability) is True:
            found.setdefault(model.id.split("/")[0], model.id)
    check(found, f"no model has {capability}")
    return found


@suite.case
def all_provider_types_list_models_that_can_be_looked_up(world):
    models = world.client.models.list().data
    equal({model.id.split("/")[0] for model in models}, PROVIDERS, "providers")
    for model in models:
        equal(world.client.models.retrieve(model.id).id, model.id, "id")
        check(model.object == "model" and isinstance(model.created, int) and model.owned_by, f"entry {model}")


@suite.case
def every_provider_type_chats_whole_and_streamed_alike(world):
    models = models_that(world, "completion_chat")
    equal(set(models), PROVIDERS, "providers that chat")
    for model in models.values():
        answer = world.client.chat.completions.create(model=model, messages=HELLO)
        # What the upstream calls its model may be shorter or dated; the prefix is ours.
        check(answer.model.startswith(model.split("/")[0] + "/"), f"{model} answers as {answer.model}")
        equal(answer.choices[0].finish_reason, "stop", f"finish_reason of {model}")
        check(answer.usage.total_tokens > 0, f"no usage from {model}")
        check(answer.id.endswith("@" + model.split("/")[0]), f"id {answer.id} of {model}")
        chunks = list(world.client.chat.completions.create(
            model=model, messages=HELLO, stream=True, stream_options={"include_usage": True}))
        text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
        equal(text, answer.choices[0].message.content, f"streamed text of {model}")
        check(any(chunk.usage and chunk.usage.total_tokens for chunk in chunks), f"no usage in the stream of {model}")
        # GitHub opens with a chunk about its prompt filter, which has neither.
        equal({chunk.model for chunk in chunks if chunk.id}, {answer.model}, f"the model's name in every chunk of {model}")
        equal(len({chunk.id for chunk in chunks if chunk.id}), 1, f"ids in the stream of {model}")


@suite.case
def nobody_gets_a_usage_chunk_unasked(world):
    for model in models_that(world, "completion_chat").values():
        for chunk in world.client.chat.completions.create(model=model, messages=HELLO, stream=True):
            # A chunk without choices is taken out only if it is the usage that we asked for: GitHub has another.
            check(chunk.choices or not chunk.usage, f"usage that nobody asked for from {model}")


@suite.case
def tools_are_called_whole_and_streamed(world):
    messages = [{"role": "user", "content": "what is the weather in Paris?"}]
    for model in models_that(world, "function_calling").values():
        whole = world.client.chat.completions.create(model=model, messages=messages, tools=TOOLS)
        call = whole.choices[0].message.tool_calls[0]
        equal((call.function.name, whole.choices[0].finish_reason), ("weather", "tool_calls"), model)
        chunks = world.client.chat.completions.create(model=model, messages=messages, tools=TOOLS, stream=True)
        deltas = [c.choices[0].delta.tool_calls[0] for c in chunks if c.choices and c.choices[0].delta.tool_calls]
        check(deltas and deltas[0].id, f"the first delta of {model} has no call id")
        equal("".join(delta.function.arguments or "" for delta in deltas), call.function.arguments, f"arguments of {model}")


@suite.case
def completions_complete_whole_and_streamed(world):
    for model in models_that(world, "completion").values():
        whole = world.client.completions.create(model=model, prompt="def add(a, b):", max_tokens=16)
        check(whole.choices[0].text, f"no text from {model}")
        equal(whole.object, "text_completion", f"object of {model}")
        chunks = world.client.completions.create(model=model, prompt="def add(a, b):", max_tokens=16, stream=True)
        equal("".join(c.choices[0].text for c in chunks if c.choices), whole.choices[0].text, f"streamed text of {model}")


@suite.case
def fim_answers_on_both_routes_in_the_shape_of_each(world):
    asked = {"prompt": "def add(a, b):", "suffix": "\nprint(add(1, 2))", "max_tokens": 16}
    models = models_that(world, "completion_fim")
    check({"mistral", "codestral"} <= set(models), f"FIM only on {set(models)}")
    for model in models.values():
        text = world.client.completions.create(model=model, **asked).choices[0].text
        chat = world.client.post("/fim/completions", body={"model": model, **asked}, cast_to=object)
        equal(chat["choices"][0]["message"]["content"], text, f"both routes of {model}")
        check(text, f"no text from {model}")


@suite.case
def a_model_without_fim_says_so(world):
    models = world.client.models.list().data
    without = next(m.id for m in models if m.model_extra["capabilities"].get("completion_fim") is False
                   and m.model_extra["capabilities"].get("completion_chat"))
    asked = {"model": without, "prompt": "a", "suffix": "b"}
    error = raises(openai.BadRequestError, lambda: world.client.post("/fim/completions", body=asked, cast_to=object))
    check(without.split("/", 1)[1] in error.message, f"the message does not name the model: {error.message}")


@suite.case
def embeddings_come_in_floats_and_in_base64(world):
    for model in models_that(world, "embedding").values():
        # The SDK asks for base64 unless told otherwise, and decodes it.
        encoded = world.client.embeddings.create(model=model, input=["a cat", "a dog"])
        floats = world.client.embeddings.create(model=model, input=["a cat", "a dog"], encoding_format="float")
        for left, right in zip(encoded.data, floats.data, strict=True):
            check(all(math.isclose(a, b, rel_tol=1e-6, abs_tol=1e-7)
                      for a, b in zip(left.embedding, right.embedding, strict=True)), f"vectors of {model} differ")
        check(len(floats.data[0].embedding) > 1, f"no vector from {model}")


@suite.case
def unknown_models_are_not_found_and_near_ones_are_named(world):
    known = models_that(world, "completion_chat")["mistral"]
    error = raises(openai.NotFoundError,
                   lambda: world.client.chat.completions.create(model=known[:-1] + "x", messages=HELLO))
    equal(error.code, "model_not_found", "code")
    check("mistral/" in error.message, f"no near id is named: {error.message}")


@suite.case
def a_stream_may_be_left_and_the_next_call_works(world):
    for model in models_that(world, "completion_chat").values():
        stream = world.client.chat.completions.create(model=model, messages=HELLO, stream=True)
        next(iter(stream))
        stream.close()
        world.client.chat.completions.create(model=model, messages=HELLO, max_tokens=1)
