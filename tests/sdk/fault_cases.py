"""Everything that goes wrong reaches a program as the SDK's own exception, with the words to act on."""
import openai

from harness import Suite, check, equal, raises

suite = Suite("through the daemon to an upstream that fails")

HELLO = [{"role": "user", "content": "hello"}]


def ask(world, model, **more):
    return world.client.chat.completions.create(model=f"bad/{model}", messages=HELLO, **more)


@suite.case
def the_upstream_works_at_all(world):
    equal(ask(world, "fine").choices[0].message.content, "fine", "text")


@suite.case
def a_panel_answers_whole_and_streamed_as_one_model(world):
    def ask_panel(**more):
        return world.client.chat.completions.create(model="panel", messages=HELLO, **more)

    answer = ask_panel()
    equal((answer.model, answer.choices[0].message.content), ("panel", "fine"), "answer")
    members = answer.choices[0].message.model_extra["reasoning_content"]
    check(members.count("**bad/fine**\n\nfine") == 2 and "half an answer[truncated]" in members, members)
    items = answer.model_extra["x_demuxai"]["consensus"]
    equal([item["state"] for item in items], ["answered", "answered", "failed", "answered"], "itemised")
    equal(answer.usage.total_tokens, 6, "the sum")
    chunks = list(ask_panel(stream=True, stream_options={"include_usage": True}))
    deltas = [chunk.choices[0].delta for chunk in chunks if chunk.choices]
    equal("".join(delta.content or "" for delta in deltas), "fine", "content")
    shown = "".join((delta.model_extra or {}).get("reasoning_content") or "" for delta in deltas)
    check(shown.count("**bad/fine**\n\nfine") == 2, shown)
    equal({(chunk.id, chunk.model) for chunk in chunks}, {(chunks[0].id, "panel")}, "names of all chunks")
    equal(chunks[-1].usage.total_tokens, 6, "the sum in the stream")


@suite.case
def a_spent_quota_is_a_rate_limit_error_that_says_when(world):
    error = raises(openai.RateLimitError, lambda: ask(world, "quota"))
    equal(error.response.headers["retry-after"], "7", "retry-after")
    check("slow down" in error.message, error.message)


@suite.case
def our_own_wrong_key_is_not_the_clients_fault(world):
    error = raises(openai.InternalServerError, lambda: ask(world, "wrong-key"))
    equal((error.status_code, error.code), (502, "upstream_authentication"), "status and code")


@suite.case
def a_rejected_field_is_an_unprocessable_entity_error(world):
    raises(openai.UnprocessableEntityError, lambda: ask(world, "teapot"))


@suite.case
def a_page_instead_of_json_is_wrapped(world):
    error = raises(openai.InternalServerError, lambda: ask(world, "not-json"))
    check(isinstance(error.body, dict) and error.body.get("message"), f"no error object: {error.body!r}")


@suite.case
def an_error_in_mid_stream_is_an_api_error_after_the_text(world):
    for model in ("error-in-stream", "truncated"):
        text = []

        def read(name=model, into=text):
            for part in ask(world, name, stream=True):
                into.append(part.choices[0].delta.content or "")

        error = raises(openai.APIError, read)
        equal("".join(text), "half an answer", f"what came before the error ({model})")
        check(error.message, "an error without a message")


@suite.case
def an_error_inside_a_200_is_an_error(world):
    raises(openai.InternalServerError, lambda: ask(world, "error-in-200", stream=True))


@suite.case
def a_silent_upstream_is_given_up_as_configured(world):
    def read():
        for _ in ask(world, "silent", stream=True):
            pass

    raises(openai.APIError, read)
    error = raises(openai.InternalServerError, lambda: ask(world, "slow", stream=True))
    equal(error.status_code, 504, "status")


@suite.case
def too_many_at_once_is_a_rate_limit_error(world):
    stream = world.client.chat.completions.create(model="narrow/silent", messages=HELLO, stream=True)
    next(iter(stream))
    error = raises(openai.RateLimitError,
                   lambda: world.client.chat.completions.create(model="narrow/fine", messages=HELLO))
    check(error.response.headers.get("x-request-id"), "no x-request-id")
    stream.close()


@suite.case
def a_wrong_key_is_an_authentication_error(world):
    stranger = world.keyed.with_options(api_key="wrong")
    raises(openai.AuthenticationError, lambda: stranger.chat.completions.create(model="bad/fine", messages=HELLO))
    raises(openai.AuthenticationError, lambda: stranger.models.list().data)
    known = world.keyed.chat.completions.create(model="bad/fine", messages=HELLO)
    equal(known.choices[0].message.content, "fine", "text")


@suite.case
def a_model_that_the_key_may_not_use_is_refused(world):
    before = len(world.faulty.received)
    raises(openai.PermissionDeniedError,
           lambda: world.keyed.chat.completions.create(model="bad/quota", messages=HELLO))
    equal(len(world.faulty.received), before, "requests upstream")


@suite.case
def a_dead_upstream_is_an_internal_server_error(world):
    error = raises(openai.InternalServerError,
                   lambda: world.client.chat.completions.create(model="dead/anything", messages=HELLO))
    check(error.status_code in (502, 503), f"status {error.status_code}")
