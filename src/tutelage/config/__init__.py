"""The recipe: one definition per setting, the protocol's rules, and the packaged recipes."""
