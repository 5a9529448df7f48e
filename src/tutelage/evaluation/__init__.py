"""Scores predictions: metrics of one arm, and statistical comparisons of two.

    metrics       accuracy, per-label scores and their intervals
    compare       predictions of two arms -> a Comparison
    crossed       the primary test: over rows (or their groups) and seeds; equivalence
    balanced      balanced accuracy as a mean over rows
    variance      the parts of a mean's variance: rows, each arm's seeds, residue
    sequence      levels for looking at the results after each of several planned numbers of seeds
    share         the share of one arm's gain that another arm has as well
    statistics    Wilson, McNemar, Holm
    power         the difference that an experiment can detect, before it and after
    selection     how far the best of several models lies above their mean by chance
    bootstrap     intervals over rows and seeds, for quantities without a formula
    calibration   confidence compared with accuracy; the risk-coverage curve
    slices        accuracy by label, tag, length
    overlap       similarity of a rationale to a reference: ROUGE-L, chrF
    leakage       how well a rationale predicts its label, corrected for leakage
    text_classifier   the bag-of-words classifier that `leakage` uses
    majority      the most frequent label as a baseline
    unpaired      the difference of two quantities that were estimated separately
    ratio, numeric   helpers

Nothing here depends on models, files or recipes.
"""
