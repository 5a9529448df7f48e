"""What predictions are worth: metrics of one arm, and honest comparisons of two.

    metrics      accuracy, per-label scores and their intervals
    statistics   the formulas behind intervals and tests, as pure functions
    compare      predictions of two arms -> a Comparison

Nothing here knows of models, files or recipes.
"""
