"""Train in a child process (the only place that imports torch and TRL here).

``python -m finetuning.training.worker RUN_ID``; nothing else imports this package.
"""
