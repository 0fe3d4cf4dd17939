"""Measure, price, train, evaluate and record: the library behind the fine-tuning skill.

One package per topic on a shared floor; see ``README.md`` for the annotated tree.
"""
