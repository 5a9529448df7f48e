"""From text to token ids and tensors: targets, truncation, tokenisation, batches."""
