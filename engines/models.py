"""Model shapes as data, and the arithmetic of what one of them must read and compute.

Formulas: 2 FLOPs a weight and token; attention 4 × layers × heads × head dim × context a token; KV cache 2 × layers ×
KV heads × head dim × bytes a token. The input embedding is looked up, never multiplied, so it counts in neither.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ModelShape:
    """A decoder-only transformer with grouped-query attention and a gated MLP."""

    name: str
    layers: int
    hidden: int
    intermediate: int
    heads: int
    kv_heads: int
    head_dim: int
    vocab: int
    #: longest input + output in tokens
    context: int
    #: the attention projections of q, k and v carry a bias
    qkv_bias: bool
    #: text prompts get a BOS token that the engine counts
    bos: bool

    @property
    def embedding_parameters(self) -> int:
        """The input embedding; the LM head is as large (none of these models ties them)."""
        return self.vocab * self.hidden

    @property
    def parameters(self) -> int:
        """All weights, both embeddings included."""
        q = self.heads * self.head_dim
        kv = self.kv_heads * self.head_dim
        attention = self.hidden * (q + 2 * kv) + q * self.hidden + ((q + 2 * kv) if self.qkv_bias else 0)
        mlp = 3 * self.hidden * self.intermediate
        norms = 2 * self.hidden
        return self.layers * (attention + mlp + norms) + self.hidden + 2 * self.embedding_parameters

    @property
    def decode_parameters(self) -> int:
        """Weights a decode step reads and multiplies: all but the input embedding."""
        return self.parameters - self.embedding_parameters

    @property
    def prefill_parameters(self) -> int:
        """Weights a prompt token multiplies: neither embedding (the LM head runs once a prompt)."""
        return self.parameters - 2 * self.embedding_parameters

    def weight_bytes(self, bytes_per_weight: float = 2.0) -> float:
        """Bytes of weights one decode step reads."""
        return self.decode_parameters * bytes_per_weight

    def kv_bytes_per_token(self, bytes_per_value: float = 2.0) -> float:
        """Bytes of KV cache one token of context takes, and each decode step over it reads."""
        return 2 * self.layers * self.kv_heads * self.head_dim * bytes_per_value

    def attention_flops_per_token(self, context: float) -> float:
        """Attention FLOPs of one token that sees `context` tokens."""
        return 4.0 * self.layers * self.heads * self.head_dim * context

    def prefill_flops(self, tokens: int) -> float:
        """FLOPs of one prompt of `tokens`: every token's weights, half the full attention, the LM head once."""
        return (
            2.0 * self.prefill_parameters * tokens
            + self.attention_flops_per_token(tokens / 2) * tokens
            + 2.0 * self.embedding_parameters
        )

    def decode_flops(self, context: float) -> float:
        """FLOPs of one decoded token over `context` tokens."""
        return 2.0 * self.decode_parameters + self.attention_flops_per_token(context)


MODELS = {
    m.name: m
    for m in (
        ModelShape("Qwen/Qwen2.5-7B-Instruct", 28, 3584, 18944, 28, 4, 128, 152064, 32768, True, False),
        ModelShape("mistralai/Mistral-7B-Instruct-v0.2", 32, 4096, 14336, 32, 8, 128, 32000, 32768, False, True),
        ModelShape("mistralai/Mistral-7B-Instruct-v0.3", 32, 4096, 14336, 32, 8, 128, 32768, 32768, False, True),
    )
}


def find_model(name: str | None) -> ModelShape | None:
    """The shape of the model of that name, with or without its organisation; `None` where it is not known."""
    if name is None:
        return None
    wanted = name.rsplit("/", 1)[-1].lower()
    return next((m for key, m in MODELS.items() if key.rsplit("/", 1)[-1].lower() == wanted), None)
