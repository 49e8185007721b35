#!/usr/bin/env python3
"""Serves a GGUF with llama.cpp's own HTTP server (PyPI: xllamacpp) on loopback, until SIGINT or SIGTERM.

A chat server and an embedding server are two processes: llama.cpp pools the context's output in one and not in the
other. Port 0 takes a free port; the address is printed once the server listens.

    python serve.py MODEL.gguf PORT [--embed] [--alias NAME] [--key KEY] [--ping SECONDS]
"""
import argparse
import signal
import socket

import xllamacpp


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def parameters(options):
    p = xllamacpp.CommonParams()
    p.model.path = options.model
    # What these two fields hold changed between versions of the wheel.
    p.hostnames = ["127.0.0.1"] if isinstance(p.hostnames, list) else p.hostnames
    aliases = p.model_alias
    p.model_alias = type(aliases)([options.alias]) if isinstance(aliases, (set, list)) else options.alias
    p.port = options.port or free_port()
    p.n_ctx = 4096 if options.embed else 131072
    p.n_parallel = 4
    p.kv_unified = True
    p.n_gpu_layers = 0
    # One thread each: the answers are the same from run to run, and the machine stays usable.
    p.cpuparams.n_threads = 1
    p.cpuparams_batch.n_threads = 1
    p.n_threads_http = 8
    p.endpoint_metrics = True
    p.endpoint_slots = True
    p.use_jinja = True
    p.fit_params = False
    p.warmup = False
    p.api_keys = options.key
    if options.ping is not None:
        p.sse_ping_interval = options.ping
    if options.embed:
        p.embedding = True
        p.pooling_type = xllamacpp.llama_pooling_type.LLAMA_POOLING_TYPE_MEAN
        p.n_batch = p.n_ubatch = 4096
        p.n_parallel = 1
    return p


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    parser.add_argument("port", type=int)
    parser.add_argument("--embed", action="store_true")
    parser.add_argument("--alias", default="tiny")
    parser.add_argument("--key", action="append", default=[])
    parser.add_argument("--ping", type=int, default=None)
    stop = {signal.SIGINT, signal.SIGTERM}
    signal.pthread_sigmask(signal.SIG_BLOCK, stop)
    server = xllamacpp.Server(parameters(parser.parse_args()))
    print("listening", server.listening_address, flush=True)
    signal.sigwait(stop)


if __name__ == "__main__":
    main()
