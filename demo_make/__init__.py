"""Makes the demo's assets again: ``python -m demo_make --output FOLDER``.

The shipped files are exactly what this package writes with its default seeds: a word-level
tokenizer and a tiny Llama (``base/``), the raw order file (``orders.csv``), general rows
(``general.jsonl``), of which ``part`` says whether they keep that ability or measure it.
"""
