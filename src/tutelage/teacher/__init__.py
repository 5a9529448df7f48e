"""The teacher: whoever is asked, how requests are made and paid for, and where answers are kept."""
