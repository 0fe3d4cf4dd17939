"""Makes the demo's assets again: ``python -m demo_make --output FOLDER``.

The shipped files are exactly what this package writes with its default seeds: a word-level
tokenizer and a tiny Llama (``base/``), the raw order file (``orders.csv``), rows that keep
general ability (``general_replay.jsonl``) and rows that measure it (``general_eval.jsonl``).
"""
