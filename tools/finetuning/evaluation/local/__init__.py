"""Evaluate local models in a child process (the only place that imports torch here)."""
