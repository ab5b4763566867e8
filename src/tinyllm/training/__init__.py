"""Pretraining and tuning: from rows to a checkpoint, with exact resume."""
