"""What is done with rationales between the teacher and the student."""
