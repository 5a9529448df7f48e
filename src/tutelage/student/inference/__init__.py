"""Using a trained student: label probabilities and generated rationales."""
