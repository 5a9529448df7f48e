"""What an experiment found, as one documented object: `Results`, which results.json serialises.

document         Results and what the experiment was made of: task, data, teacher, student
arms             one arm's training and scores; the comparisons between arms
baseline_scores  scores that take no student: the majority class, the teacher
analyses         diagnostics, selection, explanations, learning curve
measurements     the statistics in all of them, as `tutelage.evaluation` computes them
decode           load_results: a file -> Results, or one line that says why not

Accuracies and differences are fractions (0.01 is one percentage point), times are seconds, costs
are US dollars. A field that may be None says when.
"""

from tutelage.core.results.analyses import (
    ArmDiagnostics,
    ArmExplanations,
    ArmSelection,
    BestOf,
    BestOnTest,
    ChoosingOnTest,
    ClaimOnTest,
    CurveAnnotation,
    CurveArm,
    CurveDifference,
    CurvePoint,
    LabelPredictability,
    MeanWithInterval,
    Selection,
    SliceDifference,
    SliceResult,
)
from tutelage.core.results.arms import (
    ArmResult,
    ComparisonResult,
    Configuration,
    ContextComparison,
    DevEvaluation,
    ShareOfGain,
    TestEvaluation,
    TrainingSummary,
    Trial,
)
from tutelage.core.results.baseline_scores import (
    BagOfWordsBaseline,
    Baselines,
    MajorityBaseline,
    TeacherBaseline,
    TeacherLabelsBaseline,
    TeacherLabelScore,
    TokenCounts,
)
from tutelage.core.results.decode import load_results
from tutelage.core.results.document import (
    FORMAT,
    ArmAnnotation,
    DataSummary,
    DepartureResult,
    DroppedRows,
    Duplicates,
    RecommendedModel,
    Results,
    SearchSummary,
    SharedContexts,
    SplitSummary,
    StudentSummary,
    TaskSummary,
    TeacherSummary,
)
from tutelage.core.results.measurements import (
    Calibration,
    Comparison,
    Evaluation,
    Interval,
    LabelScores,
    ReliabilityBin,
    RiskAtCoverage,
    RiskCoverage,
    SliceAccuracy,
)

__all__ = [
    "FORMAT",
    "ArmAnnotation",
    "ArmDiagnostics",
    "ArmExplanations",
    "ArmResult",
    "ArmSelection",
    "BagOfWordsBaseline",
    "Baselines",
    "BestOf",
    "BestOnTest",
    "Calibration",
    "ChoosingOnTest",
    "ClaimOnTest",
    "Comparison",
    "ComparisonResult",
    "Configuration",
    "ContextComparison",
    "CurveAnnotation",
    "CurveArm",
    "CurveDifference",
    "CurvePoint",
    "DataSummary",
    "DepartureResult",
    "DevEvaluation",
    "DroppedRows",
    "Duplicates",
    "Evaluation",
    "Interval",
    "LabelPredictability",
    "LabelScores",
    "MajorityBaseline",
    "MeanWithInterval",
    "RecommendedModel",
    "ReliabilityBin",
    "Results",
    "RiskAtCoverage",
    "RiskCoverage",
    "SearchSummary",
    "Selection",
    "ShareOfGain",
    "SharedContexts",
    "SliceAccuracy",
    "SliceDifference",
    "SliceResult",
    "SplitSummary",
    "StudentSummary",
    "TaskSummary",
    "TeacherBaseline",
    "TeacherLabelScore",
    "TeacherLabelsBaseline",
    "TeacherSummary",
    "TestEvaluation",
    "TokenCounts",
    "TrainingSummary",
    "Trial",
    "load_results",
]
