"""The steps of ``prepare_data``: gather, clean, split, write, report."""
