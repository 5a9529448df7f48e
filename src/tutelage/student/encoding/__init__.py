"""From text to token ids: targets, truncation, batches."""
