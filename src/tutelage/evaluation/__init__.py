"""What predictions are worth: metrics of one arm, and honest comparisons of two.

    metrics       accuracy, per-label scores and their intervals
    compare       predictions of two arms -> a Comparison
    crossed       the primary test: over rows (or their groups) and seeds; equivalence
    statistics    Wilson, McNemar, Holm
    power         what an experiment can see, before it and after
    selection     how far the best of several lies above its worth
    bootstrap     rows and seeds, for quantities without a formula
    calibration   probabilities against what came true; risk against coverage
    slices        accuracy by label, tag, length
    overlap       a rationale compared with its reference: ROUGE-L, chrF
    leakage       a rationale's worth for its label, corrected for leakage
    baselines     the majority class
    unpaired      the difference of two quantities estimated apart
    ratio, numeric   what several of these need

Nothing here knows of models, files or recipes.
"""
