"""Chats of mixed length and a tiny random base that reads them, both from a seed.

Used by ``training_speed.py``. The words are made up (``w0`` … ``w16376``); each chat keeps to one
of forty topics of fifty words, so that there is something to learn. Lengths follow a log-normal
distribution (mean about 142 tokens, median about 115, longest about 560), and answers hold about
54 % of the tokens. The base is a Qwen3-type model with random weights: hidden size 256, 6 layers,
ffn 768, a tied vocabulary of 16,384, 8.9 million parameters.
"""

from __future__ import annotations

import json
import math
import random
from pathlib import Path
from typing import Any

VOCABULARY = 16_384
SPECIAL = ("<|pad|>", "<|im_start|>", "<|im_end|>", "<unk>", "system", "user", "assistant")
TOPICS, TOPIC_WORDS = 40, 50
TEMPLATE = (
    "{% for m in messages %}<|im_start|> {{ m.role }} "
    "{% if m.role == 'assistant' %}{% generation %}{{ m.content }} <|im_end|>{% endgeneration %}"
    "{% else %}{{ m.content }} <|im_end|>{% endif %} {% endfor %}"
    "{% if add_generation_prompt %}<|im_start|> assistant {% endif %}"
)


def _words(source: random.Random, topic: int, count: int) -> str:
    """Return words of one topic, the first of which are the commonest."""
    found = (min(TOPIC_WORDS - 1, int(source.expovariate(0.15))) for _ in range(count))
    return " ".join(f"w{topic * TOPIC_WORDS + word}" for word in found)


def chats(rows: int, seed: int) -> list[dict[str, Any]]:
    """Return chats of one question and one answer."""
    source = random.Random(seed)
    made: list[dict[str, Any]] = []
    for _ in range(rows):
        total = min(560, max(16, int(source.lognormvariate(math.log(110), 0.75))))
        share = min(0.9, max(0.1, source.gauss(0.54, 0.15)))
        answer = max(4, int(total * share))
        topic = source.randrange(TOPICS)
        question = _words(source, topic, max(2, total - answer - 6))
        turns = [("user", question), ("assistant", _words(source, topic, answer))]
        made.append({"messages": [{"role": role, "content": text} for role, text in turns]})
    return made


def write_chats(path: Path, rows: int, seed: int) -> None:
    """Write chats as JSONL."""
    with path.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(row) + "\n" for row in chats(rows, seed))


def write_base(folder: Path, seed: int, *, hidden: int = 256, layers: int = 6) -> int:
    """Write the base with its tokenizer and return the number of its parameters."""
    import tokenizers
    import torch as torch_library
    import transformers

    torch: Any = torch_library
    build: Any = tokenizers
    library: Any = transformers
    names = [*SPECIAL, *(f"w{number}" for number in range(VOCABULARY - len(SPECIAL)))]
    words = build.Tokenizer(
        build.models.WordLevel({name: i for i, name in enumerate(names)}, unk_token="<unk>")
    )
    words.pre_tokenizer = build.pre_tokenizers.WhitespaceSplit()
    tokenizer = library.PreTrainedTokenizerFast(
        tokenizer_object=words, pad_token="<|pad|>", eos_token="<|im_end|>", unk_token="<unk>"
    )
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(folder)
    torch.manual_seed(seed)
    config = library.Qwen3Config(
        vocab_size=VOCABULARY,
        hidden_size=hidden,
        intermediate_size=3 * hidden,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=hidden // 4,
        max_position_embeddings=2048,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=2,
        pad_token_id=0,
    )
    model = library.Qwen3ForCausalLM(config)
    model.save_pretrained(folder)
    return sum(weight.numel() for weight in model.parameters())
