"""What a trained student does: score labels, generate rationales."""
