"""The engine with no GPU: a real HTTP server in its own process that knows the truth of what it sent.

start ─▶ __main__ ─▶ server          the process: sockets, faults, generations; `process` starts it, `lifetime` ends it
                       ├─ listener  connection  http  loop     HTTP/1.1 on epoll, kernel arrival stamps
                       ├─ generation  faults  truth            one answer, what goes wrong with it, what really happened
                       ├─ vllm_*  tgi_*  plain  exposition     two wires: routes, refusals, answers, /metrics
                       ├─ tokenizer  outputs  prefix_cache     what the simulated model reads and says
                       └─ step_clock ─▶ scheduler ─▶ step_time real time ─▶ continuous batching ─▶ roofline of a step
replay                                                         a server with no model: a given timeline of tokens
fit ─▶ profiles, published                                     three parameters an engine, and what they predict
"""
