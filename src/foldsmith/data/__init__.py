"""Images and samples: decoding, pixel cache, folds, duplicates, training batches."""
