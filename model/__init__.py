"""Images -> embeddings, scores, trained classifiers, metrics, predictions."""
