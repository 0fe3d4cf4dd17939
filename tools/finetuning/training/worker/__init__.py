"""Train in a child process (the only place that imports torch and TRL here)."""
