"""The recipe: one definition per setting, the rules of the design, and the packaged recipes."""
