#!/usr/bin/env python3
"""Writes a tiny GGUF language model (about 5 MB) that llama.cpp can serve, for tests with a real inference server.

It is a real llama-architecture model, but its weights are computed, not trained: token embeddings are one-hot, the
one layer adds nothing to the residual stream, and the output matrix holds the log-probabilities of a bigram model
counted from the text below. So it answers in readable words, ends by itself, obeys grammars (JSON schema, tool
calls), and its pooled embeddings are bags of words. Nothing is downloaded and nothing in it is anybody's but ours.

    python make_tiny_gguf.py OUT.gguf
"""
import math
import sys

import gguf
import numpy as np

TEXT = """
the local daemon sends each request to one provider and the provider sends the answer back .
a model has a name and a provider has a name and the router joins the two with a slash .
the answer is a stream of small chunks and the last chunk says why the answer ended .
def add ( a , b ) : return a + b
def first ( items ) : return items [ 0 ]
for item in items : print ( item )
the weather in paris is sunny and the weather in london is cloudy .
a small cat sat on the mat and a large dog ran to the river .
hello , i am a small model and i can say hello to the world .
one two three four five six seven eight nine ten .
yes , the tests pass and the server is ready .
no , the key is wrong and the server says so .
"""

SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|fim_prefix|>",
           "<|fim_suffix|>", "<|fim_middle|>", "<|fim_pad|>", "<|repo_name|>", "<|file_sep|>"]

CHAT_TEMPLATE = r"""{%- if tools %}
{{- '<|im_start|>system\n' }}
{%- if messages[0].role == 'system' %}{{- messages[0].content + '\n\n' }}{%- endif %}
{{- "# Tools\n\nYou may call one or more functions.\n<tools>" }}
{%- for tool in tools %}{{- "\n" }}{{- tool | tojson }}{%- endfor %}
{{- "\n</tools>\n\nFor each function call, return a json object within <tool_call></tool_call> tags:\n<tool_call>\n{\"name\": <function-name>, \"arguments\": <args-json-object>}\n</tool_call><|im_end|>\n" }}
{%- else %}
{%- if messages[0].role == 'system' %}{{- '<|im_start|>system\n' + messages[0].content + '<|im_end|>\n' }}{%- endif %}
{%- endif %}
{%- for message in messages %}
{%- if message.role == 'user' or (message.role == 'system' and not loop.first) %}
{{- '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' }}
{%- elif message.role == 'assistant' %}
{{- '<|im_start|>assistant' }}
{%- if message.content %}{{- '\n' + message.content }}{%- endif %}
{%- for tool_call in (message.tool_calls or []) %}
{%- if tool_call.function %}{%- set tool_call = tool_call.function %}{%- endif %}
{{- '\n<tool_call>\n{"name": "' + tool_call.name + '", "arguments": ' }}{{- tool_call.arguments | tojson }}{{- '}\n</tool_call>' }}
{%- endfor %}
{{- '<|im_end|>\n' }}
{%- elif message.role == 'tool' %}
{{- '<|im_start|>user\n<tool_response>\n' + message.content + '\n</tool_response><|im_end|>\n' }}
{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}
{%- if tools and messages[-1].role == 'user' %}{{- '\n' }}{%- endif %}
{%- endif %}
"""


def byte_chars():
    """The printable stand-in each byte has in a byte-level BPE vocabulary."""
    keep = list(range(33, 127)) + list(range(161, 173)) + list(range(174, 256))
    table, extra = {}, 0
    for byte in range(256):
        if byte in keep:
            table[byte] = chr(byte)
        else:
            table[byte] = chr(256 + extra)
            extra += 1
    return table


def main(out, ctx=131072):
    chars = byte_chars()
    space = chars[32]
    vocab = [chars[b] for b in range(256)]
    index = {t: i for i, t in enumerate(vocab)}
    merges, seen = [], set()
    words = [w for line in TEXT.strip().splitlines() for w in line.split()]
    for word in sorted({w for w in words if w.isalpha()}):
        for spelled in (word, space + word):
            left = spelled[0]
            for ch in spelled[1:]:
                if (left, ch) not in seen:
                    seen.add((left, ch))
                    merges.append(f"{left} {ch}")
                left += ch
                if left not in index:
                    index[left] = len(vocab)
                    vocab.append(left)
    # The template ends a prompt that offers tools with an empty line, and after an
    # empty line this model says <tool_call>: so it calls a tool whenever it may.
    nl = chars[10]
    merges.append(f"{nl} {nl}")
    index[nl + nl] = len(vocab)
    vocab.append(nl + nl)
    plain = len(vocab)
    index["<tool_call>"] = len(vocab)
    vocab.append("<tool_call>")
    for tok in SPECIAL:
        index[tok] = len(vocab)
        vocab.append(tok)
    n = len(vocab)
    end = index["<|im_end|>"]

    # Bigram counts, a little of everything printable so that grammars never starve.
    prob = np.full((n, n), 1e-12)
    base = np.full(n, 1e-12)
    for b in range(32, 127):
        base[b] = 2e-5
    base[index[chars[10]]] = 2e-5
    for b in b'}]':
        base[b] = 2e-2            # objects and strings end soon under a grammar
    base[ord('"')] = 0.15
    prob += base[None, :]
    starts = set()
    for line in TEXT.strip().splitlines():
        toks = []
        for k, w in enumerate(line.split()):
            bare = w if w in index else w[0]
            toks.append(index.get((space + w) if k and (space + w) in index else bare))
        starts.add(toks[0])
        for a, b in zip(toks, toks[1:]):
            prob[a, b] += 1.0
        prob[toks[-1], end] += 2.0
    for s in starts:              # after a newline, or after anything unknown, a line starts
        prob[index[chars[10]], s] += 1.0
    known = {a for a in range(n) if prob[a].max() > 0.5}
    for a in range(n):
        if a not in known:
            for s in starts:
                prob[a, s] += 0.05
    # the same word with and without its leading space goes on alike
    for i, t in enumerate(vocab[:plain]):
        if t.startswith(space) and t[1:] in index and len(t) > 1:
            both = prob[i] + prob[index[t[1:]]]
            prob[i] = prob[index[t[1:]]] = both
    for t in SPECIAL:
        if index[t] != end:
            prob[:, index[t]] = 1e-12
    prob[:, end] += 4e-2
    # after a newline never an empty answer, yet an end, not another call, after a tool call
    prob[index[nl], end] = 1e-6
    prob[index[nl], index["<"]] = 1e-9
    prob[index[nl + nl]] = 1e-12
    prob[index[nl + nl], index["<tool_call>"]] = 1.0
    prob[index["<tool_call>"]] = 1e-12
    prob[index["<tool_call>"], index[nl]] = 1.0
    prob /= prob.sum(axis=1, keepdims=True)
    logit = np.log(prob)

    head_dim = 32                 # attention adds nothing, so it may as well be cheap
    dim = 256 * math.ceil(n / 256)
    # one-hot embedding, RMS norm scales it to sqrt(dim): undo that in the norm weight
    embd = np.zeros((n, dim), np.float32)
    embd[np.arange(n), np.arange(n)] = 1.0
    outw = np.zeros((n, dim), np.float32)
    outw[:, :n] = logit.T
    norm_out = np.full(dim, 1.0 / math.sqrt(dim), np.float32)

    w = gguf.GGUFWriter(out, "llama")
    w.add_name("tiny-bigram")
    w.add_description("computed bigram model for tests")
    w.add_license("CC0-1.0")
    w.add_context_length(ctx)
    w.add_embedding_length(dim)
    w.add_block_count(1)
    w.add_feed_forward_length(64)
    w.add_head_count(1)
    w.add_head_count_kv(1)
    w.add_key_length(head_dim)
    w.add_value_length(head_dim)
    w.add_layer_norm_rms_eps(1e-12)
    w.add_rope_dimension_count(head_dim)
    w.add_vocab_size(n)
    w.add_file_type(gguf.LlamaFileType.ALL_F32)
    w.add_tokenizer_model("gpt2")
    w.add_tokenizer_pre("gpt-2")
    w.add_token_list([t.encode("utf-8") for t in vocab])
    kind = [gguf.TokenType.NORMAL] * plain + [gguf.TokenType.USER_DEFINED] + [gguf.TokenType.CONTROL] * len(SPECIAL)
    w.add_token_types([int(k) for k in kind])
    w.add_token_merges(merges)
    w.add_bos_token_id(index["<|endoftext|>"])
    w.add_eos_token_id(end)
    w.add_pad_token_id(index["<|endoftext|>"])
    w.add_add_bos_token(False)
    w.add_uint32("tokenizer.ggml.fim_pre_token_id", index["<|fim_prefix|>"])
    w.add_uint32("tokenizer.ggml.fim_suf_token_id", index["<|fim_suffix|>"])
    w.add_uint32("tokenizer.ggml.fim_mid_token_id", index["<|fim_middle|>"])
    w.add_uint32("tokenizer.ggml.fim_rep_token_id", index["<|repo_name|>"])
    w.add_uint32("tokenizer.ggml.fim_sep_token_id", index["<|file_sep|>"])
    w.add_chat_template(CHAT_TEMPLATE)

    zero = lambda *shape: np.zeros(shape, np.float32)
    ones = np.ones(dim, np.float32)
    w.add_tensor("token_embd.weight", embd)
    w.add_tensor("output_norm.weight", norm_out)
    w.add_tensor("output.weight", outw)
    p = "blk.0."
    w.add_tensor(p + "attn_norm.weight", ones)
    w.add_tensor(p + "attn_q.weight", zero(head_dim, dim).astype(np.float16))
    w.add_tensor(p + "attn_k.weight", zero(head_dim, dim).astype(np.float16))
    w.add_tensor(p + "attn_v.weight", zero(head_dim, dim).astype(np.float16))
    w.add_tensor(p + "attn_output.weight", zero(dim, head_dim).astype(np.float16))
    w.add_tensor(p + "ffn_norm.weight", ones)
    w.add_tensor(p + "ffn_gate.weight", zero(64, dim))
    w.add_tensor(p + "ffn_up.weight", zero(64, dim))
    w.add_tensor(p + "ffn_down.weight", zero(dim, 64))
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()
    print(f"{out}: {n} tokens, {dim} wide")


if __name__ == "__main__":
    main(sys.argv[1])
