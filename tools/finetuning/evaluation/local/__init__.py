"""Local models, run in a child process: ``python -m finetuning.evaluation.local``.

The only place of this package that imports torch; nothing in the library imports it.
"""
